"""Data recipes at scale: rows per second and peak memory of reading, hashing and filtering, with one and two workers.

    python -m benchmarks.data [--rows 100000] [--images 20000] [--repeats 1] [--recipes read filter hash]

Rows with questions of random words, each about one of `--images` small photo-like images, are processed by three recipes:
`read` (reading, checking, writing), `hash` (the same with `dedup`: perceptual hashes of images, MinHash of texts), `filter`
(the same with `text_filter`). Each recipe is run by its command line in a separate process; its time is that of the whole
command, its memory the peak of the sum of PSS (private memory plus a proportional share of shared memory) over its
processes. Memory is compared with that for a tenth of the rows. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

RECIPES = {"read": "[]", "filter": "[text_filter]", "hash": "[dedup]"}
TASKS = 8
SAMPLE_SECONDS = 0.05


def make_set(folder: Path, rows: int, images: int) -> Path:
    """Rows as JSONL, and images of smooth random colours."""
    rng, words = np.random.default_rng(0), random.Random(0)
    (folder / "images").mkdir(parents=True)
    for i in range(images):
        small = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((112, 112), Image.Resampling.BICUBIC).save(folder / f"images/{i}.jpg")
    vocabulary = ["".join(words.choices("aeioubdfgklmnprst", k=words.randint(2, 9))) for _ in range(5000)]
    path = folder / "rows.jsonl"
    with path.open("w") as file:
        for i in range(rows):
            text = " ".join(words.choices(vocabulary, k=words.randint(8, 30))) + "?"
            row = {
                "id": f"r{i}",
                "task": "math",
                "images": [f"images/{i % images}.jpg"],
                "answer": {"value": str(i)},
            }
            row["prompt"] = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
            file.write(json.dumps(row) + "\n")
    return path


def run(source: Path, rows: int, operations: str, workers: int, folder: Path) -> tuple[float, int]:
    """(seconds, peak bytes) of one recipe."""
    folder.mkdir()
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"name: benchmark\ntasks: {TASKS}\nworkers: {workers}\noperations: {operations}\n"
        f"sources: [{{name: made, format: rows, path: {source}, limit: {rows}}}]\noutput_dir: {folder / 'out'}\n"
    )
    began = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", "data_recipes", "run", str(recipe)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peak, ended = [0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(process, peak, ended))
    sampler.start()
    _, errors = process.communicate()
    ended.set()
    sampler.join()
    if process.returncode:
        raise RuntimeError(errors.decode()[-2000:])
    return time.perf_counter() - began, peak[0]


def _sample(process: psutil.Process, peak: list[int], ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_SECONDS):
        total = 0
        try:
            for one in [process, *process.children(recursive=True)]:
                try:
                    total += one.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    pass
        except psutil.NoSuchProcess:
            return
        peak[0] = max(peak[0], total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    arguments = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_set(folder / "set", arguments.rows, arguments.images)
        few = arguments.rows // 10
        print(f"{'recipe':8} {'rows':>8} {'workers':>7} {'seconds':>8} {'rows/s':>8} {'peak MiB':>9}")
        for kind in arguments.recipes:
            for rows, workers in ((few, 1), (arguments.rows, 1), (few, 2), (arguments.rows, 2)):
                runs = [
                    run(source, rows, RECIPES[kind], workers, folder / f"{kind}-{rows}-{workers}-{i}")
                    for i in range(arguments.repeats)
                ]
                seconds = statistics.median(s for s, _ in runs)
                peak = statistics.median(p for _, p in runs) / 2**20
                print(
                    f"{kind:8} {rows:8,} {workers:7} {seconds:8.1f} {rows / seconds:8.0f} {peak:9.0f}",
                    flush=True,
                )
                key = f"{kind}_{workers}_workers"
                if rows == arguments.rows:
                    few_peak = results[key]["peak_mib"]
                    results[key] = {
                        "rows_per_s": round(rows / seconds, 1),
                        "peak_mib": round(peak, 1),
                        "peak_ratio": round(peak / few_peak, 3),
                    }
                else:
                    results[key] = {"peak_mib": peak}
    print(json.dumps(results))


if __name__ == "__main__":
    main()

"""Time per row of near-duplicate detection as the number of rows grows: must not be quadratic.

    python -m benchmarks.data_dedup_scale [--images 10000 100000] [--questions 20000] [--workers 2]

Images: rows with one dissimilar image each (random low frequencies, hashed from 128 pixels a side), through `dedup` in mode
`media`; signatures are computed first and timed separately. Texts: questions from one template, none of which is a duplicate.
Look-alikes: 200 tables that differ only in their numbers. Times are processor seconds of this process and its workers. The last
line is JSON; `image_ratio` is the time per row at the largest number of images over that at the smallest, including signatures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_recipes.operations.dedup import DedupOptions, decide, sign
from data_recipes.records import Context, Signature


def cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def row(name: str, images: list[str], question: str, answer: Any = None) -> dict[str, Any]:
    content = [{"type": "image"}] * len(images) + [{"type": "text", "text": question}]
    prompt = [{"role": "user", "content": content}]
    return {"id": name, "prompt": prompt, "images": images, "videos": [], "answer": answer}


def dissimilar(count: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of random images, which are written to the same file one after another."""
    path = folder / "image.bmp"
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    frequency[0, 0] = 1
    for i in range(count):
        noise = np.fft.irfft2(np.fft.rfft2(np.random.default_rng(i).normal(size=(128, 128))) / frequency)
        Image.fromarray(np.uint8(np.clip(128 + 40 * noise / noise.std(), 0, 255))).save(path)
        yield row(str(i), [str(path)], "What is shown?")


def sums(count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        a, b = i // 150, i % 150
        question = (
            f"Erik has {a} marbles and wins {b} more of them in a game with his sister. How many has he now?"
        )
        yield row(str(i), [], question, {"value": a + b})


def tables(count: int, folder: Path) -> Iterator[dict[str, Any]]:
    path, r = folder / "table.png", random.Random(0)
    for i in range(count):
        image = Image.new("RGB", (320, 180), "white")
        for line, name in enumerate(("apples", "pears", "plums", "figs", "dates", "limes")):
            text = f"{name}      {r.randint(1000, 9999)}"
            ImageDraw.Draw(image).text((20, 12 + 26 * line), text, "black", ImageFont.load_default(16))
        image.save(path)
        yield row(str(i), [str(path)], "What is shown?")


def measure(
    rows: Iterator[dict[str, Any]], options: DedupOptions, folder: Path, workers: int
) -> dict[str, Any]:
    """Processor seconds of computing signatures and of finding duplicates, and the number of removed rows."""
    signed, signing = folder / "signatures.jsonl", 0.0
    count = 0
    with signed.open("w") as file:
        for one in rows:
            began = cpu_seconds()
            data = sign(one, options)  # type: ignore[arg-type]
            signing += cpu_seconds() - began
            file.write(json.dumps([one["id"], data]) + "\n")
            count += 1

    def signatures() -> Iterator[Signature]:
        with signed.open() as file:
            for name, data in map(json.loads, file):
                yield Signature(name, "task", "set", data)

    began = cpu_seconds()
    removed = sum(1 for _ in decide(signatures, options, Context(folder / "work", workers=workers)))
    deciding = cpu_seconds() - began
    return {
        "rows": count,
        "removed": removed,
        "sign_s": round(signing, 2),
        "decide_s": round(deciding, 2),
        "ms_per_row": round(1e3 * (signing + deciding) / count, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--questions", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    report: dict[str, Any] = {"load": os.getloadavg()[0]}
    media, both = DedupOptions(mode="media"), DedupOptions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [(f"images_{n}", dissimilar(n, folder), media) for n in args.images]
        jobs += [(f"questions_{n}", sums(n), both) for n in args.questions]
        jobs += [("tables_200", tables(200, folder), media)]
        for kind, rows, options in jobs:
            report[kind] = measure(rows, options, folder, args.workers)
            print(f"{kind}: {report[kind]}", flush=True)
    for kind, sizes in (("images", args.images), ("questions", args.questions)):
        small, large = (report[f"{kind}_{n}"]["ms_per_row"] for n in (min(sizes), max(sizes)))
        report[f"{kind.rstrip('s')}_ratio"] = round(large / small, 2)
    print(json.dumps(report))


if __name__ == "__main__":
    main()

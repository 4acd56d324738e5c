"""What the SFT trainer costs on top of a bare loop: the same model, rows, batches and updates, CPU seconds per step.

    python benchmarks/sft_overhead.py [--steps 60] [--batch 32] [--profile]

The bare loop is the least that trains: our batches, the model's hidden states, logits at the labels alone, AdamW,
clipping. CPU time of the process with one thread is compared, so other programs on the machine matter little. The
last line is JSON; `ratio` is trainer / bare loop (1.0: no overhead).
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import json
import pstats
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from core.files.jsonl import read
from core.rows import read_rows, write_rows
from sft.config import SFTConfig
from sft.data import IGNORE, Collator
from sft.train import run
from sft.trainer import StepSampler, TraceTrainer
from vlm.load import load_model, load_processor
from vlm.tiny import build_tiny_vlm

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220), "yellow": (230, 200, 40)}


def make_rows(folder: Path, count: int) -> Path:
    """Rows of the demo's size: three in four with a 112 px image, the others text."""
    rng = random.Random(0)
    rows = []
    for i in range(count):
        colour, n = rng.choice(list(COLOURS)), rng.randint(1, 5)
        row = {"id": str(i), "task": "counting", "answer": {"value": n}}
        text = {"type": "text", "text": f"How many {colour} shapes are there, times {n}?"}
        row["prompt"] = [{"role": "user", "content": [text]}]
        if i % 4:
            image = Image.new("RGB", (112, 112), (245, 245, 245))
            draw = ImageDraw.Draw(image)
            for _ in range(n):
                x, y = rng.randrange(4) * 28, rng.randrange(4) * 28
                draw.rectangle((x, y, x + 27, y + 27), fill=COLOURS[colour])
            image.save(folder / f"{i}.png")
            row["images"] = [str(folder / f"{i}.png")]
            row["prompt"][0]["content"].insert(0, {"type": "image"})
        row["trace"] = {
            "summary": f"Count the {colour} shapes, then multiply.",
            "caption": "; ".join([f"{colour} square"] * n),
            "reasoning": f"There are {n}. {n} * {n} = {n * n}.",
            "conclusion": f"\\boxed{{{n * n}}}",
        }
        rows.append(row)
    return write_rows(rows, folder / "rows.jsonl")


def bare_loop(model_path: Path, rows_path: Path, batch_size: int, steps: int) -> tuple[float, float]:
    """CPU seconds per step after the first epoch, and the last loss."""
    processor, model = load_processor(model_path), load_model(str(model_path))
    collator = Collator(processor, read_rows(rows_path), cache=True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    order = StepSampler(len(collator.rows), batch_size, 0)
    warm = len(order) // batch_size
    start, done, loss = 0.0, 0, torch.zeros(())
    while done < warm + steps:
        order.set_epoch(done // warm)
        indices = list(order)
        for at in range(0, len(indices), batch_size):
            if done == warm:
                start = time.process_time()
            batch = collator([{"row": i} for i in indices[at : at + batch_size]])
            labels = batch.pop("labels")[:, 1:]
            batch.pop("stage_ids")
            hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1][labels != IGNORE]
            loss = F.cross_entropy(model.lm_head(hidden), labels[labels != IGNORE])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            done += 1
            if done == warm + steps:
                break
    return (time.process_time() - start) / steps, loss.item()


class Clock:
    """CPU time of the trainer's steps after the first epoch, with a profile if wanted."""

    def __init__(self, warm: int, profile: bool) -> None:
        self.warm, self.calls, self.start = warm, 0, 0.0
        self.profile = cProfile.Profile() if profile else None
        inner = TraceTrainer.get_batch_samples

        def timed(trainer, *args):
            if self.calls == self.warm:
                self.start = time.process_time()
                if self.profile:
                    self.profile.enable()
            self.calls += 1
            return inner(trainer, *args)

        TraceTrainer.get_batch_samples = timed  # type: ignore[method-assign]

    def stop(self) -> float:
        if self.profile:
            self.profile.disable()
        return time.process_time() - self.start


def trainer_loop(model: Path, rows: Path, out: Path, batch_size: int, steps: int, warm: int, profile: bool):
    """CPU seconds per step of `sft.train.run` after the first epoch, and the last loss."""
    clock = Clock(warm, profile)
    config = SFTConfig.model_validate(
        {
            "model": {"path": str(model)},
            "data": {"train": str(rows), "cache_rows": True},
            "optim": {
                "max_steps": warm + steps,
                "per_device_batch_size": batch_size,
                "learning_rate": 1e-3,
                "schedule": "constant",
            },
            "output_dir": str(out),
        }
    )
    seconds = 0.0
    inner = TraceTrainer._finalize_training

    def finish(trainer, *args):
        nonlocal seconds
        seconds = clock.stop() / steps
        return inner(trainer, *args)

    TraceTrainer._finalize_training = finish  # type: ignore[method-assign]
    run(config)
    if clock.profile:
        pstats.Stats(clock.profile).sort_stats("cumulative").print_stats(70)
    *_, last = read(out / "metrics.jsonl")
    return seconds, last["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = make_rows(folder, args.rows)
        model = build_tiny_vlm(folder / "tiny", rows.read_text().split("\n"), hidden=128, layers=4)
        with contextlib.redirect_stdout(io.StringIO()):
            bare, _ = bare_loop(model, rows, args.batch, args.steps)
        warm = args.rows // args.batch
        trainer, _ = trainer_loop(model, rows, folder / "run", args.batch, args.steps, warm, args.profile)
    print(
        json.dumps(
            {
                "bare_cpu_seconds_per_step": round(bare, 4),
                "trainer_cpu_seconds_per_step": round(trainer, 4),
                "ratio": round(trainer / bare, 3),
                "batch": args.batch,
                "steps": args.steps,
            }
        )
    )


if __name__ == "__main__":
    main()

"""A small but real GRPO run: tiny random policy, mixed rows, a reward that random text can earn more or less of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from core.files.jsonl import read
from core.rows import write_rows
from rl.config import GRPOConfig
from vlm.families import DEFAULT_FAMILY
from vlm.tiny import build_tiny_vlm


def share_of_digits(completion: str, answer: dict, **row: object) -> float:
    """Reward in [0, 1] that differs between random completions."""
    return sum(c.isdigit() for c in completion) / max(1, len(completion))


def digits_of_some(completion: str, answer: dict, **row: object) -> float | None:
    """Like `share_of_digits`; None, does not apply, for completions of an odd length."""
    return None if len(completion) % 2 else share_of_digits(completion, answer)


def only_images_vary(completion: str, answer: dict, **row: object) -> float:
    """Like `share_of_digits` for rows with an image; a constant for the others, whose groups then have no signal."""
    return share_of_digits(completion, answer) if row["images"] else 1.0


def nothing(completion: str, answer: dict, **row: object) -> float:
    """Always 0: no group has a signal."""
    return 0.0


def write_small_world(folder: Path, rows: int = 6, family: str = DEFAULT_FAMILY) -> Path:
    """Random tiny policy in `folder/model` and rows (text-only and one image in turn) in `folder/rows.jsonl`."""
    corpus = ["0 1 2 3 4 5 6 7 8 9 what is it"] * 3
    build_tiny_vlm(folder / "model", corpus, family=family, hidden=64, layers=2, seed=1)
    rng = np.random.default_rng(0)
    records = []
    for i in range(rows):
        text = {"type": "text", "text": f"what is {i}"}
        record = {"id": f"r{i}", "task": "digits", "answer": {}, "images": [], "videos": []}
        if i % 2:
            path = folder / f"{i}.png"
            Image.fromarray(rng.integers(0, 255, (56, 56, 3), dtype=np.uint8)).save(path)
            record |= {
                "images": [str(path)],
                "prompt": [{"role": "user", "content": [{"type": "image"}, text]}],
            }
        else:
            record |= {"prompt": [{"role": "user", "content": [text]}]}
        records.append(record)
    write_rows(records, folder / "rows.jsonl")
    return folder


def small_config(folder: Path, out: Path, **overrides) -> GRPOConfig:
    reward = {"function": f"{__file__}:share_of_digits", "isolate": False}
    values = {
        "model": {"path": str(folder / "model")},
        "prompts": {"rows": str(folder / "rows.jsonl")},
        "rewards": {"grammar": "none", "tasks": {"digits": [reward]}},
        "engine": {"kind": "transformers", "max_model_len": 96},
        "rollout": {"prompts_per_step": 2, "completions_per_prompt": 4, "max_tokens": 12},
        "optimizer": {"learning_rate": 1e-3},
        "max_tokens_per_microbatch": 80,
        "steps": 4,
        "save_every": 2,
        "output_dir": str(out),
    }
    return GRPOConfig.model_validate(values | overrides)


def metrics(out: Path) -> list[dict]:
    return list(read(out / "metrics.jsonl"))


def rollouts(out: Path) -> list[dict]:
    return list(read(out / "rollouts.jsonl"))

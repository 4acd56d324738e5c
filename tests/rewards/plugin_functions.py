"""Reward functions as users write them: good ones, and one for each way to be bad. Loaded by file name in tests."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import subprocess
import sys
import time


def says_answer(completion: str, answer: dict, **row: object) -> float:
    """1 if the answer's value is what was said."""
    return float(completion.strip() == str(answer["value"]))


def check_gold(answer: dict, row: dict) -> None:
    if not isinstance(answer, dict) or "value" not in answer:
        raise ValueError(f"field 'answer.value': expected a value, got {answer!r}")


says_answer.check_gold = check_gold  # type: ignore[attr-defined]


def trl_says_answer(prompts, completions, completion_ids, answer, **columns):
    """TRL's form, as its documentation writes it."""
    return [float(c[0]["content"] == str(a["value"])) for c, a in zip(completions, answer, strict=True)]


async def async_says_answer(completion: str, answer: dict) -> float:
    await asyncio.sleep(0.01)
    return float(completion == str(answer["value"]))


async def async_trl_says_answer(completions, answer, **columns):
    await asyncio.sleep(0.01)
    return [float(c[0]["content"] == str(a["value"])) for c, a in zip(completions, answer, strict=True)]


def columns_seen(prompts, completions, completion_ids, log_metric=None, log_extra=None, **columns):
    """Logs which columns and how many rows reached it."""
    log_metric("rows", len(completions))
    log_extra("columns", [",".join(sorted(columns)) for _ in completions])
    return [{"reward": 1.0, "length": len(ids)} for ids in completion_ids]


def only_even(completion: str, number: int) -> float | None:
    """Applies to even numbers alone."""
    return 1.0 if number % 2 == 0 else None


def with_threshold(completion: str, answer: dict, threshold: float = 0.5) -> bool:
    return float(completion) >= threshold


def best_of_group(completions, group_ids, **columns):
    """1 for the longest completion of its group."""
    assert len(set(group_ids)) == 1
    lengths = [len(c[0]["content"]) for c in completions]
    return [float(length == max(lengths)) for length in lengths]


best_of_group.whole_groups = True  # type: ignore[attr-defined]


def full_text_length(completion: str) -> float:
    return min(1.0, len(completion) / 1000)


full_text_length.whole_text = True  # type: ignore[attr-defined]


class Counting:
    """Keeps state between calls."""

    def __init__(self, start: int = 0) -> None:
        self.calls = start

    def __call__(self, completion: str) -> dict:
        self.calls += 1
        return {"reward": 1.0, "calls": self.calls}


def misbehaves(completion: str, answer: dict) -> object:
    """Does what the completion says."""
    return _do(completion)


def misbehaves_in_batch(completions, **columns):
    """One bad rollout spoils the whole call."""
    return [_do(c[0]["content"]) for c in completions]


async def misbehaves_async(completion: str) -> object:
    if completion == "sleep":
        await asyncio.sleep(60)
    return _do(completion)


def wrong_length(completions, **columns):
    return [1.0] * (len(completions) + 1)


def not_a_list(completions, **columns):
    return 1.0


def hidden(*args, **kwargs):
    return 1.0


def has_torch(completion: str) -> float:
    return float("torch" in sys.modules)


def _do(what: str) -> object:
    if what == "raise":
        raise RuntimeError("the judge is out")
    if what == "exit":
        sys.exit(3)
    if what == "die":
        os._exit(7)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "sleep":
        time.sleep(600)
    if what == "regex":  # holds the interpreter's lock for ages
        re.match(r"(a+)+$", "a" * 40 + "b")
    if what == "child":  # a child process that would keep the pipe open
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], check=False)
    if what == "print":
        print("a plugin prints to stdout")
    if what == "numpy":
        import numpy as np

        return np.float32(0.25)
    values = {
        "nan": float("nan"),
        "inf": float("inf"),
        "two": 2.0,
        "minus": -0.5,
        "text": "1.0",
        "list": [1.0],
    }
    values |= {"true": True, "none": None, "error": ValueError("returned, not raised")}
    return values.get(what, 1.0)

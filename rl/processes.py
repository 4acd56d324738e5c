"""What the processes of a run tell each other, and the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the block's wall-clock time to `seconds[phase]`, the accelerator's work in it finished."""
    began = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began


def summed(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """Each value summed over all processes."""
    return accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device)).tolist()


def largest(accelerator: Accelerator, value: float) -> float:
    """The largest of all processes' values."""
    values = accelerator.gather(torch.tensor([value], dtype=torch.float64, device=accelerator.device))
    return values.max().item()


def gathered_means(metrics: dict[str, float]) -> dict[str, float]:
    """Means over the processes that have a value (each process has as many rollouts)."""
    everyone = gather_object([metrics])
    names = dict.fromkeys(name for one in everyone for name in one)
    return {n: sum(v) / len(v) for n in names if (v := [one[n] for one in everyone if n in one])}


def dealt(items: Sequence[Any], accelerator: Accelerator) -> list[Any]:
    """This process's share of `items`: every n-th, beginning with its own number."""
    return list(items[accelerator.process_index :: accelerator.num_processes])


def collected(mine: Sequence[Any], accelerator: Accelerator) -> list[Any]:
    """The inverse of `dealt`, for equal shares: everyone's items in their order before they were dealt."""
    shares = gather_object([list(mine)])
    return [item for turn in zip(*shares, strict=True) for item in turn]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, different for different ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])

"""Cross-process reductions and gathers, and timing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object

from core.metrics import Metric, joined, values


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


def over_processes(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics over the values of all processes, which must all call it; a process may lack a name."""
    return joined(gather_object([dict(metrics)]))


def gathered(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Every process's metrics joined into what is written; all processes must call it."""
    return values(over_processes(metrics))


def alone(accelerator: Accelerator) -> bool:
    """Whether no wrapper (DDP, DeepSpeed) stands around the model; a launcher may start one with a single process."""
    return accelerator.distributed_type == DistributedType.NO


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

"""Measures time, peak memory and gradients of updates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Update = Callable[[], None]
"""All forward and backward passes of one step; leaves the gradient in the model's parameters."""


@dataclass(frozen=True)
class Seconds:
    """Wall-clock time, and processor time of this process, which depends less on other load."""

    wall: float
    cpu: float


def timed(update: Update, model: nn.Module) -> Seconds:
    """Time one update, including the allocation of gradients."""
    model.zero_grad(set_to_none=True)
    _finish()
    wall, cpu = time.perf_counter(), time.process_time()
    update()
    _finish()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def _finish() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved_medians(updates: Mapping[str, Update], model: nn.Module, repeats: int) -> dict[str, Seconds]:
    """Medians of each update, after one warm-up; they alternate, so that changes of the machine's load affect all."""
    for update in updates.values():
        timed(update, model)
    times: dict[str, list[Seconds]] = {name: [] for name in updates}
    for _ in range(repeats):
        for name, update in updates.items():
            times[name].append(timed(update, model))
    return {
        name: Seconds(statistics.median(s.wall for s in values), statistics.median(s.cpu for s in values))
        for name, values in times.items()
    }


def gradient(update: Update, model: nn.Module) -> Tensor:
    model.zero_grad(set_to_none=True)
    update()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def peak_cpu_bytes(update: Update, model: nn.Module) -> int:
    """Peak bytes of tensors allocated during the update, from the allocator's events."""
    model.zero_grad(set_to_none=True)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        update()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda e: e.start_ns())
    alive = peak = 0
    for event in events:
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak

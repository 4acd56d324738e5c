"""Time, peak memory and hardware of an evaluation, so that its speed can be compared."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch

GIB = 1 << 30


class Meter:
    """Seconds and peak memory of the work inside `with meter:`, over all entries.

    peak_bytes: of GPU memory allocated by this process on its fullest GPU; without a GPU, of the process's memory.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_bytes = 0
        self._began = 0.0

    def __enter__(self) -> Meter:
        _reset_peak()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - self._began
        self.peak_bytes = max(self.peak_bytes, _peak())

    def as_json(self, images: int) -> dict[str, Any]:
        """`{"seconds", "images_per_s", "peak_memory_gib"}` of work on so many images."""
        return {
            "seconds": self.seconds,
            "images_per_s": images / self.seconds if self.seconds else None,
            "peak_memory_gib": self.peak_bytes / GIB,
        }


def hardware() -> str:
    """`2 x NVIDIA H100 80GB HBM3`, or the CPU's name and the cores that this process may use."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_name()}, {cores} cores"


def _cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _reset_peak() -> None:
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak becomes what is used now
    except OSError:
        pass  # not Linux, or not allowed: the peak is that of the whole process so far


def _peak() -> int:
    if torch.cuda.is_available():
        return max(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else psutil.Process().memory_info().rss

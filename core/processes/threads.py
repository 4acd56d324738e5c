"""OpenMP threads that sleep, instead of spinning, while they wait for each other.

PyTorch on CPUs splits every operation over threads, and those that are done first spin until the last one is: up to a few
milliseconds by libgomp's default, several hundred times in a training step. On a quiet machine that saves waking them.
Beside another busy program the thread that is waited for is not running, but the one that waits keeps its core from it:
a step of two threads on two cores then takes many times as long (benchmarks/under_load.py).
"""

from __future__ import annotations

import os


def sleep_while_waiting() -> None:
    """Choose OpenMP's passive wait policy for this process and those that it starts, unless the user has chosen one.

    libgomp (PyTorch's wheels) and libiomp5 read it when they are loaded: call it before torch is imported.
    """
    if "GOMP_SPINCOUNT" not in os.environ and "KMP_BLOCKTIME" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")

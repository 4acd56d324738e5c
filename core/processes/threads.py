"""How long OpenMP threads spin while they wait for each other before they sleep.

PyTorch on CPUs splits every operation over threads, and those that are done first wait for the last one, several hundred
times in a training step. Spinning saves waking them, which for the small operations of a small model takes as long as the
operations do. But beside another busy program the thread that is waited for may not be running, while the one that spins
keeps its core from it: with libgomp's default, up to a few milliseconds each time, a step of two threads on two cores then
takes many times as long. A short spin has nearly all of the one and little of the other (benchmarks/under_load.py).
"""

from __future__ import annotations

import os

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which users choose."""
SPINS = 1000
"""Rounds of libgomp's waiting loop, some ten microseconds in all; its default is 300,000."""


def spin_briefly() -> None:
    """Set a short spin for this process and those that it starts, unless the user has chosen how threads wait.

    libgomp (PyTorch's wheels) and libiomp5 read it when they are loaded: call it before torch is imported.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": str(SPINS)}

"""Protects the state that vLLM and the trainer share in one process: random numbers, threads, environment."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_CHANGED_BY_VLLM = ("LD_PRELOAD", "LOCAL_WORLD_SIZE", "NUMEXPR_MAX_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")


class RngState:
    """States of the generators that vLLM seeds and draws from: Python's, NumPy's, torch's on CPU and on the GPU."""

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = (
            random.getstate(),
            np.random.get_state(),
            torch.get_rng_state(),
        )
        self._cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None

    @classmethod
    def now(cls) -> RngState:
        return cls()

    def restore(self) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def unchanged_process() -> Iterator[None]:
    """vLLM's start sets torch to one thread, makes `torch.set_num_threads` a no-op (on CPU) and changes variables that
    child processes inherit; put all of it back for the trainer."""
    environment = {name: os.environ.get(name) for name in _CHANGED_BY_VLLM}
    threads, set_num_threads = torch.get_num_threads(), torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(threads)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

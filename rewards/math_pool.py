"""A pool of killable processes that run math-verify with a wall-clock limit per item.

Why processes of our own: signal-based time-outs fail off the main thread (every score silently 0, verl PR 5635), without them
one item can hang a run, and a ProcessPoolExecutor cannot kill the one worker that hangs. Here each worker is a plain child
process (`math_worker.py`, started by path, so neither forked from a process with CUDA and threads nor importing the trainer):
the thread that waits for it kills it when the limit passes, and only that item is lost.

Works from any thread, and in forked and spawned children of the parent: a forked child drops the inherited workers and starts
its own on first use. Workers end when their stdin closes, that is, when the pool closes or its process dies.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

WORKER = Path(__file__).with_name("math_worker.py")
SLOW = 0.25
"""Share of its limit after which an item is likely to hang: a spare worker starts then, and is ready when the item is killed.
So the next item waits for the limit of the hung one and not for a new worker too."""

START_SECONDS = 120.0
"""Limit for a worker to come up (0.5 s usually). Never charged to an item."""


@dataclass(frozen=True)
class Judged:
    """Verdict on one item. `outcome`: "ok", "timeout" (the worker was killed) or "crash" (it died, as on out of memory)."""

    equal: bool
    gold_parses: bool
    predicted_parses: bool
    outcome: Literal["ok", "timeout", "crash"] = "ok"


@dataclass
class PoolStats:
    """Counts since the pool was made."""

    items: int = 0
    timeouts: int = 0
    crashes: int = 0
    started: int = 0
    recycled: int = 0


class WorkerStartError(RuntimeError):
    """A worker process did not come up: the installation is broken (message holds its stderr)."""


class _Worker:
    """One child process. Used by one thread at a time."""

    def __init__(self, generation: int) -> None:
        self.generation = (
            generation  # of the pool; a worker of a generation that was closed is not used again
        )
        # -P: the script's folder stays off sys.path, where modules of this package would shadow the standard library's.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in the terminal reaches the trainer, which then closes the pool
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        self.items = 0
        self.ready = False

    def wait_ready(self) -> None:
        if not self.ready:
            if self._receive(time.monotonic() + START_SECONDS) is None:
                code = self.process.poll()
                self.kill()
                raise WorkerStartError(
                    f"math worker did not start within {START_SECONDS:.0f} s (exit code {code}); try: "
                    f"{sys.executable} -c 'import math_verify'"
                )
            self.ready = True

    def ask(
        self, request: dict[str, Any], seconds: float, slow: Callable[[], None]
    ) -> dict[str, bool] | Literal["timeout", "crash"]:
        """One request, one reply; the worker is dead after "timeout" or "crash". `slow` is called at SLOW of the limit."""
        deadline = time.monotonic() + seconds
        data = json.dumps({**request, "seconds": seconds}).encode()
        try:
            self._send(struct.pack(">I", len(data)) + data, deadline)
        except BrokenPipeError:
            self.kill()
            return "crash"
        if not self._answers_by(deadline - (1.0 - SLOW) * seconds):
            slow()
        reply = self._receive(deadline)
        self.items += 1
        if reply is None:
            outcome: Literal["timeout", "crash"] = "timeout" if time.monotonic() >= deadline else "crash"
            self.kill()
            return outcome
        return reply

    def _send(self, data: bytes, deadline: float) -> None:
        # A request is smaller than a pipe's buffer or read at once by an idle worker; the loop is for short writes.
        assert self.process.stdin is not None
        while data and time.monotonic() < deadline:
            data = data[os.write(self.process.stdin.fileno(), data) :]

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        """The next message, or None at the deadline or at the worker's end."""
        head = self._read(4, deadline)
        body = self._read(struct.unpack(">I", head)[0], deadline) if head else None
        return json.loads(body) if body else None

    def _answers_by(self, deadline: float) -> bool:
        """Wait until there is something to read (a reply, or the end of the worker), at most to the deadline."""
        assert self.process.stdout is not None
        poll = select.poll()  # select() fails on descriptors above 1023, which big runs reach
        poll.register(self.process.stdout.fileno(), select.POLLIN | select.POLLHUP)
        left = deadline - time.monotonic()
        return left > 0 and bool(poll.poll(left * 1000 + 1))

    def _read(self, count: int, deadline: float) -> bytes | None:
        assert self.process.stdout is not None
        data = b""
        while len(data) < count:
            if not self._answers_by(deadline):
                return None
            chunk = os.read(self.process.stdout.fileno(), count - len(data))
            if not chunk:
                return None
            data += chunk
        return data

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.close_pipes()

    def stop(self) -> None:
        """End an idle worker (closing stdin ends it; kill does not wait for that)."""
        self.kill()

    def close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class MathPool:
    """Up to `workers` processes, made when first needed. `seconds`: wall-clock limit per item. Thread-safe.

    `recycle_after`: items after which a worker is replaced (sympy's caches grow).
    """

    workers: int = field(default_factory=lambda: max(1, min(8, (os.cpu_count() or 2) // 2)))
    seconds: float = 5.0
    recycle_after: int = 2000
    stats: PoolStats = field(default_factory=PoolStats)
    _idle: list[_Worker] = field(init=False, repr=False)
    _spares: list[_Worker] = field(init=False, repr=False)
    _generation: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.workers < 1 or self.seconds <= 0 or self.recycle_after < 1:
            raise ValueError(f"math pool: expected positive workers, seconds and recycle_after, got {self!r}")
        self._reset()
        _POOLS.add(self)

    def __hash__(self) -> int:
        return id(self)

    def judge(self, gold: Sequence[str], predicted: Sequence[str] | None) -> Judged:
        """Is `predicted` (alternative readings, the first that parses counts) equal to `gold` (likewise)?

        With predicted None, only whether the gold parses. Blocks until a worker is free, then at most `seconds`.
        """
        request: dict[str, Any] = {"gold": list(gold)}
        if predicted is not None:
            request["predicted"] = list(predicted)
        worker = self._take()
        try:
            reply = worker.ask(request, self.seconds, self._start_spare)
        except (
            BaseException
        ):  # Ctrl-C or a time-out of the caller's while waiting: a worker half-way is of no use
            worker.kill()
            self._give_back(worker, "crash")
            raise
        self._give_back(worker, reply)
        if reply == "timeout" or reply == "crash":
            return Judged(False, False, False, reply)
        assert isinstance(reply, dict)
        return Judged(reply["equal"], reply["gold_parses"], reply["predicted_parses"])

    def judge_many(self, items: Sequence[tuple[Sequence[str], Sequence[str] | None]]) -> list[Judged]:
        """Judge items on all workers at once, in order. A hung item holds one worker for its limit and no other."""
        if len(items) < 2 or self.workers == 1:
            return [self.judge(*item) for item in items]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="math-pool") as threads:
            return list(threads.map(lambda item: self.judge(*item), items))

    def close(self) -> None:
        """End all idle workers; those in use end when given back. The pool may be used again afterwards."""
        with self._lock:
            idle = self._idle + self._spares
            self._idle, self._spares, self._generation = [], [], self._generation + 1
        for worker in idle:
            worker.stop()

    def __enter__(self) -> MathPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._free = threading.Semaphore(self.workers)
        self._all: weakref.WeakSet[_Worker] = weakref.WeakSet()
        self._generation = 0
        self._idle, self._spares = [], []

    def _take(self) -> _Worker:
        self._free.acquire()
        try:
            with self._lock:
                worker = self._idle.pop() if self._idle else self._spares.pop() if self._spares else None
            if worker is None or worker.process.poll() is not None:
                worker = self._start()
            worker.wait_ready()
            return worker
        except BaseException:
            self._free.release()
            raise

    def _start(self) -> _Worker:
        worker = _Worker(self._generation)
        with self._lock:
            self._all.add(worker)
            self.stats.started += 1
        return worker

    def _start_spare(self) -> None:
        """At most as many spares as workers; one that turns out not to be needed waits for the next time."""
        if len(self._spares) < self.workers:
            worker = self._start()
            with self._lock:
                self._spares.append(worker)

    def _give_back(self, worker: _Worker, reply: object) -> None:
        old = worker.items >= self.recycle_after
        with self._lock:
            self.stats.items += 1
            self.stats.timeouts += reply == "timeout"
            self.stats.crashes += reply == "crash"
            stale = worker.generation != self._generation
            keep = isinstance(reply, dict) and not old and not stale
            self.stats.recycled += isinstance(reply, dict) and old
            if keep:
                self._idle.append(worker)
        if not keep and isinstance(reply, dict):
            worker.stop()
        self._free.release()

    def _forget(self) -> None:
        """In a forked child: the workers are the parent's. Drop our copies of their pipes (or they would outlive the parent)."""
        for worker in list(self._all):
            worker.process.returncode = 0  # not our child: never wait for it
            worker.close_pipes()
        self.stats = PoolStats()
        self._reset()


_POOLS: weakref.WeakSet[MathPool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_POOLS):
        pool._forget()


def _close_all() -> None:
    for pool in list(_POOLS):
        pool.close()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)

"""A pool of killable processes that run math-verify with a limit of processor time per item.

Why processes of our own: signal-based time-outs fail off the main thread (every score silently 0, verl PR 5635), without them
one item can hang a run, and a ProcessPoolExecutor cannot kill the one worker that hangs. Here each worker is a fresh
interpreter (`math_worker.py`), and the kernel ends it when an item has taken its limit of processor time: only that item is
lost. Processor time and not the clock, so that the verdict does not depend on what else the machine is doing. The clock ends a
worker only far beyond that (WALL_FACTOR), which says nothing about the item.

What an item costs at most: an expensive one is remembered and not tried again, and after BUDGET expensive ones in one call of
`judge_many` the rest of it gets a tenth of the limit each.

Works from any thread, and in forked and spawned children of the parent: a forked child drops the inherited workers and starts
its own on first use. Workers end when their socket closes, that is, when the pool closes or its process dies.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from cachetools import LRUCache

from rewards.serving.calls import Failure
from rewards.serving.process import Child, Late, Lost

WORKER = "rewards.serving.math_worker"

SLOW = 0.25
"""Share of its limit after which an item is likely to hang: a spare worker starts then, and is ready when the item is killed.
So the next item waits for the limit of the hung one and not for a new worker too."""

START_SECONDS = 120.0
"""Limit for a worker to come up (0.5 s usually). Never charged to an item."""

WALL_FACTOR, WALL_SECONDS = 20.0, 60.0
"""The clock's limit of an item: this many times its limit of processor time, and at least so many seconds."""

BUDGET = 4
"""Limits of processor time that the items of one call may lose before the rest gets less."""

REMEMBERED = 4096

Result = Literal["ok", "too_expensive", "over_budget", "timeout", "crash"]


@dataclass(frozen=True)
class Judged:
    """Verdict on one item.

    outcome: "ok"; "too_expensive" (processor time or memory beyond the limit: a property of the item, so not equal);
        "over_budget" (beyond what was left for it after other items of its call), "timeout" (the clock's limit) or "crash"
        (the worker died): no verdict.
    """

    equal: bool
    gold_parses: bool
    predicted_parses: bool
    outcome: Result = "ok"


def reward_of(judged: Judged) -> float | dict[str, Any] | Failure:
    """The verdict as a reward: 1 or 0, 0 with a reason that is counted for what is too expensive, a failure without a verdict."""
    if judged.outcome == "ok":
        return float(judged.equal)
    if judged.outcome == "too_expensive":
        return {"reward": 0.0, "reason": "too_expensive"}
    if judged.outcome == "crash":
        return Failure("crash", "the process that judged the answer died")
    why = (
        "other answers of its batch had taken"
        if judged.outcome == "over_budget"
        else "the machine was busy for"
    )
    return Failure("timeout", f"the answer was not judged: {why} the time there was")


@dataclass
class PoolStats:
    """Counts since the pool was made."""

    items: int = 0
    too_expensive: int = 0
    over_budget: int = 0
    timeouts: int = 0
    crashes: int = 0
    started: int = 0
    recycled: int = 0


class WorkerStartError(RuntimeError):
    """A worker process did not come up: the installation is broken."""


class _Worker:
    """One child process. Used by one thread at a time."""

    def __init__(self, generation: int) -> None:
        self.generation = (
            generation  # of the pool; a worker of a generation that was closed is not used again
        )
        self.child = Child(WORKER, {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
        self.items = 0
        self.ready = False

    def wait_ready(self) -> None:
        if not self.ready:
            deadline = time.monotonic() + START_SECONDS
            try:
                self.child.ask(b"", deadline)
                self.child.answer(deadline)
            except (Late, Lost) as error:
                self.child.kill()
                why = str(error) or f"not within {START_SECONDS:.0f} s"
                raise WorkerStartError(
                    f"a math worker did not start ({why}); try: {sys.executable} -c 'import math_verify'"
                ) from None
            self.ready = True

    def ask(
        self, request: dict[str, Any], seconds: float, slow: Callable[[], None]
    ) -> dict[str, bool] | Result:
        """One request, one reply; the worker is dead if it is none. `slow` is called at SLOW of the limit."""
        now = time.monotonic()
        deadline = now + max(WALL_SECONDS, WALL_FACTOR * seconds)
        self.items += 1
        try:
            self.child.ask(json.dumps({**request, "seconds": seconds}).encode(), deadline)
            try:
                self.child.wait(now + SLOW * seconds)
            except Late:
                slow()
            reply: dict[str, bool] = json.loads(self.child.answer(deadline))
            return reply
        except Late:
            self.child.kill()
            return "timeout"
        except Lost:
            result: Result = "too_expensive" if self.child.ended_by == signal.SIGPROF else "crash"
            self.child.kill()
            return result


@dataclass
class MathPool:
    """Up to `workers` processes, made when first needed. `seconds`: limit of processor time per item. Thread-safe.

    `recycle_after`: items after which a worker is replaced (sympy's caches grow).
    """

    workers: int = field(default_factory=lambda: max(1, min(8, (os.cpu_count() or 2) // 2)))
    seconds: float = 3.0
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

    def judge(
        self, gold: Sequence[str], predicted: Sequence[str] | None, *, seconds: float | None = None
    ) -> Judged:
        """Is `predicted` (alternative readings, the first that parses counts) equal to `gold` (likewise)?

        With predicted None, only whether the gold parses. seconds: a shorter limit than the pool's; an item beyond it is
        "over_budget". Blocks until a worker is free, and until the verdict.
        """
        remembered = self._remembered(gold, predicted)
        return remembered or self._judge(gold, predicted, seconds)

    def judge_many(self, items: Sequence[tuple[Sequence[str], Sequence[str] | None]]) -> list[Judged]:
        """Judge items on all workers at once, in order. A hung item holds one worker for its limit and no other."""
        lost = [0]  # limits that items of this call have taken

        def judge(item: tuple[Sequence[str], Sequence[str] | None]) -> Judged:
            if remembered := self._remembered(*item):
                return remembered
            judged = self._judge(*item, self.seconds / 10 if lost[0] >= BUDGET else None)
            lost[0] += judged.outcome in ("too_expensive", "timeout")
            return judged

        if len(items) < 2 or self.workers == 1:
            return [judge(item) for item in items]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="math-pool") as threads:
            return list(threads.map(judge, items))

    def _remembered(self, gold: Sequence[str], predicted: Sequence[str] | None) -> Judged | None:
        """The verdict on an item that was too expensive before."""
        with self._lock:
            if (tuple(gold), tuple(predicted or ())) not in self._expensive:
                return None
            self.stats.items += 1
            self.stats.too_expensive += 1
        return Judged(False, False, False, "too_expensive")

    def _judge(self, gold: Sequence[str], predicted: Sequence[str] | None, seconds: float | None) -> Judged:
        request: dict[str, Any] = {"gold": list(gold)}
        if predicted is not None:
            request["predicted"] = list(predicted)
        reply = self._ask(request, self.seconds if seconds is None else min(seconds, self.seconds))
        if isinstance(reply, dict) and not reply["too_expensive"]:
            return Judged(reply["equal"], reply["gold_parses"], reply["predicted_parses"])
        result: Result = "too_expensive" if isinstance(reply, dict) else reply
        if result == "too_expensive" and seconds is not None and seconds < self.seconds:
            result = "over_budget"
        with self._lock:
            self.stats.too_expensive += result == "too_expensive"
            self.stats.over_budget += result == "over_budget"
            if result == "too_expensive":
                self._expensive[tuple(gold), tuple(predicted or ())] = True
        return Judged(False, False, False, result)

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, bool] | Result:
        worker = self._take()
        try:
            reply = worker.ask(request, seconds, self._start_spare)
        except (
            BaseException
        ):  # Ctrl-C or a time-out of the caller's while waiting: a worker half-way is of no use
            worker.child.kill()
            self._give_back(worker, "crash")
            raise
        self._give_back(worker, reply)
        return reply

    def close(self) -> None:
        """End all idle workers; those in use end when given back. The pool may be used again afterwards."""
        with self._lock:
            idle = self._idle + self._spares
            self._idle, self._spares, self._generation = [], [], self._generation + 1
        for worker in idle:
            worker.child.kill()

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
        self._expensive: LRUCache[tuple[tuple[str, ...], ...], bool] = LRUCache(REMEMBERED)

    def _take(self) -> _Worker:
        self._free.acquire()
        try:
            with self._lock:
                worker = self._idle.pop() if self._idle else self._spares.pop() if self._spares else None
            if worker is None or worker.child.process.poll() is not None:
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
            worker.child.kill()
        self._free.release()

    def _forget(self) -> None:
        """In a forked child: the workers are the parent's. Drop our copies of their pipes (or they would outlive the parent)."""
        for worker in list(self._all):
            worker.child.forget()
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

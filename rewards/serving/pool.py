"""The pool of worker processes: reward functions that may hang or crash run here, and cost their rollout, not the run.

A Python function that hangs cannot be stopped inside its own process: threads cannot be killed, and signals do not interrupt a
regular expression or a C extension that never returns. So plugins and math-verify run in workers: fresh interpreters
(`worker_main.py`) with one function and one call at a time, which are killed with everything they started when a call exceeds
its limit, and replaced. Other built-ins are tested never to hang or raise, and run in process.

    limits               of a per-sample function: one rollout; of a batch function: one batch. In elapsed time, or
                         (`Limits.clock`) in processor time, enforced by the kernel
    hang, crash, exit    a Failure of that rollout; the rest goes on in another worker
    a failed batch       its rollouts are scored once more, one by one, for at most two limits (`runners.score_items`)
    repeated time-outs   after BUDGET limits lost in one call, the rest of the call gets a tenth of the limit per rollout
    the same text again  gets the same Failure at once, for ten minutes
    imports              an import inside a function is not charged to the call: a late worker that is importing may go on for
                         `start_timeout_s`

The overhead is about 0.1 ms per call (benchmarks/reward_isolation.py).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from cachetools import TTLCache

from rewards.errors import PluginError, RewardDataError
from rewards.serving.items import Failure, Item, Limits, Metrics, Outcome, failed
from rewards.serving.signatures import Signature
from rewards.serving.worker import Spec, Worker, WorkerLost

CHUNK = 32  # rollouts sent to a worker at once
BUDGET = 4  # limits of time that hanging rollouts of one call may take before the rest get less
REMEMBERED = 4096, 600.0  # texts that exceeded their limit: how many are remembered, and for how many seconds


class Pool:
    """At most `size` workers at a time, shared by all functions that were added. Thread-safe; works in forked children.

    Workers start when first needed, and stay for the next call of their function.
    """

    def __init__(self, size: int, start_timeout_s: float) -> None:
        if size < 1:
            raise ValueError(f"workers: expected at least 1, got {size}")
        self._size = size
        self._start_timeout_s = start_timeout_s
        self._specs: list[Spec] = []
        self._loaded: set[int] = set()  # keys of functions that a worker could load
        self._restart()

    def _restart(self) -> None:
        self._pid = os.getpid()
        self._free = threading.Semaphore(self._size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []  # the one used last is at the end
        self._spares = 0  # idle workers to keep beyond one per function or place
        self._hung: TTLCache[bytes, Failure] = TTLCache(*REMEMBERED)
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="rewards")
        self._closed = threading.Event()

    def _after_fork(self) -> None:
        """In a forked child, whose copies of locks, threads and workers are of no use, start afresh."""
        if os.getpid() != self._pid:
            self._restart()

    def add(self, spec: Spec) -> int:
        """Add a function; returns its key. No worker is started yet."""
        self._specs.append(spec)
        return len(self._specs) - 1

    def signature(self, key: int) -> Signature:
        """The signature of a function, which a worker loads for it. Raises PluginError if it cannot be loaded."""
        return self._with_worker(key, Worker.signature)

    def score(
        self, key: int, signature: Signature, items: Sequence[Item], limits: Limits
    ) -> tuple[list[Outcome], Metrics]:
        """Score items; a batch function gets them all in one call.

        Raises RewardDataError for a row that cannot be sent, PluginError if no worker has ever loaded the function.
        """
        self._after_fork()
        call = _Call(key, items, limits, signature)
        if signature.style == "sample":
            with self._lock:
                for index, item in enumerate(items):
                    if failure := self._hung.get(_digest(key, item)):
                        call.outcomes[index] = Outcome(None, {}, failure)
        left = [index for index in range(len(items)) if call.outcomes[index] is None]
        size = max(1, len(left))
        if call.one_by_one:
            size = max(1, min(CHUNK, -(-len(left) // (2 * self._size))))
        chunks = deque([left[i : i + size] for i in range(0, len(left), size)])

        def drain() -> None:
            while True:
                try:
                    chunk = chunks.popleft()
                except IndexError:
                    return
                chunks.extendleft(reversed(self._score_chunk(call, chunk)))

        self._on_threads(drain, min(self._size, len(chunks)))
        return [outcome or failed("crash", "not scored") for outcome in call.outcomes], call.metrics

    def check(self, key: int, rows: Sequence[dict[str, Any]], timeout_s: float) -> list[str | None]:
        """What is wrong with each row's answer, or None; `timeout_s` is the limit for one row."""
        try:
            return self._with_worker(key, lambda worker: worker.check(rows, timeout_s))
        except WorkerLost as lost:
            return [f"check_gold: {lost.failure.message}"] * len(rows)

    def close(self) -> None:
        """End all workers; calls in progress finish first."""
        if self._closed.is_set() or os.getpid() != self._pid:
            return
        self._closed.set()
        self._threads.shutdown(wait=True)
        for _ in range(self._size):
            self._free.acquire()
        for worker in self._idle:
            worker.child.close()
        for _ in range(self._size):  # threads that still wait for a worker find the pool closed
            self._free.release()

    def _on_threads(self, work: Callable[[], None], count: int) -> None:
        if count <= 1:
            work()
            return
        for future in [self._threads.submit(work) for _ in range(count)]:
            future.result()

    def _score_chunk(self, call: _Call, chunk: list[int]) -> list[list[int]]:
        """Score the items of a chunk; returns those to score again, as chunks, if the worker was lost on the way."""
        limits = call.limits_now()
        full = limits == call.limits

        def emit(place: int, outcome: Outcome) -> None:
            call.outcomes[chunk[place]] = outcome
            if outcome.failure and outcome.failure.kind == "too_expensive":
                self._remember(call, chunk[place], outcome.failure)

        def work(worker: Worker) -> Metrics:
            items = [call.items[index] for index in chunk]
            return worker.score(items, limits, emit, lambda: self._start_spare(call.key))

        try:
            call.metrics += self._with_worker(call.key, work)
            return []
        except WorkerLost as lost:
            failure = lost.failure
        except PluginError as error:
            if call.key not in self._loaded:
                raise
            failure = Failure("crash", str(error))  # it was loaded before, so its file has changed
        if failure.kind in ("timeout", "too_expensive"):
            call.lost_s += limits.timeout_s
        if failure.kind == "too_expensive" and not full:
            failure = Failure("timeout", "other rollouts of its batch had used up the time")
        return self._give_up(call, chunk, failure, remember=full)

    def _give_up(self, call: _Call, chunk: list[int], failure: Failure, *, remember: bool) -> list[list[int]]:
        """Give the failure to the items of a chunk that caused it; returns the others as chunks to score again."""
        rest = [index for index in chunk if call.outcomes[index] is None]
        if call.signature.style == "batch":
            lost, again = rest, []
        elif call.one_by_one or len(rest) == 1:  # one call at a time: the first item without an outcome
            lost, again = rest[:1], [rest[1:]] if rest[1:] else []
        else:  # concurrent awaits: any of them may have blocked, so each is tried alone
            lost, again = [], [[index] for index in rest]
        for index in lost:
            call.outcomes[index] = Outcome(None, {}, failure)
            if remember and failure.kind in ("timeout", "too_expensive"):
                self._remember(call, index, failure)
        return again

    def _remember(self, call: _Call, index: int, failure: Failure) -> None:
        """Give the same failure to the same text at once from now on (per-sample functions only)."""
        if call.signature.style == "sample":
            message = f"the same text exceeded its limit before: {failure.message}"
            with self._lock:
                self._hung[_digest(call.key, call.items[index])] = replace(failure, message=message)

    def _with_worker(self, key: int, work: Callable[[Worker], Any]) -> Any:
        self._after_fork()
        with self._free:
            if self._closed.is_set():
                raise RuntimeError("the pool of workers is closed")
            worker = self._take(key)
            try:
                result = work(worker)
            except RewardDataError:  # a row that could not be sent leaves the worker as it was
                self._give_back(worker)
                raise
            except BaseException:  # answers may still be on their way, so the worker cannot be used again
                worker.child.kill()
                raise
            self._give_back(worker)
            return result

    def _take(self, key: int) -> Worker:
        """An idle worker of the function or a new one, ready for use. Raises PluginError if it does not load."""
        with self._lock:
            idle = [worker for worker in self._idle if worker.key == key]
            found = idle[-1] if idle else None
            if found:
                self._idle.remove(found)
        if found and not found.alive():
            found.child.kill()  # what it has started
            return self._take(key)
        worker = found or Worker(key, self._specs[key], self._start_timeout_s)
        try:
            worker.signature()
        except BaseException:
            worker.child.kill()
            raise
        self._loaded.add(key)
        return worker

    def _start_spare(self, key: int) -> None:
        """Start a worker for a function whose worker will probably be killed, unless one is idle."""
        with self._lock:
            self._spares = self._size  # one that turns out not to be needed is kept for the next time
            if any(worker.key == key for worker in self._idle):
                return
        spare = Worker(key, self._specs[key], self._start_timeout_s)
        with self._lock:
            self._idle.append(spare)

    def _give_back(self, worker: Worker) -> None:
        """Keep the worker for the next call. If there are more than enough, the one idle for longest ends."""
        with self._lock:
            old = worker.spec.recycle_after is not None and worker.items >= worker.spec.recycle_after
            ended = [worker] if old else []
            if not old:
                self._idle.append(worker)
            if len(self._idle) > max(self._size, len(self._specs)) + self._spares:
                ended.append(self._idle.pop(0))
        for one in ended:
            one.child.close()


class _Call:
    """One call of `Pool.score`: what is known so far, and the time lost on items that exceeded their limit."""

    def __init__(self, key: int, items: Sequence[Item], limits: Limits, signature: Signature) -> None:
        self.key, self.items, self.limits, self.signature = key, items, limits, signature
        self.outcomes: list[Outcome | None] = [None] * len(items)
        self.metrics: Metrics = []
        self.lost_s = 0.0

    @property
    def one_by_one(self) -> bool:
        """Whether the worker calls the function for one rollout after the other."""
        return self.signature.style == "sample" and not self.signature.asynchronous

    def limits_now(self) -> Limits:
        """The limits of the next calls."""
        seconds = self.limits.timeout_s
        over_budget = self.signature.style == "sample" and self.lost_s >= BUDGET * seconds
        return replace(self.limits, timeout_s=seconds / 10) if over_budget else self.limits


def _digest(key: int, item: Item) -> bytes:
    """Identifies a per-sample call: the function, the row and the text."""
    text = f"{key} {item.row.get('id')!r} {item.text}"
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()

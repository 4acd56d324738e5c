"""Reward functions in worker processes that can be killed: what a plugin does can cost its rollout, not the run.

A Python function that hangs cannot be stopped inside its own process: threads cannot be killed, and signals do
not reach a regular expression or a C extension that never returns. So functions that are not ours run in workers:
fresh interpreters (see `worker.py`), each with one function and one call at a time, killed with all they have started
when a call exceeds its limit, and replaced. Built-ins are trusted: they are tested never to hang or raise, and run in
process.

    limit of a per-sample function: one rollout        limit of a batch function: one batch
    hang, crash, os._exit, out of memory -> the rollout's Failure; the rest goes on in another worker or a new one
    a batch that fails as a whole        -> its rollouts once more, one by one, for at most two limits of time
    a text that made a function hang     -> the same Failure at once if it comes again within ten minutes
    several that hang in one call        -> after BUDGET limits lost, a tenth of the limit for each of the rest

An import inside a function (the first call often does it) is not charged to the call: a worker that is importing when
its limit has passed may go on for `start_timeout_s`.

The price is about 0.1 ms per call (benchmarks/reward_isolation.py measures it).
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from rewards.errors import PluginError, RewardDataError
from rewards.serving.calls import Failure, Item, Limits, Outcome, failed
from rewards.serving.plugins import Signature
from rewards.serving.process import Child, Late, Lost

CHUNK = 32  # rollouts sent to a worker at once
ASYNC_GRACE_S = 1.0  # async functions are cancelled at the limit; the process is killed if that did not help
BUDGET = 4  # limits of time that hanging rollouts of one call may take before the rest get less
REMEMBERED = 4096, 600.0  # texts that hung: how many, and for how many seconds
_IMPORTING = "<frozen importlib._bootstrap>"
_AGAIN_S = 0.5  # between looks at whether a late worker still imports

Metrics = list[tuple[str, float]]


@dataclass(frozen=True)
class Spec:
    """What a worker needs to load a function."""

    name: str
    style: str
    arguments: dict[str, Any]


class WorkerLost(Exception):
    """The worker did not answer in time, or died."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Worker:
    """One worker process with one function. Not thread-safe: borrowed by one thread at a time."""

    def __init__(self, key: int, spec: Spec, start_timeout_s: float) -> None:
        """Start the process and import the function; PluginError if that fails, WorkerLost if it takes too long."""
        self.key = key
        self._start_timeout_s = start_timeout_s
        self._child = Child(
            "rewards.serving.worker", {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        )
        try:
            self.signature = self._load(spec, start_timeout_s)
        except BaseException:
            self.kill()
            raise

    def _load(self, spec: Spec, timeout_s: float) -> Signature:
        self._send(("load", {"name": spec.name, "style": spec.style, "arguments": spec.arguments}), timeout_s)
        answer = self._receive(timeout_s, f"importing '{spec.name}'")
        if "error" in answer:
            raise PluginError(answer["error"])
        fields = answer["signature"]
        columns = fields["columns"]
        return Signature(
            **{
                **fields,
                "columns": None if columns is None else tuple(columns),
                "required": tuple(fields["required"]),
                "wants": tuple(fields["wants"]),
            }
        )

    def score(self, items: Sequence[Item], limits: Limits, patience: float) -> Iterator[dict[str, Any]]:
        """Answers of the worker as they come, `{"index", "value", …}` per item, at last `{"metrics"}`."""
        self._send(("score", list(items), limits, max(patience, self._start_timeout_s)), patience)
        while True:
            answer = self._receive(patience, f"a call, limit {limits.timeout_s:g} s,", self._start_timeout_s)
            yield answer
            if answer.get("done"):
                return

    def check(self, rows: Sequence[dict[str, Any]], timeout_s: float) -> list[str | None]:
        """What is wrong with each row's answer, or None."""
        self._send(("check", list(rows)), timeout_s)
        found = [self._receive(timeout_s, "checking an answer") for _ in rows]
        self._receive(timeout_s, "checking answers")
        return found

    def kill(self) -> None:
        """End the process and everything it has started."""
        self._child.kill()

    def close(self) -> None:
        """Let the process end by itself, which it does when the socket closes; kill it if it does not."""
        self._child.close()

    def forget(self) -> None:
        """In a forked copy of the trainer: the process is not ours."""
        self._child.forget()

    def _send(self, message: Any, timeout_s: float) -> None:
        try:
            pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001
            # pickle raises PicklingError, TypeError or AttributeError, and whatever an object's own methods do
            raise RewardDataError(
                f"a column of a row cannot be sent to a worker process: {error}. Let the function name the columns "
                "that it needs instead of taking them all, or set `isolate: false`."
            ) from None
        try:
            self._child.ask(pickled, time.monotonic() + timeout_s + self._start_timeout_s)
        except Late:
            raise WorkerLost(Failure("timeout", "the worker process does not read its requests")) from None
        except Lost as lost:
            raise WorkerLost(Failure("crash", str(lost))) from None

    def _receive(self, timeout_s: float, doing: str, importing_s: float = 0.0) -> Any:
        """The next answer. importing_s: granted beyond `timeout_s` as long as the worker is importing."""
        began = time.monotonic()
        try:
            return json.loads(self._next(began + timeout_s, importing_s))
        except Late:
            stack = self._child.stack()
            raise WorkerLost(Failure("timeout", f"{doing} took longer than {timeout_s:g} s", stack)) from None
        except Lost as lost:
            raise WorkerLost(Failure("crash", str(lost))) from None
        except ValueError:
            raise WorkerLost(
                Failure("crash", "the worker process answered something else than JSON")
            ) from None

    def _next(self, deadline: float, importing_s: float) -> bytes:
        last = deadline + importing_s
        while True:
            try:
                return self._child.answer(deadline)
            except Late:
                if deadline >= last or _IMPORTING not in self._child.stack():
                    raise
                deadline = min(last, time.monotonic() + _AGAIN_S)


class Pool:
    """Workers shared by all isolated functions of a router, at most `size` at work. Thread-safe; workers start when first
    needed, and stay for the next call of their function."""

    def __init__(self, size: int, start_timeout_s: float) -> None:
        if size < 1:
            raise ValueError(f"workers: expected at least 1, got {size}")
        self._size = size
        self._start_timeout_s = start_timeout_s
        self._specs: list[Spec] = []
        self._restart()

    def _restart(self) -> None:
        self._pid = os.getpid()
        self._free = threading.Semaphore(self._size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []  # the last one used stands last
        self._hung: TTLCache[bytes, Failure] = TTLCache(*REMEMBERED)
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="rewards")
        self._closed = threading.Event()

    def register(self, spec: Spec) -> tuple[int, Signature]:
        """Import a function in a worker; returns its key and signature."""
        self._specs.append(spec)
        key = len(self._specs) - 1
        try:
            return key, self._with_worker(key, lambda worker: worker.signature)
        except WorkerLost as lost:
            raise PluginError(
                f"reward '{spec.name}': {lost.failure.message}\n{lost.failure.traceback or ''}"
            ) from None

    def score(
        self, key: int, signature: Signature, items: Sequence[Item], limits: Limits
    ) -> tuple[list[Outcome], Metrics]:
        """Score items; a batch function gets them all in one call."""
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
                failure = self._score_chunk(call, chunk)
                if failure is None:
                    continue
                rest = [index for index in chunk if call.outcomes[index] is None]
                if call.one_by_one or len(rest) == 1 or signature.style == "batch":
                    # One call at a time: the first one without an outcome is the one that hung. A batch is one call.
                    lost, rest = (rest, []) if signature.style == "batch" else (rest[:1], rest[1:])
                    for index in lost:
                        self._give_up(call, index, failure)
                    if rest:
                        chunks.appendleft(rest)
                else:  # concurrent awaits: which one blocked is unknown, so each goes alone
                    chunks.extend([index] for index in rest)

        self._each(drain, min(self._size, len(chunks)))
        return [outcome or failed("crash", "not scored") for outcome in call.outcomes], call.metrics

    def check(self, key: int, rows: Sequence[dict[str, Any]], timeout_s: float) -> list[str | None]:
        """What is wrong with each row's answer, or None; `timeout_s` is the limit for one row."""
        try:
            return self._with_worker(key, lambda worker: worker.check(rows, timeout_s))
        except WorkerLost as lost:
            return [f"check_gold: {lost.failure.message}"] * len(rows)

    def close(self) -> None:
        """End all workers. Calls under way finish first."""
        if self._closed.is_set() or os.getpid() != self._pid:
            return
        self._closed.set()
        self._threads.shutdown(wait=True)
        for _ in range(self._size):
            self._free.acquire()
        for worker in self._idle:
            worker.close()
        for _ in range(self._size):  # whoever still waits is told that the pool is closed
            self._free.release()

    def _each(self, work: Callable[[], None], times: int) -> None:
        if times <= 1:
            work()
            return
        for future in [self._threads.submit(work) for _ in range(times)]:
            future.result()

    def _score_chunk(self, call: _Call, chunk: list[int]) -> Failure | None:
        limits, patience = call.limits_now()

        def work(worker: Worker) -> None:
            for answer in worker.score([call.items[index] for index in chunk], limits, patience):
                call.take(chunk, answer)

        try:
            self._with_worker(call.key, work)
        except WorkerLost as lost:
            if lost.failure.kind == "timeout":
                call.lost_s += limits.timeout_s
            return lost.failure
        except PluginError as error:  # it could be loaded at start; its file has changed since
            return Failure("crash", str(error))
        return None

    def _give_up(self, call: _Call, index: int, failure: Failure) -> None:
        call.outcomes[index] = Outcome(None, {}, failure)
        if failure.kind == "timeout" and call.signature.style == "sample":
            again = Failure("timeout", f"the same text hung before: {failure.message}", failure.traceback)
            with self._lock:
                self._hung[_digest(call.key, call.items[index])] = again

    def _with_worker(self, key: int, work: Callable[[Worker], Any]) -> Any:
        if os.getpid() != self._pid:  # forked since: the workers belong to the parent
            for worker in self._idle:
                worker.forget()
            self._restart()
        with self._free:
            if self._closed.is_set():
                raise RuntimeError("the router is closed")
            worker = self._take(key)
            try:
                result = work(worker)
            except (PluginError, RewardDataError):  # a refused row leaves the worker as it was
                self._give_back(worker)
                raise
            except BaseException:  # answers may still be under way: the worker is of no use
                worker.kill()
                raise
            self._give_back(worker)
            return result

    def _take(self, key: int) -> Worker:
        with self._lock:
            mine = [worker for worker in self._idle if worker.key == key]
            if mine:
                self._idle.remove(mine[-1])
                return mine[-1]
        return Worker(key, self._specs[key], self._start_timeout_s)

    def _give_back(self, worker: Worker) -> None:
        """Keep the worker for the next call; beyond one for each function (or `size`), the longest idle one ends."""
        with self._lock:
            self._idle.append(worker)
            spare = self._idle.pop(0) if len(self._idle) > max(self._size, len(self._specs)) else None
        if spare is not None:
            spare.close()


class _Call:
    """One call of `Pool.score`: what is known so far, and the time that hanging rollouts have taken."""

    def __init__(self, key: int, items: Sequence[Item], limits: Limits, signature: Signature) -> None:
        self.key, self.items, self.signature = key, items, signature
        self.outcomes: list[Outcome | None] = [None] * len(items)
        self.metrics: Metrics = []
        self.lost_s = 0.0
        self._limits = limits

    @property
    def one_by_one(self) -> bool:
        """Whether the worker calls the function for one rollout after the other."""
        return self.signature.style == "sample" and not self.signature.asynchronous

    def limits_now(self) -> tuple[Limits, float]:
        """The limits of the next calls, and how long the parent waits for one."""
        seconds = self._limits.timeout_s
        if self.signature.style == "sample" and self.lost_s >= BUDGET * seconds:
            seconds /= 10
        grace = ASYNC_GRACE_S if self.signature.asynchronous else 0.0
        return Limits(seconds, self._limits.low, self._limits.high), seconds + grace

    def take(self, chunk: Sequence[int], answer: dict[str, Any]) -> None:
        """Take in an answer of a worker that was given the items of `chunk`."""
        if answer.get("done"):
            self.metrics.extend((name, value) for name, value in answer["metrics"])
            return
        failure = answer["failure"] and Failure(**answer["failure"])
        self.outcomes[chunk[answer["index"]]] = Outcome(answer["value"], answer["extra"], failure)


def _digest(key: int, item: Item) -> bytes:
    """What makes a per-sample call the same call again: the function, the row and the text."""
    text = f"{key} {item.row.get('id')!r} {item.text}"
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()

"""Reward functions in worker processes that can be killed: what a plugin does can cost its rollout, not the run.

A Python function that hangs cannot be stopped inside its own process: threads cannot be killed, and signals do
not reach a regular expression or a C extension that never returns. So functions that are not ours run in workers:
fresh interpreters (see `worker.py`), each with one call at a time, killed with all their children when a call
exceeds its limit, and replaced. Built-ins are trusted: they are tested never to hang or raise, and run in process.

    limit of a per-sample function: one rollout        limit of a batch function: one batch
    hang, crash, os._exit, out of memory -> the rollout's Failure; the rest goes on in another worker or a new one
    a batch that fails as a whole        -> its rollouts once more, one by one, for at most two limits of time

The price is about 0.1 ms per call (benchmarks/reward_isolation.py measures it).
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from rewards.calls import Failure, Item, Limits, Outcome, failed
from rewards.errors import PluginError, RewardDataError
from rewards.plugins import Signature

CHUNK = 32  # rollouts sent to a worker at once
ASYNC_GRACE_S = 1.0  # async functions are cancelled at the limit; the process is killed if that did not help
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from rewards.worker import main; main(*map(int, sys.argv[1:3]))"

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
    """One worker process and the socket to it. Not thread-safe: borrowed by one thread at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._dump = tempfile.TemporaryFile()  # noqa: SIM115 lives as long as the process
        fds = (theirs.fileno(), self._dump.fileno())
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *map(str, fds), json.dumps(sys.path)],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a plugin prints belongs to the log, not to our output
            env=environment,
            start_new_session=True,  # its own process group, so that its children die with it
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self.loaded: set[int] = set()

    def load(self, key: int, spec: Spec, timeout_s: float) -> Signature:
        """Import the function in the worker; PluginError if that fails."""
        self._send(("load", key, {"name": spec.name, "style": spec.style, "arguments": spec.arguments}))
        answer = self._receive(timeout_s, f"importing '{spec.name}'")
        if "error" in answer:
            raise PluginError(answer["error"])
        self.loaded.add(key)
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

    def score(
        self, key: int, items: Sequence[Item], limits: Limits, patience: float
    ) -> Iterator[dict[str, Any]]:
        """Answers of the worker as they come, `{"index", "value", …}` per item, at last `{"metrics"}`."""
        self._send(("score", key, list(items), limits, patience))
        while True:
            answer = self._receive(patience, f"a call, limit {limits.timeout_s:g} s,")
            yield answer
            if answer.get("done"):
                return

    def check(self, key: int, rows: Sequence[dict[str, Any]], timeout_s: float) -> list[str | None]:
        """What is wrong with each row's answer, or None."""
        self._send(("check", key, list(rows)))
        found = [self._receive(timeout_s, "checking an answer") for _ in rows]
        self._receive(timeout_s, "checking answers")
        return found

    def kill(self) -> None:
        """End the process and everything it has started."""
        self._connection.close()
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has ended between two looks
                pass
            self._process.wait()
        self._dump.close()

    def close(self) -> None:
        """Let the process end by itself, which it does when the socket closes; kill it if it does not."""
        self._connection.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def _send(self, message: Any) -> None:
        try:
            pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        except (
            pickle.PicklingError,
            TypeError,
            AttributeError,
        ) as error:  # what pickle raises, by kind of object
            raise RewardDataError(
                f"a column of a row cannot be sent to a worker process: {error}. Let the function name the columns "
                "that it needs instead of taking them all, or set `isolate: false`."
            ) from None
        try:
            self._connection.send_bytes(pickled)
        except OSError:  # it has died since its last call
            raise WorkerLost(self._died()) from None

    def _receive(self, timeout_s: float, doing: str) -> Any:
        try:
            if not self._connection.poll(timeout_s):
                raise WorkerLost(
                    Failure("timeout", f"{doing} took longer than {timeout_s:g} s", self._where())
                )
            return json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise WorkerLost(self._died()) from None

    def _where(self) -> str:
        """Stack of the worker's main thread: where it hangs."""
        self._process.send_signal(signal.SIGUSR1)
        for _ in range(20):
            time.sleep(0.01)
            if os.fstat(self._dump.fileno()).st_size:
                time.sleep(0.01)
                break
        self._dump.seek(0)
        return self._dump.read().decode(errors="replace")

    def _died(self) -> Failure:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return Failure("crash", "the worker process closed its connection")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return Failure("crash", f"the worker process {how} during the call")


class Pool:
    """Workers shared by all isolated functions of a router. Thread-safe; workers start when first needed."""

    def __init__(self, size: int, start_timeout_s: float) -> None:
        self._size = size
        self._start_timeout_s = start_timeout_s
        self._specs: list[Spec] = []
        self._restart()

    def _restart(self) -> None:
        self._pid = os.getpid()
        self._free = threading.Semaphore(self._size)
        self._idle: list[Worker] = []  # the last one used is the first one used again
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="rewards")
        self._closed = threading.Event()

    def register(self, spec: Spec) -> tuple[int, Signature]:
        """Import a function in a worker; returns its key and signature."""
        self._specs.append(spec)
        key = len(self._specs) - 1
        try:
            return key, self._with_worker(lambda worker: worker.load(key, spec, self._start_timeout_s))
        except WorkerLost as lost:
            raise PluginError(
                f"reward '{spec.name}': {lost.failure.message}\n{lost.failure.traceback or ''}"
            ) from None

    def score(
        self, key: int, signature: Signature, items: Sequence[Item], limits: Limits
    ) -> tuple[list[Outcome], Metrics]:
        """Score items; a batch function gets them all in one call."""
        outcomes: list[Outcome | None] = [None] * len(items)
        metrics: Metrics = []
        concurrent = signature.style == "sample" and not signature.asynchronous
        patience = limits.timeout_s + (ASYNC_GRACE_S if signature.asynchronous else 0.0)
        if concurrent:
            size = max(1, min(CHUNK, -(-len(items) // (2 * self._size))))
        else:
            size = max(1, len(items))
        chunks = deque([list(range(i, min(i + size, len(items)))) for i in range(0, len(items), size)])

        def drain() -> None:
            while True:
                try:
                    chunk = chunks.popleft()
                except IndexError:
                    return
                failure = self._score_chunk(key, chunk, items, limits, patience, outcomes, metrics)
                if failure is None:
                    continue
                left = [index for index in chunk if outcomes[index] is None]
                if concurrent or len(left) == 1 or signature.style == "batch":
                    # One call at a time: the first one without an outcome is the one that hung. A batch is one call.
                    lost, left = (left, []) if signature.style == "batch" else (left[:1], left[1:])
                    for index in lost:
                        outcomes[index] = Outcome(None, {}, failure)
                    if left:
                        chunks.appendleft(left)
                else:  # concurrent awaits: which one blocked is unknown, so each goes alone
                    chunks.extend([index] for index in left)

        self._each(drain, min(self._size, len(chunks)))
        return [outcome or failed("crash", "not scored") for outcome in outcomes], metrics

    def check(self, key: int, rows: Sequence[dict[str, Any]], timeout_s: float) -> list[str | None]:
        """What is wrong with each row's answer, or None; `timeout_s` is the limit for one row."""
        try:
            return self._with_worker(lambda worker: self._ready(worker, key).check(key, rows, timeout_s))
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
        if times == 1:
            work()
            return
        for future in [self._threads.submit(work) for _ in range(times)]:
            future.result()

    def _score_chunk(
        self,
        key: int,
        chunk: list[int],
        items: Sequence[Item],
        limits: Limits,
        patience: float,
        outcomes: list[Outcome | None],
        metrics: Metrics,
    ) -> Failure | None:
        def work(worker: Worker) -> None:
            self._ready(worker, key)
            for answer in worker.score(key, [items[index] for index in chunk], limits, patience):
                if answer.get("done"):
                    metrics.extend((name, value) for name, value in answer["metrics"])
                else:
                    failure = answer["failure"] and Failure(**answer["failure"])
                    outcomes[chunk[answer["index"]]] = Outcome(answer["value"], answer["extra"], failure)

        try:
            self._with_worker(work)
        except WorkerLost as lost:
            return lost.failure
        except PluginError as error:  # it could be loaded at start; its file has changed since
            return Failure("crash", str(error))
        return None

    def _ready(self, worker: Worker, key: int) -> Worker:
        if key not in worker.loaded:
            worker.load(key, self._specs[key], self._start_timeout_s)
        return worker

    def _with_worker(self, work: Callable[[Worker], Any]) -> Any:
        if os.getpid() != self._pid:  # forked since: the workers belong to the parent
            self._restart()
        with self._free:
            if self._closed.is_set():
                raise RuntimeError("the router is closed")
            try:
                worker = self._idle.pop()  # atomic, as append is
            except IndexError:
                worker = Worker()
            try:
                result = work(worker)
            except (PluginError, RewardDataError):  # a refused import or row leaves the worker as it was
                self._idle.append(worker)
                raise
            except BaseException:  # answers may still be under way: the worker is of no use
                worker.kill()
                raise
            self._idle.append(worker)
            return result

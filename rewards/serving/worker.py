"""One worker process as its pool sees it: requests, answers, and why there is no answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rewards.errors import PluginError, RewardDataError
from rewards.serving import wire
from rewards.serving.items import Failure, Item, Limits, Metrics, Outcome
from rewards.serving.process import Child, Late, Lost
from rewards.serving.signatures import Signature

CPU_WALL_FACTOR, CPU_WALL_S = 20.0, 60.0
"""Elapsed time allowed for an item with a limit of processor time: this multiple of the limit, but at least CPU_WALL_S."""
SLOW = 0.25
"""Fraction of its limit of processor time after which an item probably hangs."""
ASYNC_GRACE_S = 1.0  # async functions are cancelled at the limit; the worker is killed if that does not help
ORPHAN_GRACE_S = 60.0  # a worker whose parent has died ends this long after its limit
_IMPORTING = "<frozen importlib._bootstrap>"
_IMPORT_POLL_S = 0.5  # how often a late worker is checked for still importing


@dataclass(frozen=True)
class Spec:
    """The function that a worker runs. `recycle_after`: number of items after which a worker is replaced."""

    name: str
    style: str = "auto"
    arguments: dict[str, Any] = field(default_factory=dict)
    recycle_after: int | None = None


class WorkerLost(Exception):
    """The worker did not answer in time, or died."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Worker:
    """One worker process with one function. Not thread-safe: used by one thread at a time."""

    def __init__(self, key: int, spec: Spec, start_timeout_s: float) -> None:
        """Start the process; `signature` waits until it has loaded the function."""
        self.key, self.spec = key, spec
        self.items = 0
        self._start_timeout_s = start_timeout_s
        self._signature: Signature | None = None
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        try:
            load = wire.dumps({"load": {"name": spec.name, "style": spec.style, "arguments": spec.arguments}})
        except TypeError as error:
            raise PluginError(f"reward '{spec.name}': an argument cannot be used here: {error}") from None
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        self.child = Child("rewards.serving.worker_main", {"OMP_NUM_THREADS": threads})
        try:
            self._send(load, start_timeout_s)
        except WorkerLost:  # `signature` says so
            pass

    def signature(self) -> Signature:
        """The function's signature, once it is loaded. Raises PluginError (and kills the process) if it cannot be."""
        if self._signature is None:
            try:
                answer = self._receive(
                    self._start_timeout_s, "starting the worker and importing the function"
                )
            except WorkerLost as lost:
                self.child.kill()
                text = f"reward '{self.spec.name}': {lost.failure.message}\n{lost.failure.traceback or ''}"
                raise PluginError(text.strip()) from None
            if "error" in answer:
                self.child.kill()
                raise PluginError(answer["error"])
            self._signature = wire.signature_from_json(answer["signature"])
        return self._signature

    def alive(self) -> bool:
        """Whether the process is running."""
        return self.child.process.poll() is None

    def score(
        self,
        items: Sequence[Item],
        limits: Limits,
        emit: Callable[[int, Outcome], None],
        slow: Callable[[], None],
    ) -> Metrics:
        """Score items, calling `emit(index, outcome)` as each result arrives; returns the logged metrics.

        slow: called when an item has taken SLOW of its limit of processor time.
        """
        signature = self.signature()
        patience = limits.timeout_s + (ASYNC_GRACE_S if signature.asynchronous else 0.0)
        if limits.clock == "cpu":
            patience = max(CPU_WALL_S, CPU_WALL_FACTOR * limits.timeout_s)
        alive_s = max(patience, self._start_timeout_s) + ORPHAN_GRACE_S
        sent = [wire.item_to_json(str(index), item, signature) for index, item in enumerate(items)]
        message = _encoded({"score": sent, "limits": asdict(limits), "alive_s": alive_s})
        self._send(message, patience)
        self.items += len(items)
        doing = f"a call, limit {limits.timeout_s:g} s,"
        while True:
            if limits.clock == "cpu" and self._is_slow(SLOW * limits.timeout_s):
                slow()
            answer = self._receive(patience, doing, self._start_timeout_s)
            try:
                if "done" in answer:
                    return [(str(name), float(value)) for name, value in answer["metrics"]]
                emit(int(answer["key"]), wire.outcome_from_json(answer))
            except (
                KeyError,
                IndexError,
                TypeError,
                ValueError,
            ):  # the function has patched modules that we use
                raise WorkerLost(Failure("crash", "the worker process sent an unexpected answer")) from None

    def check(self, rows: Sequence[dict[str, Any]], timeout_s: float) -> list[str | None]:
        """What is wrong with each row's answer, or None."""
        self._send(_encoded({"check": list(rows)}), timeout_s)
        found = [self._receive(timeout_s, "checking an answer")["problem"] for _ in rows]
        self._receive(timeout_s, "checking answers")
        return found

    def _is_slow(self, seconds: float) -> bool:
        try:
            self.child.wait(time.monotonic() + seconds)
        except Late:
            return True
        except Lost:  # `_receive` raises it again
            pass
        return False

    def _send(self, message: bytes, timeout_s: float) -> None:
        try:
            self.child.ask(message, time.monotonic() + timeout_s + self._start_timeout_s)
        except Late:
            raise WorkerLost(Failure("timeout", "the worker process does not read its requests")) from None
        except Lost as lost:
            raise WorkerLost(self._failure(lost)) from None

    def _receive(self, timeout_s: float, doing: str, importing_s: float = 0.0) -> Any:
        """The next answer. importing_s: extra time granted while the worker is importing."""
        try:
            return wire.loads(self._next(time.monotonic() + timeout_s, importing_s))
        except Late:
            stack = self.child.stack()
            raise WorkerLost(Failure("timeout", f"{doing} took longer than {timeout_s:g} s", stack)) from None
        except Lost as lost:
            raise WorkerLost(self._failure(lost)) from None
        except ValueError:
            raise WorkerLost(Failure("crash", "the worker process sent an answer that is not JSON")) from None

    def _next(self, deadline: float, importing_s: float) -> bytes:
        last = deadline + importing_s
        while True:
            try:
                return self.child.answer(deadline)
            except Late:
                if deadline >= last or _IMPORTING not in self.child.stack():
                    raise
                deadline = min(last, time.monotonic() + _IMPORT_POLL_S)

    def _failure(self, lost: Lost) -> Failure:
        if self.child.ended_by == signal.SIGPROF:
            return Failure("too_expensive", "took more than its limit of processor time")
        return Failure("crash", str(lost))


def _encoded(message: dict[str, Any]) -> bytes:
    try:
        return wire.dumps(message)
    except Exception as error:  # noqa: BLE001  an object's own methods may raise anything
        raise RewardDataError(
            f"a column of a row cannot be sent to a worker process: {error}. Let the function name the columns "
            "that it needs instead of taking them all, or set `isolate: false`."
        ) from None

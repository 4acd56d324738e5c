"""Worker processes in which tools and environments of users run: a call that hangs or crashes costs a turn, not the run.

The processes are those of the rewards (`rewards.serving.process`): fresh interpreters that are killed, with everything that
they started, when a call exceeds its limit, and replaced. A worker keeps nothing between calls but what it has loaded; an
environment's state travels with every call, so any worker can answer any episode.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from core.errors import PluginError
from environments.types import CallError
from rewards.serving import wire
from rewards.serving.process import Child, Late, Lost

ANSWERED = "answer"


class Workers:
    """At most `size` processes with some plugins loaded, started when first needed. Thread-safe.

    load: what each loads (`worker_main`). what: its name in messages. start_s: time limit of starting one.
    """

    def __init__(self, load: Mapping[str, Any], what: str, *, size: int, start_s: float = 120.0) -> None:
        self._load = {"load": dict(load)}
        self._what = what
        self._start_s = start_s
        self._free: queue.LifoQueue[Child | None] = queue.LifoQueue()  # None: a process that is not started
        for _ in range(size):
            self._free.put(None)
        self._closed = threading.Event()
        self._size = size

    def describe(self) -> Any:
        """What a worker says of the plugins that it has loaded. Raises PluginError if it cannot load one."""
        child, described = self._start()
        self._free.get()
        self._free.put(child)
        return described

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> Any:
        """The answer to one request. Raises CallError if it fails, late if it exceeds its limit; PluginError if no process
        can be started."""
        try:
            message = wire.dumps(request)
        except TypeError as error:
            raise CallError(f"cannot be called: {error}") from None
        child = self._free.get()
        try:
            if child is None:
                child, _ = self._start()
            try:
                answer = _exchange(child, message, timeout_s)
            except Late:
                raise self._lost(child, f"took longer than {timeout_s:g} s", late=True) from None
            except (Lost, ValueError, KeyError, TypeError):  # died, or sent something that is no answer
                raise self._lost(child, "failed: its process ended") from None
        except CallError:
            child = None
            raise
        except BaseException:
            if child is not None:
                child.kill()
            child = None
            raise
        finally:
            self._free.put(child)
        if "error" in answer:
            raise CallError(str(answer["error"]))
        return answer[ANSWERED]

    def close(self) -> None:
        """End all processes; calls in progress finish first."""
        if self._closed.is_set():
            return
        self._closed.set()
        for child in [self._free.get() for _ in range(self._size)]:
            if child is not None:
                child.close()

    def _start(self) -> tuple[Child, Any]:
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        child = Child("environments.worker_main", {"OMP_NUM_THREADS": threads})
        try:
            answer = _exchange(child, wire.dumps(self._load), self._start_s)
        except Late:
            child.kill()
            raise PluginError(f"{self._what}: loading it took longer than {self._start_s:g} s") from None
        except Lost as lost:
            child.kill()
            raise PluginError(f"{self._what}: {lost}") from None
        if "error" in answer:
            child.kill()
            raise PluginError(answer["error"])
        return child, answer[ANSWERED]

    def _lost(self, child: Child, what: str, *, late: bool = False) -> CallError:
        child.kill()
        return CallError(what, late=late)


def _exchange(child: Child, message: bytes, timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    child.ask(message, deadline)
    answer = wire.loads(child.answer(deadline))
    if not isinstance(answer, dict) or not ({ANSWERED, "error"} & set(answer)):
        raise ValueError("no answer")
    return answer

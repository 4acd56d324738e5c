"""What runs in a worker process: it loads one reward function and calls it until its parent closes the socket.

A worker is a fresh interpreter, never a fork of the trainer: it holds no CUDA context, no engine and no locks of other
threads, and imports nothing heavy unless its function does. The function runs in the main thread, so functions that use
signals for time limits of their own work. One function per worker, so that what it patches or changes (modules, environment,
signals) affects no other.

Requests, as JSON (`wire.py`) over the socket of `process.py`, and their answers:

    {"load": {"name", "style", "arguments"}}      {"signature"} or {"error"}
    {"score": [item, …], "limits", "alive_s"}     one result per item as it is known, at last {"done", "metrics"}
    {"check": [row, …]}                           {"problem"} per row, at last {"done"}
"""

from __future__ import annotations

import faulthandler
import os
import signal
from dataclasses import asdict
from typing import Any

from rewards.errors import PluginError
from rewards.serving import wire
from rewards.serving.calls import Waiter, check_gold, execute
from rewards.serving.items import Limits, Outcome
from rewards.serving.plugins import bind
from rewards.serving.process import Parent
from rewards.serving.signatures import Bound


def main(socket_fd: int, dump_fd: int) -> None:
    """Serve requests on the socket `socket_fd`; on SIGUSR1 write the stack to `dump_fd`."""
    # A C-level handler, which works even while an extension holds the interpreter's lock.
    faulthandler.register(signal.SIGUSR1, file=dump_fd, all_threads=False)
    os.set_inheritable(dump_fd, False)
    parent = Parent(socket_fd)
    home = os.getcwd()
    bound: Bound | None = None
    waiter = Waiter()
    while (message := parent.request()) is not None:
        request = wire.loads(message)
        if "load" in request:
            try:
                bound = bind(**request["load"])
                _answer(parent, {"signature": asdict(bound.signature)})
            except PluginError as error:
                _answer(parent, {"error": str(error)})
            continue
        assert bound is not None, "the parent loads a function first"
        if "score" in request:
            _score(parent, bound, request, waiter, home)
        else:
            for row in request["check"]:
                _answer(parent, {"problem": check_gold(bound, row)})
            _answer(parent, {"done": True})
    os.killpg(0, signal.SIGKILL)  # ends this process and everything that it started


def _score(parent: Parent, bound: Bound, request: dict[str, Any], waiter: Waiter, home: str) -> None:
    keys, items = zip(*(wire.item_from_json(found) for found in request["score"]), strict=True)
    limits = Limits(**request["limits"])
    cpu_s = limits.timeout_s if limits.clock == "cpu" else 0.0

    def emit(index: int, outcome: Outcome) -> None:
        _set_alarms(request["alive_s"], cpu_s)
        os.chdir(home)  # the function may have changed the directory
        _answer(parent, wire.outcome_to_json(keys[index], outcome))

    # The parent kills a worker that is late. If the parent has died, the kernel ends the worker at `alive_s`; it also ends an
    # item that has used up its processor time.
    _set_alarms(request["alive_s"], cpu_s)
    metrics = execute(bound, items, limits, emit, waiter)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_PROF, 0)
    _answer(parent, {"done": True, "metrics": metrics})


def _set_alarms(wall_s: float, cpu_s: float) -> None:
    """Die after `wall_s` of elapsed time, and after `cpu_s` of this process's processor time; 0 = no limit."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the function may have set a handler of its own
    signal.setitimer(signal.ITIMER_REAL, wall_s)
    if cpu_s:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _answer(parent: Parent, message: Any) -> None:
    parent.answer(wire.dumps(message))

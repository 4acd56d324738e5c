"""The worker process of `rewards.isolation`: loads reward functions and calls them until its parent is gone.

Started as a fresh interpreter, never forked from the trainer: it holds no CUDA context, no engine, no locks of
other threads, imports nothing heavy unless a plugin does, and the functions run in its main thread (so plugins
that use signals for their own time-outs work).

Requests come pickled from the parent over a socket, ("load", key, spec) | ("score", key, items, limits, patience)
| ("check", key, rows); answers go back as JSON, one per item and one at the end, so that the parent never
unpickles anything that passed through a plugin's hands.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import traceback
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from rewards.calls import Limits, Outcome, Waiter, check_gold, execute
from rewards.errors import PluginError
from rewards.plugins import Bound, bind

GRACE_S = 60.0


def main(connection_fd: int, dump_fd: int) -> None:
    """Serve requests on the socket `connection_fd`; on SIGUSR1, write where the process is to `dump_fd`."""
    # A C-level handler: it answers even while an extension holds the interpreter's lock.
    faulthandler.register(signal.SIGUSR1, file=dump_fd, all_threads=False)
    connection = Connection(connection_fd)
    functions: dict[int, Bound] = {}
    waiter = Waiter()
    while True:
        try:
            kind, key, *rest = connection.recv()  # pickled by the parent
        except (EOFError, OSError):  # the parent is gone or has closed the pool
            return
        if kind == "load":
            _answer(connection, _load(functions, key, **rest[0]))
        elif kind == "score":
            items, limits, patience = rest
            _score(connection, functions[key], items, limits, patience, waiter)
        else:
            for row in rest[0]:
                _answer(connection, check_gold(functions[key], row))
            _answer(connection, {"done": True})


def _load(
    functions: dict[int, Bound], key: int, name: str, style: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    try:
        functions[key] = bind(name, style, arguments)
    except PluginError as error:
        return {"error": str(error), "traceback": traceback.format_exc()}
    return {"signature": asdict(functions[key].signature)}


def _score(
    connection: Connection,
    bound: Bound,
    items: list[Any],
    limits: Limits,
    patience: float,
    waiter: Waiter,
) -> None:
    def emit(index: int, outcome: Outcome) -> None:
        _dies_after(patience + GRACE_S)
        _answer(connection, {"index": index, **asdict(outcome)})

    # The parent kills a worker that is late. Should the parent itself be gone, a hung function must not go on for
    # ever: the kernel ends the process a minute later.
    _dies_after(patience + GRACE_S)
    metrics = execute(bound, items, limits, emit, waiter)
    signal.setitimer(signal.ITIMER_REAL, 0)
    _answer(connection, {"done": True, "metrics": metrics})


def _dies_after(seconds: float) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _answer(connection: Connection, message: Any) -> None:
    connection.send_bytes(json.dumps(message, default=repr, skipkeys=True).encode())

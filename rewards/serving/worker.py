"""The worker process of `rewards.serving.isolation`: loads reward functions and calls them until its parent is gone.

Started as a fresh interpreter, never forked from the trainer: it holds no CUDA context, no engine, no locks of
other threads, imports nothing heavy unless a plugin does, and the functions run in its main thread (so plugins
that use signals for their own time-outs work).

A worker holds one function, so that what a plugin patches, sets or changes (modules, environment, signals) touches no
other. Requests come pickled from the parent over a socket (`process.py`), ("load", spec) | ("score", items, limits,
patience) | ("check", rows); answers go back as JSON, one per item and one at the end, so that the parent never unpickles
anything that passed through a plugin's hands.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import signal
import traceback
from dataclasses import asdict
from typing import Any

from rewards.errors import PluginError
from rewards.serving.calls import Limits, Outcome, Waiter, check_gold, execute
from rewards.serving.plugins import Bound, bind
from rewards.serving.process import Answering, end_group

GRACE_S = 60.0


def main(socket_fd: int, dump_fd: int) -> None:
    """Serve requests on the socket `socket_fd`; on SIGUSR1, write where the process is to `dump_fd`."""
    # A C-level handler: it answers even while an extension holds the interpreter's lock.
    faulthandler.register(signal.SIGUSR1, file=dump_fd, all_threads=False)
    os.set_inheritable(dump_fd, False)
    parent = Answering(socket_fd)
    home = os.getcwd()
    bound: Bound | None = None
    waiter = Waiter()
    while (message := parent.request()) is not None:
        kind, *rest = pickle.loads(message)  # noqa: S301 pickled by the parent
        if kind == "load":
            bound, said = _load(**rest[0])
            _answer(parent, said)
            continue
        assert bound is not None, "the parent loads a function first"
        if kind == "score":
            _score(parent, bound, *rest, waiter=waiter, home=home)
        else:
            for row in rest[0]:
                _answer(parent, check_gold(bound, row))
            _answer(parent, {"done": True})
    end_group()  # the parent is gone or has closed the pool


def _load(name: str, style: str, arguments: dict[str, Any]) -> tuple[Bound | None, dict[str, Any]]:
    try:
        bound = bind(name, style, arguments)
    except PluginError as error:
        return None, {"error": str(error), "traceback": traceback.format_exc()}
    return bound, {"signature": asdict(bound.signature)}


def _score(
    parent: Answering,
    bound: Bound,
    items: list[Any],
    limits: Limits,
    patience: float,
    *,
    waiter: Waiter,
    home: str,
) -> None:
    def emit(index: int, outcome: Outcome) -> None:
        _dies_after(patience + GRACE_S)
        os.chdir(home)  # a function may have gone elsewhere; the next call begins where the first did
        _answer(parent, {"index": index, **asdict(outcome)})

    # The parent kills a worker that is late. Should the parent itself be gone, a hung function must not go on for
    # ever: the kernel ends the process a minute later.
    _dies_after(patience + GRACE_S)
    metrics = execute(bound, items, limits, emit, waiter)
    signal.setitimer(signal.ITIMER_REAL, 0)
    _answer(parent, {"done": True, "metrics": metrics})


def _dies_after(seconds: float) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _answer(parent: Answering, message: Any) -> None:
    parent.answer(json.dumps(message, default=repr, skipkeys=True).encode())

"""Ends a process that hangs, and reports in which operation.

    with operation("generate", limit_s=3600):
        …

A rank that was stopped, or killed without its connections being closed, leaves the others waiting inside a collective,
where no Python code of theirs runs. So a thread watches the clock: when an operation exceeds its limit, it prints rank,
operation, what the other ranks are doing (signs_of_life.py), and the stacks of all threads, and ends the process with exit
code STALLED.

An error that passes through an operation carries rank and operation as a note; one that says that another rank is gone
becomes RankLost. If a collective's own time limit reports the wait first, the exit code is STALLED as well.
"""

from __future__ import annotations

import faulthandler
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.errors import RunError
from core.processes.signs_of_life import first_line, others, rank, ranks, tell

STALLED = 75  # EX_TEMPFAIL: try again
_CONNECTION = re.compile(r"gloo|NCCL|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)
_TIMED_OUT = re.compile(r"timed out|time-?out", re.IGNORECASE)


class RankLost(RunError):
    """Another process of the run is gone, or does not answer; the message names this rank and what it was doing.

    exit_code: STALLED where the wait for it timed out, 1 where its connection was closed.
    """

    exit_code = 1


@dataclass(eq=False)
class _Operation:
    name: str
    limit_s: float
    deadline: float
    detail: str = ""

    def __str__(self) -> str:
        return f"'{self.name}'" + (f" ({self.detail})" if self.detail else "")


_running: list[_Operation] = []  # outermost first
_changed = threading.Condition()
_threads: list[threading.Thread] = []


@contextmanager
def operation(name: str, limit_s: float) -> Iterator[None]:
    """Within the block this process is busy with `name`, for at most `limit_s` seconds; operations may be nested. For the
    main thread alone.

    Raises RankLost if an error of the block says that another process is gone.
    """
    mine = _Operation(name, limit_s, time.monotonic() + limit_s)
    _start()
    with _changed:
        _running.append(mine)
        _changed.notify_all()
    tell(f"in {mine}")
    try:
        yield
    except Exception as error:
        inner = _running[-1]  # an operation of callbacks (sft/progress.py) is still open
        if is_lost_connection(error):
            inner.deadline = mine.deadline = math.inf  # asking the others takes a while
            raise rank_lost(error, str(inner)) from error
        if ranks() > 1 and not isinstance(error, RankLost) and not _noted(error):
            error.add_note(f"({_me()}, in {inner})")
        raise
    finally:
        with _changed:
            if mine in _running:  # with those that callbacks began inside and an error has left open
                del _running[_running.index(mine) :]
            outer = _running[-1] if _running else None
            _changed.notify_all()
        tell(f"in {outer}" if outer else f"after {mine}")


def renew(detail: str) -> None:
    """The innermost operation has got as far as `detail`: its limit counts from now on."""
    with _changed:
        if not _running:
            return
        now = _running[-1]
        now.detail, now.deadline = detail, time.monotonic() + now.limit_s
        _changed.notify_all()
    tell(f"in {now}")


def is_lost_connection(error: BaseException) -> bool:
    """Whether `error`, of one of several processes, says that another one is gone or does not answer."""
    torch = sys.modules.get("torch")
    if ranks() == 1 or torch is None or not isinstance(error, RuntimeError) or isinstance(error, RankLost):
        return False
    text = str(error)
    return isinstance(error, torch.distributed.DistError) or bool(
        _CONNECTION.search(text) or re.search("timed out waiting", text, re.IGNORECASE)
    )


def rank_lost(error: BaseException, doing: str) -> RankLost:
    """The RankLost to raise from `error`, which came while this rank was `doing`; from now on the process ends soon."""
    end_soon()
    lost = RankLost(f"{_me()}: {doing} failed: {first_line(error)}\n{others()}")
    if _TIMED_OUT.search(str(error)):
        lost.exit_code = STALLED
    return lost


def end_soon(seconds: float = 60) -> None:
    """Called on the way out after an error: the process ends within `seconds`, whatever its clean-up waits for."""
    faulthandler.dump_traceback_later(seconds, exit=True)


def _start() -> None:
    with _changed:
        if not _threads:
            _threads.append(threading.Thread(target=_watch, name="watchdog", daemon=True))
            _threads[0].start()


def _watch() -> None:
    """The thread that waits for the next deadline."""
    while True:
        with _changed:
            due = min(_running, key=lambda o: o.deadline, default=None)
            left = None if due is None else due.deadline - time.monotonic()
            if left is None or left > 0:
                _changed.wait(None if left is None else min(left, 3600.0))
                continue
        if due is not None:
            _stop(due)


def _stop(late: _Operation) -> None:
    """Report what took too long, and exit without clean-up, which would hang as well."""
    within = " > ".join(map(str, list(_running)))
    print(
        f"\nerror: {_me()}: {late} took longer than its limit of {late.limit_s:g} s (in {within})",
        file=sys.stderr,
    )
    if ranks() > 1:
        print(others(), file=sys.stderr)
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    os._exit(STALLED)


def _noted(error: BaseException) -> bool:
    return any(note.startswith(f"({_me()}") for note in getattr(error, "__notes__", ()))


def _me() -> str:
    return f"rank {rank()} of {ranks()}" if ranks() > 1 else "this process"

"""Ends a process that waits for ever, and says for what.

    with operation("generate", limit_s=3600):
        …

A rank that was stopped, or killed without its connections being closed, leaves the others waiting inside a collective,
where no Python code of theirs runs. So a thread watches the clock: when an operation exceeds its limit, it prints rank,
operation, what the other ranks are in, and the stacks of all threads, and ends the process with exit code STALLED.

What other ranks are in is known from signs of life: every rank with peers writes its operation and a growing number to
the rendezvous store of torch.distributed every few seconds. Nothing depends on it but the message.

An error that passes through an operation carries rank and operation as a note; one that says that another rank is gone
becomes RankLost.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from core.errors import RunError

STALLED = 75  # EX_TEMPFAIL: try again
BEAT_S = 2.0
"""Seconds between two signs of life."""
ASK_S = 10.0
"""Longest wait for the store, when other ranks are asked for."""
_CONNECTION = re.compile(
    r"gloo|NCCL|connection (closed|reset|refused)|timed out waiting|broken pipe", re.IGNORECASE
)


class RankLost(RunError):
    """Another process of the run is gone, or does not answer; the message names this rank and what it was doing."""


@dataclass(eq=False)
class _Operation:
    name: str
    limit_s: float
    began: float
    deadline: float
    detail: str = ""

    def __str__(self) -> str:
        return f"'{self.name}'" + (f" ({self.detail})" if self.detail else "")


_running: list[_Operation] = []  # outermost first
_changed = threading.Condition()
_threads: dict[str, threading.Thread] = {}


@contextmanager
def operation(name: str, limit_s: float) -> Iterator[None]:
    """Within the block this process is busy with `name`, for at most `limit_s` seconds; operations may be nested. For the
    main thread alone.

    Raises RankLost if an error of the block says that another process is gone.
    """
    now = time.monotonic()
    mine = _Operation(name, limit_s, now, now + limit_s)
    _start()
    with _changed:
        _running.append(mine)
        _changed.notify_all()
    try:
        yield
    except Exception as error:
        if _ranks() > 1 and not isinstance(error, RankLost):
            inner = _running[-1]  # an operation of callbacks (sft/progress.py) is still open
            if _is_lost_connection(error):
                end_soon()
                inner.deadline = mine.deadline = math.inf  # asking the others takes a while
                raise RankLost(f"{_me()}: {inner} failed: {_first_line(error)}\n{_others()}") from error
            if not any(note.startswith(f"({_me()}") for note in getattr(error, "__notes__", ())):
                error.add_note(f"({_me()}, in {inner})")
        raise
    finally:
        with _changed:
            if mine in _running:  # with those that callbacks began inside and an error has left open
                del _running[_running.index(mine) :]
            _changed.notify_all()


def renew(detail: str) -> None:
    """The innermost operation has got as far as `detail`: its limit counts from now on."""
    with _changed:
        if _running:
            now = _running[-1]
            now.detail, now.deadline = detail, time.monotonic() + now.limit_s
            _changed.notify_all()


def end_soon(seconds: float = 60) -> None:
    """Called on the way out after an error: the process ends within `seconds`, whatever its clean-up waits for."""
    faulthandler.dump_traceback_later(seconds, exit=True)


def _start() -> None:
    with _changed:
        if "watch" not in _threads:
            _threads["watch"] = threading.Thread(target=_watch, name="watchdog", daemon=True)
            _threads["watch"].start()
        if _ranks() > 1 and "beat" not in _threads:
            _threads["beat"] = threading.Thread(target=_beat, name="signs of life", daemon=True)
            _threads["beat"].start()


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
    """Say what took too long, and leave without any clean-up, which would wait for the same thing."""
    within = " > ".join(map(str, list(_running)))
    print(
        f"\nerror: {_me()}: {late} took longer than its limit of {late.limit_s:g} s (in {within})",
        file=sys.stderr,
    )
    if _ranks() > 1:
        print(_others(), file=sys.stderr)
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    os._exit(STALLED)


# Signs of life


def _beat() -> None:
    """The thread that tells the others what this rank is in, until the store is gone."""
    store, beats = None, 0
    while True:
        try:
            if store is None and _joined():
                store = _store()
            if store is not None:
                beats += 1
                store.set(f"onsight/alive/{_rank()}", json.dumps([beats, *_doing()]))
        except RuntimeError:  # the process that holds the store has left; it will be missed elsewhere
            store = None
        time.sleep(BEAT_S)


def _doing() -> tuple[str, float]:
    """The innermost operation and how many seconds it has taken."""
    with _changed:
        if not _running:
            return "no operation", 0.0
        return str(_running[-1]), time.monotonic() - _running[-1].began


def _others() -> str:
    """What the other ranks are in, one line each; asked in a thread, since a stopped process may hold the store."""
    lines = {rank: f"  rank {rank}: not known" for rank in range(_ranks()) if rank != _rank()}
    if _joined():
        asking = threading.Thread(target=_ask, args=(lines,), daemon=True)
        asking.start()
        asking.join(ASK_S)
        if asking.is_alive():
            return f"rank 0, or the launcher, which keeps the rendezvous, does not answer\n{_listed(lines)}"
    return _listed(lines)


def _ask(lines: dict[int, str]) -> None:
    try:
        store = _store()
        before = {rank: _last_sign(store, rank) for rank in lines}
        time.sleep(2.5 * BEAT_S)
        for rank, earlier in before.items():
            now = _last_sign(store, rank)
            if now is None or earlier is None:
                lines[rank] = f"  rank {rank}: no sign of life so far"
                continue
            beats, name, seconds = now
            state = "alive" if beats > earlier[0] else "no sign of life (stopped or dead)"
            lines[rank] = f"  rank {rank}: {state}, in {name} for {seconds:.0f} s"
    except RuntimeError as error:
        for rank in lines:
            lines[rank] = (
                f"  rank {rank}: not known, the rendezvous store does not answer ({_first_line(error)})"
            )


def _last_sign(store: Any, rank: int) -> tuple[int, str, float] | None:
    key = f"onsight/alive/{rank}"
    return tuple(json.loads(store.get(key))) if store.check([key]) else None


def _store() -> Any:
    """A connection of its own to the store that torch.distributed meets at."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=ASK_S))


def _joined() -> bool:
    torch = sys.modules.get("torch")
    return bool(torch and torch.distributed.is_initialized() and "MASTER_PORT" in os.environ)


def _is_lost_connection(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.distributed.DistError) or bool(_CONNECTION.search(str(error)))


def _listed(lines: dict[int, str]) -> str:
    return "\n".join(lines.values())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _ranks() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _me() -> str:
    return f"rank {_rank()} of {_ranks()}" if _ranks() > 1 else "this process"

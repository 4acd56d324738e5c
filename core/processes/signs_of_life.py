"""What every process of a run is doing, readable by the others when one of them stops answering.

Each rank of a multi-process run writes its current operation and a counter to the rendezvous store of torch.distributed:
whenever the operation changes, and every `BEAT_S` seconds from a thread. A rank whose counter no longer changes is
stopped or dead, and its last entry names the operation. Only error messages depend on it.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

BEAT_S = 2.0
"""Seconds between two heartbeats."""
ASK_S = 10.0
"""Longest wait for the store, when other ranks are asked for."""


@dataclass(eq=False)
class _Signs:
    """What this rank last told the others. doing: "in 'sync'", since the time `since`."""

    doing: str = "before the first operation"
    since: float = field(default_factory=time.monotonic)
    beats: int = 0
    store: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None
    over: threading.Event = field(default_factory=threading.Event)


_mine = _Signs()


def tell(doing: str) -> None:
    """This rank is now `doing` ("in 'sync'"); the others can read it when this returns, once the ranks have joined."""
    if ranks() == 1:
        return
    _mine.doing, _mine.since = doing, time.monotonic()
    if _mine.thread is None:
        _mine.thread = threading.Thread(target=_beat, name="signs of life", daemon=True)
        _mine.thread.start()
        atexit.register(_end)
    if _mine.lock.acquire(timeout=1.0):  # the thread may be waiting for the store; then it sends this next
        try:
            _send()
        finally:
            _mine.lock.release()


def _beat() -> None:
    """The thread that shows that this process runs."""
    while not _mine.over.wait(BEAT_S):
        with _mine.lock:
            _send()


def _end() -> None:
    """The thread is over before the interpreter is: one that comes back from the store's C++ code after that is ended inside
    it, which aborts the process ("terminate called without an active exception")."""
    _mine.over.set()
    if _mine.thread is not None:
        _mine.thread.join(ASK_S)


def _send() -> None:
    try:
        if _mine.store is None and joined():
            _mine.store = _connection()
        if _mine.store is not None:
            _mine.beats += 1
            sign = json.dumps([_mine.beats, _mine.doing, time.monotonic() - _mine.since])
            _mine.store.set(
                _key(rank()), sign
            )  # sent, not answered: microseconds, even where rank 0 is stopped
    except RuntimeError:  # the process that holds the store has left; its end is reported elsewhere
        _mine.store = None


def others() -> str:
    """What the other ranks are doing, one line each. Asked in a thread, since the process with the store may be stopped."""
    lines = {r: f"  rank {r}: not known" for r in range(ranks()) if r != rank()}
    if joined():
        asking = threading.Thread(target=_ask, args=(lines,), daemon=True)
        asking.start()
        asking.join(ASK_S)
        if asking.is_alive():
            return f"rank 0, or the launcher, which keeps the rendezvous, does not answer\n{_listed(lines)}"
    return _listed(lines)


def _ask(lines: dict[int, str]) -> None:
    try:
        store = _connection()
        before = {r: _last_sign(store, r) for r in lines}
        time.sleep(2.5 * BEAT_S)
        for r, earlier in before.items():
            now = _last_sign(store, r)
            if now is None:
                lines[r] = f"  rank {r}: no sign of life since the processes joined"
                continue
            beats, doing, seconds = now
            alive = earlier is None or beats > earlier[0]
            state = "alive" if alive else "no sign of life (stopped or dead)"
            lines[r] = f"  rank {r}: {state}, {doing} for {seconds:.0f} s"
    except RuntimeError as error:
        for r in lines:
            lines[r] = f"  rank {r}: not known, the rendezvous store does not answer ({first_line(error)})"


def _last_sign(store: Any, rank: int) -> tuple[int, str, float] | None:
    key = _key(rank)
    return tuple(json.loads(store.get(key))) if store.check([key]) else None


def _key(rank: int) -> str:
    return f"onsight/alive/{rank}"


def _connection() -> Any:
    """A connection of its own to the store that torch.distributed meets at."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=ASK_S))


def joined() -> bool:
    """Whether torch.distributed has brought the processes together."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not hasattr(
        distributed, "is_initialized"
    ):  # not imported, or not yet to its end
        return False
    return bool(distributed.is_initialized() and "MASTER_PORT" in os.environ)


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def ranks() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _listed(lines: dict[int, str]) -> str:
    return "\n".join(lines.values())

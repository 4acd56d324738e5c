"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import RunError
from core.processes.ranks import on_main

FILE = ".lock"
PATIENCE = 3.0  # seconds that a killed process may take to release the lock

_held: dict[str, int] = {}  # open lock files of this process, by folder


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock the run folder (created if missing) for the block; RunError names the program that holds it already.

    A POSIX record lock of the main process: the system drops it when the process dies, however it dies, and worker
    processes that were forked from it do not keep it alive, as they would one of flock (which `filelock` uses).
    """
    on_main(lambda: _take(run))
    try:
        yield
    finally:
        if (descriptor := _held.pop(str(run.absolute()), None)) is not None:
            os.close(descriptor)  # and with it the lock


def _take(run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    if str(run.absolute()) in _held:
        raise RunError(f"{run}: this process has a run going on there")
    descriptor = os.open(run / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except (BlockingIOError, PermissionError):
            if time.monotonic() > until:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise RunError(
                    f"{run}: another run is going on in this folder ({holder}); wait for its end, stop it, or choose"
                    " another output_dir"
                ) from None
            time.sleep(0.1)
        except OSError as error:  # some network file systems have no locks
            print(f"{run}: not locked against a second run ({error.strerror})", flush=True)
            break
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    _held[str(run.absolute())] = descriptor


def _holder(descriptor: int) -> str:
    try:
        said = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {said['pid']} on {said['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by an unknown process"

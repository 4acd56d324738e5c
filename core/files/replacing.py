"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from core.files.disk import disk_explained


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that replaces `path` when the block ends, and is deleted if the block fails. It outlives a power cut. One
    writer at a time. RunError where the disk is full."""
    with _renamed(path, path.with_name(f".{path.name}.partial")) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_once(path: Path, content: bytes) -> None:
    """A file named by its content, unless it is there. Any number of processes and threads may write it at the same time."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_together(path) as file:
        file.write(content)


@contextmanager
def writing_together(path: Path) -> Iterator[IO[bytes]]:
    """As `replacing`, for a file that several processes and threads may write at the same time, with the same content."""
    mine = f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial"
    with _renamed(path, path.with_name(mine)) as file:
        yield file


@contextmanager
def _renamed(path: Path, partial: Path) -> Iterator[IO[bytes]]:
    try:
        with disk_explained(path), partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise

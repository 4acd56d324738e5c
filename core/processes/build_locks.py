"""Locks that a killed build of a PyTorch extension has left behind.

DeepSpeed compiles parts of itself at the first start (`torch.utils.cpp_extension`). While one process does, an empty file
`lock` keeps the others waiting; one that is killed meanwhile leaves it there, and every later start hangs
silently. A lock of a running build is recognised by its process, which has the file open.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SETTLE_S = 0.5
"""A build that is just ending has closed the lock and is about to remove it."""
FOREIGN_S = 1800.0
"""On a network file system another machine may hold the lock, which cannot be seen: it is stale after so many seconds."""
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "ceph", "fuse.sshfs", "beegfs", "9p"}


def remove_stale_locks(root: Path | None = None) -> list[Path]:
    """Remove the locks below `root` (that of torch's extensions) which no living process holds, and say so; returns them.

    Locks that are held are named: the run waits for their owners.
    """
    root = extensions_root() if root is None else root
    removed: list[Path] = []
    if not root.is_dir() or not any(locks(root)):
        return removed
    with (root / ".stale_locks").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the ranks of a run come here together
        for lock in locks(root):
            seen = identity(lock)
            if seen is None or holders(lock) or identity_after_a_moment(lock) != seen or holders(lock):
                if owners := holders(lock):
                    say(f"waiting for the build of a PyTorch extension by process {owners[0]} ({lock})")
                continue
            age = time.time() - lock.stat().st_mtime
            if on_network(lock) and age < FOREIGN_S:
                say(
                    f"{lock}: no process of this machine holds this lock of a PyTorch extension's build, which is"
                    f" {age:.0f} s old. If the run does not go on and no other machine is building, remove it"
                )
                continue
            lock.unlink(missing_ok=True)
            removed.append(lock)
            say(
                f"removed {lock}, {age:.0f} s old: the process that was building this PyTorch extension is dead"
            )
    return removed


def extensions_root() -> Path:
    """Where torch builds extensions."""
    if root := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(root)
    from torch.utils.cpp_extension import get_default_build_root

    return Path(get_default_build_root())


def locks(root: Path) -> Iterator[Path]:
    """Lock files of extensions: ROOT/NAME/lock, or ROOT/VERSION/NAME/lock where torch chose the root."""
    yield from root.glob("*/lock")
    yield from root.glob("*/*/lock")


def holders(lock: Path) -> list[int]:
    """Processes of this machine that have the file open."""
    wanted, found = identity(lock), []
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            status = entry.stat()
        except OSError:  # gone, or another user's
            continue
        if (status.st_dev, status.st_ino) == wanted:
            found.append(int(entry.parts[2]))
    return found


def identity(lock: Path) -> tuple[int, int] | None:
    try:
        status = lock.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def identity_after_a_moment(lock: Path) -> tuple[int, int] | None:
    time.sleep(SETTLE_S)
    return identity(lock)


def on_network(path: Path) -> bool:
    """Whether the path lies on a file system that machines share."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(where, kind) for where, kind in mounts if path.resolve().is_relative_to(where)]
    return bool(above) and max(above, key=lambda mount: len(mount[0]))[1] in _NETWORK


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

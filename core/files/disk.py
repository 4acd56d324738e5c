"""One clear error for a full disk, which Python, safetensors and torch each report differently."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from core.errors import RunError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEXTS = re.compile(
    rf"os error ({'|'.join(map(str, _FULL))})\b|No space left|quota exceeded|File too large"
    r"|PytorchStreamWriter failed|file write failed|unexpected pos",  # torch gives no cause
    re.IGNORECASE,
)


@contextmanager
def disk_explained(path: Path, advice: str = "") -> Iterator[None]:
    """Within the block, an error from a full disk (or a quota, or a limit of file size) becomes a RunError that names
    path, disk and bytes, with `advice`. Other errors pass."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RunError) or not is_disk_full(error):
            raise
        raise RunError(f"{path}: {_reason(error)}; {disk_of(path)}{advice}") from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether this error, or what caused it, comes from writing to a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, RuntimeError | SafetensorError) and _TEXTS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_of(path: Path) -> str:
    """The path's disk, as text: mount point, free and total bytes."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    while not os.path.ismount(place):
        place = place.parent
    return f"the disk mounted at {place} has {usage.free:,} of {usage.total:,} bytes free"


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder (or of a file)."""
    files = [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"could not be written ({os.strerror(error.errno).lower()})"
    first_line = str(error).partition("\n")[0]
    return f"could not be written ({first_line[:120]})"

"""Progress bars that a closed terminal cannot stop.

tqdm holds its lock while it writes, and keeps it for ever if the write fails: a recipe whose terminal went away would wait
at its next bar.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class _Deaf:
    """stderr that ignores write errors."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError):  # ValueError: closed
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            pass

    def fileno(self) -> int:
        return sys.stderr.fileno()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def bar(*arguments: Any, **options: Any) -> tqdm:
    """tqdm on stderr."""
    return tqdm(*arguments, file=_Deaf(), **options)

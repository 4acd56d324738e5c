"""Errors that a user can mend end a program with one line; all others keep their traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import UserError
from core.processes.watchdog import end_soon
from core.text import short_words


@contextmanager
def explained() -> Iterator[None]:
    """Within the block, errors in rows, media, checkpoints, rewards, the run folder and the on-policy checks exit with code
    1 and their message, which says what was expected, what came, and where; Ctrl-C outside the training loop, with 130."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
        print("interrupted; nothing had to be saved", file=sys.stderr)
        sys.exit(130)
    except BaseException as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            end_soon()  # the others wait for this process, and its clean-up may wait for them
        if not isinstance(error, (UserError, FileExistsError, FileNotFoundError)):
            raise
        sys.stdout.flush()
        notes = getattr(error, "__notes__", ())  # which rank, in which operation
        sys.exit(f"error: {short_words(' '.join([str(error), *notes]))}")

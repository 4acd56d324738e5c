"""Errors that a user can fix end a program with one line; all others keep their traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import UserError
from core.processes.watchdog import RankLost, end_soon, is_lost_connection, rank_lost
from core.text import short_words


@contextmanager
def explained() -> Iterator[None]:
    """Within the block, errors in rows, media, checkpoints, rewards, the run folder and the on-policy checks exit with code
    1 and their message, which says what was expected, what was found, and where; Ctrl-C outside the training loop, with 130;
    a wait for another process that timed out, with STALLED."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
        print("interrupted; nothing had to be saved", file=sys.stderr)
        sys.exit(130)
    except BaseException as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            end_soon()  # the others wait for this process, and its clean-up may wait for them
        shown = rank_lost(error, "work between operations") if is_lost_connection(error) else error
        if not isinstance(shown, (UserError, FileExistsError, FileNotFoundError)):
            raise
        sys.stdout.flush()
        notes = getattr(shown, "__notes__", ())  # which rank, in which operation
        message = f"error: {short_words(' '.join([str(shown), *notes]))}"
        if isinstance(shown, RankLost):
            print(message, file=sys.stderr, flush=True)
            os._exit(shown.exit_code)  # the interpreter's clean-up would wait for the lost process
        sys.exit(message)

"""What is the user's to mend ends a program with one line; everything else keeps its traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from core.text import short_words
from core.watchdog import end_soon


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
        if not isinstance(error, (ValueError, RuntimeError, OSError)) or not isinstance(error, _for_users()):
            raise
        sys.stdout.flush()
        notes = getattr(error, "__notes__", ())  # which rank, in which operation
        sys.exit(f"error: {short_words(' '.join([str(error), *notes]))}")


def _for_users() -> tuple[type[Exception], ...]:
    """Imported only once something has gone wrong: torch takes seconds."""
    from core.errors import RunError
    from rewards.errors import PluginError, RewardDataError, RewardFailure
    from rl.checks import OffPolicyError
    from sft.data import TraceError
    from vlm.checkpoint import CheckpointError
    from vlm.media import MediaError
    from vlm.rows import RowError
    from vlm.zero import LaunchError

    inputs = (RowError, MediaError, CheckpointError, TraceError, PluginError, RewardDataError)
    return (*inputs, RunError, RewardFailure, OffPolicyError, LaunchError, FileExistsError, FileNotFoundError)

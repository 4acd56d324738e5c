"""The error of a run folder, for users."""

from __future__ import annotations


class RunError(RuntimeError):
    """A run cannot start or go on, and the user can mend it: another run holds the folder, its checkpoints are damaged,
    its config differs, the disk is full. The message says what was expected, what was found, and what to do."""

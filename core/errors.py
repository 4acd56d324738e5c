"""Errors that a user can mend. Entry points end with their message alone; every other error keeps its traceback."""

from __future__ import annotations


class UserError(Exception):
    """The base of all of them. The message says what was expected, what came, and where."""


class RunError(UserError, RuntimeError):
    """A run cannot start or go on, and the user can mend it: another run holds the folder, its checkpoints are damaged,
    its config differs, the disk is full. The message says what was expected, what was found, and what to do."""


class LaunchError(UserError, ValueError):
    """What the launch asks for and what the run's config asks for do not fit each other."""


class RowError(UserError, ValueError):
    """Rows that break the contract; the message has one line `FILE:LINE: field '…': expected …, got …` per row."""

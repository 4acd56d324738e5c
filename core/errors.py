"""Errors that a user can fix. Entry points print only their message; every other error keeps its traceback."""

from __future__ import annotations


class UserError(Exception):
    """The base class. The message says what was expected, what was found, and where."""


class RunError(UserError, RuntimeError):
    """A run cannot start or continue, and the user can fix it: another run holds the folder, its checkpoints are damaged,
    its config differs, the disk is full. The message says what was expected, what was found, and what to do."""


class LaunchError(UserError, ValueError):
    """The launch and the run's config contradict each other."""


class RowError(UserError, ValueError):
    """Rows that break the contract; the message has one line `FILE:LINE: field '…': expected …, got …` per row."""


class PluginError(UserError, ValueError):
    """A plugin (a reward function, a tool, an environment) cannot be found, imported, or called with the configured arguments."""

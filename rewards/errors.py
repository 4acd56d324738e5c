"""Errors of the reward interface: what a user, a row or a plugin did wrong, and where."""

from __future__ import annotations

from core.errors import UserError


class PluginError(UserError, ValueError):
    """A reward function cannot be found, imported, or called with what the configuration gives it."""


class RewardDataError(UserError, ValueError):
    """A row cannot be scored: its task has no reward, a column is missing, or its answer does not parse."""


class RewardFailure(UserError, RuntimeError):
    """A reward function failed for more rollouts than the configuration allows; the run must stop."""

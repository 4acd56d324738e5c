"""Errors of rewards: what is wrong with a configuration, a row or a plugin."""

from __future__ import annotations

from core.errors import PluginError, UserError

__all__ = ["PluginError", "RewardDataError", "RewardFailure"]


class RewardDataError(UserError, ValueError):
    """A row cannot be scored: its task has no reward, a column is missing, or its answer cannot be read."""


class RewardFailure(UserError, RuntimeError):
    """A reward function failed for more rollouts than the configuration allows; the run must stop."""

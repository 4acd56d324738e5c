"""Reward for what came of an episode, whatever was written: the environment's own word against the row's answer.

Truth: `{"outcome": {"state": …}}`, the keys of the outcome that are asked for, with their values. An environment gives the outcome
by its method `outcome(state)` (docs/environments.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewards.reading.gold import field, gold_check


def _check(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Raise ValueError unless the truth names a part of an outcome."""
    wanted = field(answer, "outcome")
    if not isinstance(wanted, Mapping) or not wanted:
        raise ValueError(f"answer.outcome: expected an object with what is asked for, got {wanted!r:.80}")


@gold_check(_check)
def outcome_reward(completion: str, answer: Mapping[str, Any], *, outcome: Any = None, **row: Any) -> float:
    """1 if the episode's outcome has every key of `answer.outcome` with an equal value, else 0; 0 without an outcome."""
    wanted = answer["outcome"]
    if not isinstance(outcome, Mapping):
        return 0.0
    return float(all(key in outcome and outcome[key] == value for key, value in wanted.items()))

"""Reading ground truth: the `check_gold` convention and strict readers of answer fields.

All functions raise ValueError with the field's name: a broken answer is a data error, reported when data is loaded. Values may
come from JSON or Parquet, so a missing key can also be None, and a list a numpy array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

Reward = TypeVar("Reward", bound=Callable[..., Any])
CheckGold = Callable[[Mapping[str, Any], Mapping[str, Any]], None]

MAX_COORDINATE = 1e6
"""Largest valid magnitude of a coordinate (pixels) or a time (seconds; 11 days)."""


def gold_check(check: CheckGold) -> Callable[[Reward], Reward]:
    """Decorator: `reward.check_gold = check`."""

    def attach(reward: Reward) -> Reward:
        reward.check_gold = check  # type: ignore[attr-defined]
        return reward

    return attach


def whole_text(reward: Reward) -> Reward:
    """Decorator: the reward reads the whole completion, not just the conclusion."""
    reward.whole_text = True  # type: ignore[attr-defined]
    return reward


def field(answer: Mapping[str, Any], *names: str) -> Any:
    """The first of the named fields that is present and not None."""
    if not isinstance(answer, Mapping):
        raise ValueError(
            f"answer: expected an object with {' or '.join(map(repr, names))}, got {answer!r:.80}"
        )
    for name in names:
        if answer.get(name) is not None:
            return answer[name]
    raise ValueError(
        f"answer: expected a field {' or '.join(map(repr, names))}, got the fields {sorted(answer)}"
    )


def number(value: Any, name: str, limit: float = MAX_COORDINATE) -> float:
    """A finite number, not a boolean, of magnitude at most `limit`."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__") or hasattr(value, "__len__"):
        raise ValueError(f"{name}: expected a number, got {value!r:.80}")
    result = float(value)
    if not math.isfinite(result) or abs(result) > limit:
        raise ValueError(f"{name}: expected a finite number of at most {limit:g}, got {value!r:.80}")
    return result


def numbers(value: Any, count: int, name: str) -> tuple[float, ...]:
    """Exactly `count` numbers, e.g. a box [x1, y1, x2, y2]."""
    if (
        type(value) is list and len(value) == count
    ):  # plain JSON, checked at once: this runs for every rollout
        low, high = -MAX_COORDINATE, MAX_COORDINATE
        if all((type(item) is int or type(item) is float) and low <= item <= high for item in value):
            return tuple(map(float, value))
    items = sequence(value, name)
    if len(items) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {value!r:.80}")
    return tuple(number(item, name) for item in items)


def sequence(value: Any, name: str) -> Sequence[Any]:
    """A list, tuple or array, as a list."""
    if (
        isinstance(value, str | bytes | Mapping)
        or not hasattr(value, "__len__")
        or not hasattr(value, "__iter__")
    ):
        raise ValueError(f"{name}: expected a list, got {value!r:.80}")
    return list(value)

"""Turning whatever a reward function returns or raises into an `Outcome`. Nothing here raises."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator
from typing import Any

from rewards.serving.items import Failure, Limits, Outcome, failed

TOLERANCE = (
    1e-6  # values outside the range by less than this share of it are rounding errors, and are clamped
)
MAX_EXTRA_CHARS = 10_000  # length, as JSON, of each extra that a function returns beside its value
MAX_TRACE_CHARS, MAX_TRACE_LINE = 10_000, 500


def outcome_of(returned: Any, limits: Limits, extra: dict[str, Any] | None = None) -> Outcome:
    """The outcome of one returned value: a number, None, a dict with the key `reward`, a Failure or an exception object."""
    try:
        return _outcome(returned, limits, dict(extra or {}))
    except Exception as error:  # noqa: BLE001  an object whose own methods raise
        return failed("type", f"expected a number or None, got an unreadable object: {describe(error)}")


def _outcome(returned: Any, limits: Limits, extra: dict[str, Any]) -> Outcome:
    if isinstance(returned, dict):
        if "reward" not in returned:
            return failed("type", f"expected a key 'reward' in the result, got {sorted(map(str, returned))}")
        extra |= {str(key): as_json(value) for key, value in returned.items() if key != "reward"}
        returned = returned["reward"]
    if returned is None:
        return Outcome(None, extra)
    if isinstance(returned, Failure):
        return Outcome(None, extra, returned)
    if isinstance(returned, BaseException):
        return failed("exception", describe(returned))
    number = _plain(returned)
    if isinstance(number, bool):
        number = float(number)
    if not isinstance(number, int | float):
        return failed("type", f"expected a number or None, got {show(returned)}")
    if math.isnan(number):
        return failed("nan", "expected a number or None, got NaN")
    slack = TOLERANCE * (limits.high - limits.low)
    if not limits.low - slack <= number <= limits.high + slack:
        return failed("range", f"expected a value in [{limits.low:g}, {limits.high:g}], got {show(number)}")
    value = (float(number) - limits.low) / (limits.high - limits.low)
    return Outcome(min(1.0, max(0.0, value)), extra)


def as_list(returned: Any) -> list[Any] | None:
    """The values that a batch function returned as a list; None if it returned something else."""
    if hasattr(returned, "tolist"):  # numpy array or tensor
        returned = returned.tolist()
    return list(returned) if isinstance(returned, list | tuple | Iterator) else None


def as_json(value: Any) -> Any:
    """A value as plain JSON types. Long values are cut; what JSON cannot hold becomes its repr."""
    try:
        text = json.dumps(_plain(value))
    except Exception:  # noqa: BLE001  circular, too deep, a number of too many digits, or not a JSON type
        return show(value)
    return json.loads(text) if len(text) <= MAX_EXTRA_CHARS else text[:MAX_EXTRA_CHARS]


def describe(error: BaseException) -> str:
    """`Type: message` of an exception, at most 500 characters."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  an exception whose own __str__ raises
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text}"[:500]


def current_traceback() -> str:
    """The end of the traceback of the exception being handled."""
    try:
        lines = traceback.format_exc().split("\n")
    except Exception:  # noqa: BLE001  an exception that cannot be formatted
        return ""
    return "\n".join(line[:MAX_TRACE_LINE] for line in lines)[-MAX_TRACE_CHARS:]


def show(value: Any) -> str:
    """Type and repr of a value, for messages."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  an object whose own __repr__ raises
        text = object.__repr__(value)
    return f"{type(value).__name__} {text[:80]}"


def _plain(value: Any) -> Any:
    """numpy and torch scalars as Python numbers, everything else unchanged."""
    if isinstance(value, int | float | str) or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except Exception:  # noqa: BLE001  not a scalar, or an unrelated `item`
        return value

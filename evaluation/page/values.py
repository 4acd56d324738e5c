"""Reading values from a run's log, and formatting them for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.page.run_folder import RunFolder

LABELS = {"untrained": "untrained", "single": "in one turn", "sft": "after SFT", "rl": "after RL"}
"""Checkpoints in running text."""
GAP_LIMITS = {"mean": 4e-5, "max": 5e-2}  # for fp32; limits in summary.json take precedence


def gap_limits(run: RunFolder) -> dict[str, float]:
    """Limits of the log-prob gap in nats: those in summary.json under grpo.logprob_gap_limits (null: none), or GAP_LIMITS."""
    own = (run.summary.get("grpo") or {}).get("logprob_gap_limits") or {}
    return {
        kind: math.inf if (value := own.get(kind, limit)) is None else float(value)
        for kind, limit in GAP_LIMITS.items()
    }


def values(records: Sequence[Mapping[str, Any]], key: str) -> tuple[float | None, ...]:
    """The value of `key` in each record; None where it is missing or not a finite number."""
    return tuple(float(record[key]) if is_number(record.get(key)) else None for record in records)


def column(records: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """All finite values of `key`, in order."""
    return [value for value in values(records, key) if value is not None]


def mean_of(records: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean of the finite values of `key`; None if there is none."""
    values = column(records, key)
    return sum(values) / len(values) if values else None


def is_number(value: Any) -> bool:
    """True for a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any) -> str:
    """The value with two decimals, or a phrase if nothing was logged."""
    return f"{value:.2f}" if is_number(value) else "not logged"


def heading(name: str) -> str:
    """A checkpoint's name as a heading."""
    text = LABELS.get(name, name)
    return text[:1].upper() + text[1:] if name in LABELS else text


def plain(value: Any) -> str:
    """A JSON value as short text."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value)
    return str(value)


def duration(seconds: float) -> str:
    """`42 s`, `10.2 min`, `3.1 h`."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"

"""What a reward function is given (`Item`) and what comes back from calling it (`Outcome`, `Failure`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "exception", "timeout", "too_expensive", "crash", "length", "type", "nan", "range", "remote"
]  # fmt: skip
Metrics = list[tuple[str, float]]
"""(name, value) pairs that a function logged."""


@dataclass(frozen=True)
class Item:
    """One rollout as a reward function sees it."""

    text: str  # what the function reads: the conclusion, or the whole completion
    row: dict[str, Any]
    ids: Sequence[int] | None = None  # token ids of the whole completion
    group: str | None = None  # shared by the rollouts of one prompt


@dataclass(frozen=True)
class Failure:
    """Why a rollout has no value from a function."""

    kind: Kind
    message: str
    traceback: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of one function for one rollout: a value in [0, 1], None (does not apply), or a failure."""

    value: float | None
    extra: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of one function: the time a call may take, and the range of its values.

    clock: "wall" measures elapsed time; "cpu" measures the processor time of one item, so that the result does not depend on
        how busy the machine is (sample functions in a worker only).
    """

    timeout_s: float
    low: float = 0.0
    high: float = 1.0
    clock: Literal["wall", "cpu"] = "wall"


def failed(kind: Kind, message: str, trace: str | None = None) -> Outcome:
    """An outcome without a value."""
    return Outcome(None, {}, Failure(kind, message, trace))

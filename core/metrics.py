"""Metrics that do not depend on how rows are split over ranks, micro-batches and calls.

A mean of means gives a rank with one row the same weight as one with a hundred. So until it is written, a metric is
kept in a form that can be merged: a sum and a count, a total, or a maximum.

    mine = {"reward/mean": mean(rewards), "rollouts/unscored": total(3), "seconds/generate": largest(12.5)}
    everyone = over_processes(mine)         # core.processes.exchange; `joined` for micro-batches
    record = values(everyone)               # {"reward/mean": 0.25, …}: means over nothing are left out
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["mean", "total", "largest"]


@dataclass(frozen=True)
class Metric:
    """sum: of the values, or the largest of them. count: how many values there were."""

    kind: Kind
    sum: float
    count: int

    @property
    def value(self) -> float | None:
        """The number to write; None where there is none: a mean or maximum of nothing."""
        if self.kind == "total":
            return self.sum
        if not self.count:
            return None
        return self.sum / self.count if self.kind == "mean" else self.sum

    def __add__(self, other: Metric) -> Metric:
        """The metric over the values of both. Raises ValueError if they are of different kinds."""
        if self.kind != other.kind:
            raise ValueError(f"expected metrics of one kind, got '{self.kind}' and '{other.kind}'")
        if self.kind == "largest" and self.count and other.count:
            # not max(), which hides a NaN that stands second
            both = math.nan if math.isnan(self.sum + other.sum) else max(self.sum, other.sum)
            return Metric(self.kind, both, self.count + other.count)
        return Metric(self.kind, self.sum + other.sum, self.count + other.count)


def mean(numbers: Iterable[float | None]) -> Metric:
    """Mean of the values that are not None."""
    known = [float(n) for n in numbers if n is not None]
    return Metric("mean", _sum(known), len(known))


def total(*numbers: float) -> Metric:
    """Sum: a count, an amount of work."""
    return Metric("total", _sum(numbers), len(numbers))


def largest(*numbers: float) -> Metric:
    """Maximum; also for what several ranks do at the same time (seconds)."""
    parts = [Metric("largest", float(n), 1) for n in numbers]
    return sum(parts[1:], start=parts[0]) if parts else Metric("largest", 0.0, 0)


def same(number: float) -> Metric:
    """A number that every rank has, computed from what they exchanged: a learning rate, the norm of a gradient."""
    return largest(number)


def joined(parts: Iterable[Mapping[str, Metric]]) -> dict[str, Metric]:
    """Metrics merged over all parts, by name; a part may lack a name."""
    result: dict[str, Metric] = {}
    for part in parts:
        for name, metric in part.items():
            result[name] = result[name] + metric if name in result else metric
    return result


def values(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """What is written."""
    return {name: value for name, metric in metrics.items() if (value := metric.value) is not None}


def _sum(numbers: Iterable[float]) -> float:
    numbers = list(numbers)
    if all(map(math.isfinite, numbers)):
        return math.fsum(numbers)  # in whatever order they came
    return sum(numbers)  # infinities of both signs: fsum would raise

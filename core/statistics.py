"""Means with 95 % confidence intervals and paired differences, as every program of the project reports them.

| values | interval | source |
|---|---|---|
| all 0 or 1 | Wilson score interval | E. B. Wilson, JASA 22 (1927); `scipy.stats.binomtest` |
| others | Student's t, clipped to the range of the values | Student, Biometrika 6 (1908); `scipy.stats.ttest_1samp` |
| all equal, neither 0 nor 1, or a single one | bound on unseen values | Clopper and Pearson, Biometrika 26 (1934); `binomtest` |

Rewards lie in [0, 1]. At either end of training a task is often solved always or never; there the t interval has width
zero, which a few dozen rows do not justify. Wilson's keeps its coverage near 0 and 1. For equal values: with probability
0.95 at most a share q of unseen rows differs (one-sided exact binomial bound for 0 of n, q = 1 - 0.05^(1/n)), each by at
most the way to an end of the range, which bounds the mean on both sides.

All three are closed forms: no seed, the same numbers on every machine. A bootstrap has width zero where all values are
equal, so it is not used.

The unit is the row: several answers to a row are not independent, so they are averaged first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RowReward = tuple[str, float | None]
"""Id of a row, and the reward of one answer to it; None: it could not be scored."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval, from `n` independent rows; NaN where n = 0."""

    mean: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, Any]:
        """`{"mean", "ci95": [low, high], "n"}`, with None where there is no row."""
        if self.n == 0:
            return {"mean": None, "ci95": [None, None], "n": 0}
        return {"mean": self.mean, "ci95": [self.low, self.high], "n": self.n}


def estimate_mean(values: Iterable[float], *, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Mean of independent values with a 95 % interval (the module's docstring says which).

    bounds: range that the values can take: (0, 1) for rewards, (-1, 1) for differences of rewards. Weighted rewards may leave
        it: it is then widened to the values.

    Raises ValueError for a value that is not finite.
    """
    data = np.asarray(list(values), dtype=np.float64)
    if data.size == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite values to average, got {data[~np.isfinite(data)][0]}")
    n, mean = int(data.size), float(data.mean())
    floor, ceiling = min(bounds[0], float(data.min())), max(bounds[1], float(data.max()))

    if (floor, ceiling) == (0.0, 1.0) and np.isin(data, (0.0, 1.0)).all():
        wilson = stats.binomtest(int(data.sum()), n).proportion_ci(CONFIDENCE, method="wilson")
        return Estimate(mean, float(wilson.low), float(wilson.high), n)
    if data.min() == data.max():
        unseen = stats.binomtest(0, n, alternative="less").proportion_ci(CONFIDENCE, method="exact").high
        return Estimate(mean, mean - unseen * (mean - floor), mean + unseen * (ceiling - mean), n)
    student = stats.ttest_1samp(data, 0.0).confidence_interval(CONFIDENCE)
    return Estimate(mean, max(floor, float(student.low)), min(ceiling, float(student.high)), n)


def mean_by_row(rewards: Iterable[RowReward]) -> dict[str, float]:
    """Mean reward of each row over its answers that were scored; rows without one are left out."""
    answers: dict[str, list[float]] = {}
    for row_id, reward in rewards:
        if reward is not None:
            answers.setdefault(row_id, []).append(reward)
    return {row_id: math.fsum(some) / len(some) for row_id, some in answers.items()}


def mean_reward(rewards: Iterable[RowReward]) -> Estimate:
    """Mean over rows of the mean reward of each."""
    return estimate_mean(mean_by_row(rewards).values())


def paired_difference(before: Iterable[RowReward], after: Iterable[RowReward]) -> Estimate:
    """Mean of `after - before` over the same rows, with a 95 % interval.

    Pairing removes the spread between easy and hard rows, so it sees smaller changes than two separate means. Rows that
    either side could not score are left out of both.

    Raises ValueError if the two sides answered different rows.
    """
    before, after = list(before), list(after)
    if odd := sorted({row_id for row_id, _ in before} ^ {row_id for row_id, _ in after}):
        raise ValueError(
            f"a paired difference needs the same rows on both sides: {len(odd)} rows are on one side only, e.g. {odd[0]!r}"
        )
    first, second = mean_by_row(before), mean_by_row(after)
    return estimate_mean((second[row] - first[row] for row in first if row in second), bounds=(-1.0, 1.0))


def interval_text(
    estimate: Mapping[str, Any] | None, *, digits: int = 2, signed: bool = False, interval: bool = True
) -> str:
    """`0.53 [0.47, 0.59]` of `Estimate.as_json`; a dash if nothing was scored."""
    if not estimate or estimate.get("mean") is None:
        return "–"
    form = f"{'+' if signed else ''}.{digits}f"
    text = format(estimate["mean"], form)
    low, high = estimate.get("ci95") or (None, None)
    return text if low is None or high is None or not interval else f"{text} [{low:{form}}, {high:{form}}]"

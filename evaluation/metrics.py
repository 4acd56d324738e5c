"""Means with 95 % intervals, paired differences, and the summary of a set of scored answers.

Which interval, and why. Rewards lie in [0, 1]; some are right-or-wrong (math), some continuous (box overlap),
and tasks at either end of training are often all 0 or all 1, where the textbook interval has width zero and
claims a certainty that a few dozen rows cannot give. So:

- every value 0 or 1: Wilson's score interval, which keeps its coverage near 0 and 1;
- otherwise: Student's t interval of the mean, clipped to the range the values can take;
- every value the same, but not 0 or 1 (also n = 1): with probability 0.95 at most a share
  q = 1 - 0.05^(1/n) of unseen rows differs (exact binomial bound for 0 of n), each at most to an end of the
  range, which bounds the mean from both sides.

All three are closed forms: no random seed, the same answer on every machine.
A bootstrap is not used because it collapses exactly where care is needed, at zero variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval."""

    mean: float  # nan when n = 0
    low: float  # lower end of the interval; nan when n = 0
    high: float  # upper end
    n: int  # independent rows behind it

    def apart_from(self, other: Estimate) -> bool:
        """True when the two intervals do not touch (stricter than a significant difference)."""
        return self.low > other.high or other.low > self.high

    def as_json(self) -> dict[str, object]:
        """`{"mean", "ci95": [low, high], "n"}`, with None where there is no row."""
        if self.n == 0:
            return {"mean": None, "ci95": [None, None], "n": 0}
        return {"mean": self.mean, "ci95": [self.low, self.high], "n": self.n}


@dataclass(frozen=True)
class Scored:
    """One scored answer of one checkpoint to one row."""

    row_id: str
    task: str
    reward: float | None  # None: no reward applied or the reward failed; counted, never averaged
    in_grammar: bool  # the answer followed the stage grammar
    tokens: int = 0  # length of the completion


def estimate_mean(values: Iterable[float], *, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Mean of independent values with a 95 % interval (see the module's docstring for the choice).

    Args:
        values: Finite numbers; at best within `bounds`. Weighted rewards may leave them: the bounds then widen
            to what was seen.
        bounds: Range that the values can take: (0, 1) for rewards, (-1, 1) for differences of rewards.

    Raises:
        ValueError: A value is not finite.
    """
    data = np.asarray(list(values), dtype=np.float64)
    if data.size == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite values to average, got {data[~np.isfinite(data)][0]}")
    n, mean = int(data.size), float(data.mean())
    floor, ceiling = min(bounds[0], float(data.min())), max(bounds[1], float(data.max()))

    if (floor, ceiling) == (0.0, 1.0) and np.isin(data, (0.0, 1.0)).all():
        interval = stats.binomtest(int(data.sum()), n).proportion_ci(CONFIDENCE, method="wilson")
        return Estimate(mean, float(interval.low), float(interval.high), n)
    if data.min() == data.max():
        share_unseen = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / n)
        low, high = mean - share_unseen * (mean - floor), mean + share_unseen * (ceiling - mean)
        return Estimate(mean, low, high, n)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * data.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, max(floor, mean - half), min(ceiling, mean + half), n)


def rewards_by_row(scored: Iterable[Scored]) -> dict[str, float]:
    """Mean reward of each row, over its samples that were scored.

    Several samples of one row are not independent; averaging them first keeps the row as the unit.
    """
    samples: dict[str, list[float]] = {}
    for one in scored:
        if one.reward is not None:
            samples.setdefault(one.row_id, []).append(one.reward)
    return {row_id: float(np.mean(rewards)) for row_id, rewards in samples.items()}


def summarise(scored: Sequence[Scored]) -> dict[str, object]:
    """`{"mean", "ci95", "n", "unscored", "in_grammar", "in_grammar_ci95", "tokens"}` of one set of answers.

    `n` counts rows with a reward, `unscored` answers without one; `in_grammar` is over all answers.
    """
    by_row: dict[str, list[float]] = {}
    for one in scored:
        by_row.setdefault(one.row_id, []).append(float(one.in_grammar))
    grammar = estimate_mean(float(np.mean(samples)) for samples in by_row.values())
    return {
        **estimate_mean(rewards_by_row(scored).values()).as_json(),
        "unscored": sum(one.reward is None for one in scored),
        "in_grammar": grammar.as_json()["mean"],
        "in_grammar_ci95": grammar.as_json()["ci95"],
        "tokens": float(np.mean([one.tokens for one in scored])) if scored else None,
    }


def by_task(scored: Iterable[Scored]) -> dict[str, list[Scored]]:
    """The answers of each task, tasks in alphabetical order."""
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        groups.setdefault(one.task, []).append(one)
    return dict(sorted(groups.items()))


def paired_difference(before: Iterable[Scored], after: Iterable[Scored]) -> Estimate:
    """Mean of `after - before` over the same rows, with a 95 % interval.

    Pairing removes the spread between easy and hard rows, so it sees smaller changes than two separate means.
    Rows that either side could not score are left out of both.

    Raises:
        ValueError: The two sides answered different rows.
    """
    before, after = list(before), list(after)
    ids_before, ids_after = {one.row_id for one in before}, {one.row_id for one in after}
    if ids_before != ids_after:
        odd = sorted(ids_before ^ ids_after)
        raise ValueError(
            f"a paired difference needs the same rows on both sides: {len(odd)} rows are on one side only, e.g. {odd[0]!r}"
        )
    first, second = rewards_by_row(before), rewards_by_row(after)
    return estimate_mean((second[row] - first[row] for row in first if row in second), bounds=(-1.0, 1.0))


def differences(answers: Mapping[str, Sequence[Scored]]) -> list[dict[str, object]]:
    """Paired differences of every later checkpoint against every earlier one, overall and by task."""
    names = list(answers)
    result: list[dict[str, object]] = []
    for i, before in enumerate(names):
        for after in names[i + 1 :]:
            left, right = by_task(answers[before]), by_task(answers[after])
            tasks = {task: paired_difference(left[task], right.get(task, [])).as_json() for task in left}
            overall = paired_difference(answers[before], answers[after]).as_json()
            result.append({"before": before, "after": after, "overall": overall, "tasks": tasks})
    return result

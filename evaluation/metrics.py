"""The summary of a set of scored answers by task, and paired differences between checkpoints (`core.statistics`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.statistics import RowReward, mean_reward, paired_difference


@dataclass(frozen=True)
class ScoredAnswer:
    """One scored answer of one checkpoint to one row."""

    row_id: str
    task: str
    reward: float | None  # None: no reward applied or the reward failed; counted, never averaged
    in_grammar: bool  # the answer followed the stage grammar
    tokens: int = 0  # length of the completion


def summarise(scored: Sequence[ScoredAnswer]) -> dict[str, object]:
    """`{"mean", "ci95", "n", "unscored", "in_grammar", "in_grammar_ci95", "tokens"}` of one set of answers.

    `n` counts rows with a reward, `unscored` answers without one; `in_grammar` is over all answers.
    """
    grammar = mean_reward((one.row_id, float(one.in_grammar)) for one in scored)
    return {
        **mean_reward(rewards_of(scored)).as_json(),
        "unscored": sum(one.reward is None for one in scored),
        "in_grammar": grammar.as_json()["mean"],
        "in_grammar_ci95": grammar.as_json()["ci95"],
        "tokens": float(np.mean([one.tokens for one in scored])) if scored else None,
    }


def by_task(scored: Iterable[ScoredAnswer]) -> dict[str, list[ScoredAnswer]]:
    """The answers of each task, tasks in alphabetical order."""
    groups: dict[str, list[ScoredAnswer]] = {}
    for one in scored:
        groups.setdefault(one.task, []).append(one)
    return dict(sorted(groups.items()))


def rewards_of(scored: Iterable[ScoredAnswer]) -> list[RowReward]:
    return [(one.row_id, one.reward) for one in scored]


def differences(answers: Mapping[str, Sequence[ScoredAnswer]]) -> list[dict[str, object]]:
    """Paired differences of every later checkpoint against every earlier one, overall and by task."""
    names = list(answers)
    result: list[dict[str, object]] = []
    for i, before in enumerate(names):
        for after in names[i + 1 :]:
            left, right = by_task(answers[before]), by_task(answers[after])
            tasks = {
                task: paired_difference(rewards_of(left[task]), rewards_of(right.get(task, []))).as_json()
                for task in left
            }
            overall = paired_difference(rewards_of(answers[before]), rewards_of(answers[after])).as_json()
            result.append({"before": before, "after": after, "overall": overall, "tasks": tasks})
    return result

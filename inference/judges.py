"""Judges: scores of the candidates at a choice. Of equally good ones the first is taken.

`majority`  self-consistency (arXiv 2203.11171): how many whole answers have the same conclusion. For answers that can be
            equal (numbers, letters, names); boxes and times seldom are, and then the first answer stays.
`mean_logprob`  the model's own mean log-probability per token of the last piece, at the sampling temperature. Free, and only
            as good as the model is calibrated; the mean, because the sum would prefer short answers.
`pairs`     the model itself compares two candidates at a time (`inference.pairs`), as in LLaVA-CoT.
`reward`    reward functions, by a router of `rewards`: verifiers, reward models, judges behind `http`. Functions that read
            the conclusion judge whole answers; those that read the text so far (grammar `none`) judge unfinished ones too.
            **With a reward that reads the ground truth this is pass@N: an upper bound on what choosing can gain, not a
            result.**
A function of one's own (`inference.types.Selector`) is a judge too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engines.rollout import Rollout
from engines.samples import ScoreFunction
from inference.conclusions import conclusion_of, votes
from inference.types import Branch, Judge, Question, Rate, Scores, Selector


def average_logprob(rollout: Rollout) -> float | None:
    """Mean log-probability of the tokens that the model sampled; None if it sampled none."""
    sampled = [p for p, mask in zip(rollout.logprobs, rollout.loss_mask, strict=True) if mask]
    return sum(sampled) / len(sampled) if sampled else None


def majority(question: Question, stage: str, candidates: Sequence[Branch]) -> Scores:
    """Number of candidates with the same conclusion."""
    yield from ()
    return votes([conclusion_of(branch.text, question.names) for branch in candidates])


def mean_logprob(question: Question, stage: str, candidates: Sequence[Branch]) -> Scores:
    """Mean log-probability per token of what each candidate added."""
    yield from ()
    return [average_logprob(branch.last) if branch.last else None for branch in candidates]


def by_reward(score: ScoreFunction) -> Judge:
    """Reward of the text so far. score: a router's; see the module's docstring on what it may read."""

    def judge(question: Question, stage: str, candidates: Sequence[Branch]) -> Scores:
        texts, ids = [branch.text for branch in candidates], [branch.ids for branch in candidates]
        [scores] = yield [Rate(score, question.row, texts, ids)]
        return [one.reward for one in scores]

    return judge


def by_selector(select: Selector) -> Judge:
    """A function of one's own. ValueError names the row for a result that is neither an index nor one score for each."""

    def judge(question: Question, stage: str, candidates: Sequence[Branch]) -> Scores:
        yield from ()
        rollouts = [branch.last for branch in candidates if branch.last]
        chosen = select(question.row, candidates[0].before, rollouts)
        if isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen < len(candidates):
            return [float(i == chosen) for i in range(len(candidates))]
        if isinstance(chosen, Sequence) and _are_scores(chosen, len(candidates)):
            return list(chosen)
        raise ValueError(
            f"row {question.row['id']!r}: expected a selector's index from 0 to {len(candidates) - 1}, or a list of"
            f" {len(candidates)} scores (numbers, None for no opinion), got {chosen!r}"
        )

    return judge


def _are_scores(values: Sequence[Any], count: int) -> bool:
    return (
        not isinstance(values, str)
        and len(values) == count
        and all(v is None or (isinstance(v, int | float) and math.isfinite(v)) for v in values)
    )

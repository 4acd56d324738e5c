"""Stage-wise retracing search (SWIRES; LLaVA-CoT, arXiv 2411.10440 v3, ICCV 2025): go back where no reasoning is good enough.

The stages before the last three are made once (of the four: the summary, which is seldom wrong). Then, in each pass: M
captions, of which N are kept; M/N reasonings from each. If enough reasonings score above a threshold the search goes on, else it
goes back to the caption, at most C times. The best reasonings of all passes get one conclusion each, and the best of those is
the answer, so there is an answer whatever the threshold.

The paper and its released code differ:

| | paper | code (`swires.py`) |
|---|---|---|
| passes | 1 + 3 | 1 + 4 |
| reasonings above the threshold | 1 | 2 (the second best so far) |
| conclusions | 2 | 3 |

Both have M = 4, N = 2, temperature 0.6 and top-p 0.9 (we sample from the whole distribution, as everywhere), and a threshold at
mean + 0.2533 standard deviations of the reward model's scores of reasonings, which about 40 % pass. Theirs, -0.77 and 2.08, are of
internlm-xcomposer2d5-7b-reward on MMStar; for any other judge `python -m inference calibrate` computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from inference.branches import best, check_temperature, expand, rank, score_of, width
from inference.stage_beam import one_stage
from inference.types import Branch, Judge, Question, Search, answer_of


@dataclass(frozen=True)
class Retracing:
    """The constants of a retracing search. candidates: M. keep: N. retraces: C. passing: reasonings that must score above
    `threshold`. conclusions: reasonings that get one. threshold: in units of the judge's scores."""

    candidates: int
    keep: int
    retraces: int
    passing: int
    conclusions: int
    threshold: float


def threshold(mean: float, deviation: float, share: float = 0.4) -> float:
    """The score that a `share` of normally distributed scores exceeds; the paper's is 0.4, where the factor is 0.2533."""
    return mean + NormalDist().inv_cdf(1 - share) * deviation


PUBLISHED_THRESHOLD = threshold(-0.77, 2.08)
PRESETS = {
    "paper": Retracing(4, 2, 3, 1, 2, PUBLISHED_THRESHOLD),
    "code": Retracing(4, 2, 4, 2, 3, PUBLISHED_THRESHOLD),
}


def retracing(question: Question, judge: Judge, *, settings: Retracing) -> Search:
    """The question's answers have a grammar of at least two stages; `judge` gives scores that can be compared with the threshold."""
    check_temperature(question, settings.candidates)
    assert question.names is not None
    *once, check, last = question.names
    again = once[-1:]  # where a pass starts; without such a stage, at the reasoning
    branch = Branch(question)
    for stage in once[:-1]:
        branch = yield from one_stage(branch, judge, stage, 1)
        if branch.finish is not None:
            return answer_of(branch)

    reasonings: list[Branch] = []
    for attempt in range(1 + settings.retraces):
        question.spent.retraces = attempt
        starts = [branch]
        for stage in again:
            found = yield from expand([branch], width(question, settings.candidates), stage, (f"</{stage}>",))
            starts = yield from best(judge, stage, found, width(question, settings.keep))
        reasonings += yield from _reasonings(starts, judge, check, settings)
        scores = [score for one in reasonings if (score := score_of(one)) is not None]
        passed = sum(score > settings.threshold for score in scores)
        if passed >= settings.passing or question.out_of_budget:
            break
    return answer_of((yield from _concluded(reasonings, judge, last, width(question, settings.conclusions))))


def _reasonings(starts: Sequence[Branch], judge: Judge, stage: str, settings: Retracing):
    """M/N scored continuations of each start; starts at which the answer ended are returned as they are."""
    going = [start for start in starts if start.finish is None]
    if not going:
        return list(starts)
    each = width(going[0].question, max(1, settings.candidates // len(going)))
    found = yield from expand(going, each, stage, (f"</{stage}>",))
    return (yield from best(judge, stage, found, len(found), always_score=True))


def _concluded(reasonings: Sequence[Branch], judge: Judge, stage: str, count: int):
    """The best answer: `count` best reasonings with a conclusion each. Those that ended the answer are second choice."""
    going = [one for one in reasonings if one.finish is None]
    if not going:
        return max(reasonings, key=lambda one: rank(score_of(one)))
    going.sort(
        key=lambda one: (one.question.tree[one.node or 0].in_grammar, rank(score_of(one))), reverse=True
    )
    found = yield from expand(going[:count], 1, stage, (f"</{stage}>",))
    [answer] = yield from best(judge, stage, found)
    return answer


def calibrated(scores: Sequence[float], share: float) -> dict[str, float]:
    """Mean, standard deviation and the threshold that a `share` of the scores exceeds. ValueError for fewer than two scores
    or equal ones."""
    if len(scores) < 2 or min(scores) == max(scores):
        raise ValueError(
            f"expected at least two different scores of reasonings to calibrate a threshold, got {len(scores)}"
            + (f", all {scores[0]:g}" if scores else "")
        )
    mean, deviation = fmean(scores), stdev(scores)
    return {"mean": mean, "std": deviation, "share": share, "threshold": threshold(mean, deviation, share)}

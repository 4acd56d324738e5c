"""Choosing among several right solutions of a question: by a model's ratings of clarity, redundancy and format, each removal counted.

MiMo-VL samples several long thoughts a question, keeps those whose answer is right, and filters these by clarity, redundancy and
format (arXiv 2506.03569, section 2.3).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.rows import Row
from data_recipes.operations.text_hashes import words
from data_recipes.teacher import judge
from data_recipes.teacher.attempts import Attempt
from data_recipes.teacher.client import Client
from data_recipes.teacher.messages import question_of
from rewards.stages import STAGES, THINK, render


@dataclass(frozen=True)
class Accepted:
    """A trace (text by the grammar's block, the answer last), and who verified it: "reward" or "judge"."""

    trace: dict[str, str]
    verified_by: str

    @property
    def text(self) -> str:
        """As a completion."""
        return text_of(self.trace)


def text_of(trace: Mapping[str, str]) -> str:
    """A trace as a completion, in the grammar of its blocks."""
    return render(trace, THINK if set(trace) == set(THINK) else STAGES)


@dataclass(frozen=True)
class Solution:
    """A right solution. tries: replies that it took. scores: by aspect, 1 (worst) to 5; None where it was not rated."""

    found: Accepted
    tries: int
    scores: Mapping[str, int] | None = None

    @property
    def quality(self) -> float | None:
        """Mean of the scores."""
        return None if self.scores is None else sum(self.scores.values()) / len(self.scores)


def different(attempts: Sequence[Attempt[Accepted]], counts: Counter[str]) -> list[Solution]:
    """The right solutions among them, each wording once."""
    solutions: dict[tuple[str, ...], Solution] = {}
    for made in attempts:
        if made.value is not None:
            counts["solutions"] += 1
            key = tuple(words(" ".join(made.value.trace.values())))
            counts["solutions_removed/duplicate"] += key in solutions
            solutions.setdefault(key, Solution(made.value, made.tries))
    return list(solutions.values())


async def rated(client: Client, row: Row, solutions: Sequence[Solution]) -> list[Solution]:
    """The solutions with a model's scores, or None for those whose rating could not be read."""
    scores = await asyncio.gather(
        *(judge.rate(client, question_of(row), solution.found.text) for solution in solutions)
    )
    return [Solution(s.found, s.tries, found) for s, found in zip(solutions, scores, strict=True)]


def filtered(
    solutions: Sequence[Solution], min_scores: Mapping[str, int], min_quality: float, counts: Counter[str]
) -> list[Solution]:
    """The solutions that are rated well enough. Of the others the first fault is counted: no rating, an aspect, or the mean."""
    kept = []
    for solution in solutions:
        rule = fault(solution, min_scores, min_quality)
        if rule is None:
            kept.append(solution)
        else:
            counts[f"solutions_removed/{rule}"] += 1
    return kept


def fault(solution: Solution, min_scores: Mapping[str, int], min_quality: float) -> str | None:
    """What takes a rated solution out: "unrated", "clarity", "redundancy", "format" or "quality"."""
    scores, quality = solution.scores, solution.quality
    if scores is None or quality is None:
        return "unrated"
    below = next((aspect for aspect in judge.SCORES if scores[aspect] < min_scores.get(aspect, 1)), None)
    return below or ("quality" if quality < min_quality else None)


def why_none(
    solutions: Sequence[Solution], min_scores: Mapping[str, int], min_quality: float
) -> tuple[str, str]:
    """(rule, reason) where all of these were filtered out: that of the best one."""
    readable = [solution for solution in solutions if solution.scores is not None]
    if not readable:
        return "unrated", f"no rating of {len(solutions)} accepted traces could be read"
    best = max(readable, key=lambda solution: solution.quality or 0.0)
    rule = fault(best, min_scores, min_quality) or ""
    of = f"the best of {len(solutions)} traces is rated"
    if rule == "quality":
        return rule, f"{of} {best.quality:.2f}, below {min_quality:g}"
    return rule, f"{of} {(best.scores or {})[rule]} for {rule}, below {min_scores[rule]}"


def best_of(solutions: Sequence[Solution], keep: int, counts: Counter[str]) -> list[Solution]:
    """The `keep` best ones, the first of equals before the others."""
    ordered = sorted(solutions, key=lambda solution: -(solution.quality or 0.0))
    counts["solutions_removed/not_best"] += len(ordered[keep:])
    counts["solutions_kept"] += len(ordered[:keep])
    return ordered[:keep]

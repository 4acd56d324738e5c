"""Best-of-N: several whole answers, sampled independently, and the one that a judge prefers.

With the judge `majority` it is self-consistency (arXiv 2203.11171). `greedy` is the baseline without any search.
"""

from __future__ import annotations

from inference.branches import WHOLE, best, check_temperature, expand, width
from inference.types import Branch, Judge, Question, Search, answer_of


def greedy(question: Question) -> Search:
    """The most likely answer, token by token."""
    [branch] = yield from expand([Branch(question)], 1, WHOLE, greedy=True)
    return answer_of(branch)


def best_of_n(question: Question, judge: Judge, *, candidates: int) -> Search:
    """The best of `candidates` answers."""
    check_temperature(question, candidates)
    answers = yield from expand([Branch(question)], width(question, candidates), WHOLE)
    [branch] = yield from best(judge, WHOLE, answers)
    return answer_of(branch)

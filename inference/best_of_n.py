"""Best-of-N: several whole answers to each row, sampled independently, and the one that a selector prefers."""

from __future__ import annotations

from collections.abc import Sequence

from engines.engine import Engine
from engines.rollout import Request, Rollout, Sampling, by_request
from inference.types import Answer, Selector, choose


def best_of_n(
    engine: Engine, requests: Sequence[Request], select: Selector, *, sampling: Sampling
) -> list[Answer]:
    """One answer for each request, chosen by `select` among the `request.n` that are sampled (temperature above 0)."""
    return pick(requests, sample(engine, requests, sampling), select)


def sample(engine: Engine, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
    """`request.n` answers to each request."""
    if sampling.temperature == 0 and any(request.n > 1 for request in requests):
        raise ValueError(
            "temperature 0 gives the same answer n times; expected a temperature above 0 for n > 1"
        )
    return by_request(requests, engine.generate(requests, sampling))


def pick(
    requests: Sequence[Request], candidates: Sequence[Sequence[Rollout]], select: Selector
) -> list[Answer]:
    """The preferred one of each request's candidates."""
    answers = []
    for request, some in zip(requests, candidates, strict=True):
        index = choose(select, request.row, "", some)
        answers.append(Answer(some[index], sum(len(r.completion_ids) for r in some), (index,)))
    return answers

"""Best-of-N: several whole answers to each row, sampled independently, and the one that a selector prefers."""

from __future__ import annotations

from collections.abc import Sequence

from core.rows import Row
from engines.engine import Engine
from engines.rollout import Request, Rollout, Sampling
from inference.types import Answer, Selector, choose
from vlm.inputs import Encoded


def best_of_n(
    engine: Engine,
    rows: Sequence[Row],
    prompts: Sequence[Encoded],
    select: Selector,
    *,
    n: int,
    sampling: Sampling,
) -> list[Answer]:
    """One answer per row, chosen by `select` among `n` that are sampled as `sampling` says (temperature above 0)."""
    return pick(rows, sample(engine, rows, prompts, n, sampling), select)


def sample(
    engine: Engine, rows: Sequence[Row], prompts: Sequence[Encoded], n: int, sampling: Sampling
) -> list[list[Rollout]]:
    """`n` answers to each row. prompts: the rows' (`vlm.inputs.encode_row`)."""
    if n > 1 and sampling.temperature == 0:
        raise ValueError(f"temperature 0 gives one answer {n} times; expected a temperature above 0")
    requests = [Request(row["id"], prompt, n=n) for row, prompt in zip(rows, prompts, strict=True)]
    rollouts = engine.generate(requests, sampling)
    return [rollouts[i : i + n] for i in range(0, len(rollouts), n)]


def pick(rows: Sequence[Row], candidates: Sequence[Sequence[Rollout]], select: Selector) -> list[Answer]:
    """The preferred one of each row's candidates."""
    answers = []
    for row, some in zip(rows, candidates, strict=True):
        index = choose(select, row, "", some)
        answers.append(Answer(some[index], sum(len(r.completion_ids) for r in some), (index,)))
    return answers

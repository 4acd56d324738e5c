"""The LLM judge that some benchmarks officially need, behind any OpenAI-compatible endpoint, through the request cache.

A reply that cannot be read is asked for again, as officially; after `TRIES` of them the rule-based verdict stands, and is counted.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.config import read_config
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint, EndpointError
from evaluation.benchmarks.benchmark import Benchmark, BenchmarkError, Judge, rule, template
from evaluation.benchmarks.scoring import Scored, scored

TRIES = 3
_NUMBER = re.compile(r"(?<![\d.])(?:0(?:\.\d+)?|1(?:\.0+)?|\.\d+)(?![\d.]*\d)")


def read_endpoint(path: Path) -> Endpoint:
    """The endpoint that a YAML file describes. Raises ConfigError."""
    return read_config(Endpoint, path)


def judged(
    benchmark: Benchmark, answers: Sequence[Scored], endpoint: Endpoint, cache: Path
) -> tuple[list[Scored], dict[str, int]]:
    """The answers with the judge's verdicts, and counts: `asked`, `unreadable` (the rule-based verdict stands), and those of the
    requests (`judge/requests`, `judge/cached`, …).

    cache: folder; an answer that was judged before costs nothing. Raises BenchmarkError where the benchmark has no judge that can
    be asked, or the endpoint cannot be used.
    """
    judge = benchmark.judge
    if judge is None or judge.prompt is None:
        raise BenchmarkError(
            f"{benchmark.title}: expected a benchmark with a judge that can be asked, got one without"
        )
    counts: Counter[str] = Counter()
    try:
        found = asyncio.run(_judge_all(benchmark, judge, answers, endpoint, cache, counts))
    except EndpointError as error:
        raise BenchmarkError(f"{benchmark.title}: {error}") from None
    return found, dict(counts)


async def _judge_all(
    benchmark: Benchmark,
    judge: Judge,
    answers: Sequence[Scored],
    endpoint: Endpoint,
    cache: Path,
    counts: Counter[str],
) -> list[Scored]:
    client = Client(endpoint, cache, counts, "judge")
    try:
        return await asyncio.gather(*(_judge(benchmark, judge, one, client, counts) for one in answers))
    finally:
        await client.close()


async def _judge(
    benchmark: Benchmark, judge: Judge, one: Scored, client: Client, counts: Counter[str]
) -> Scored:
    if judge.when == "unread" and one.prediction is not None:
        return one
    counts["asked"] += 1
    words = template(judge.prompt or "").render({**one.question, "response": str(one.answer or "")})
    messages = [{"role": "user", "content": words.strip()}]
    for sample in range(TRIES):
        (reply,) = await client.ask(messages, [sample])
        verdict = read_verdict(benchmark, judge, one, reply.text or "")
        if verdict is not None:
            return verdict
    counts["unreadable"] += 1
    return one


def read_verdict(benchmark: Benchmark, judge: Judge, one: Scored, reply: str) -> Scored | None:
    """The answer as the judge sees it; None for a reply that says nothing. Never raises."""
    if judge.gives == "score":
        score = _score(judge, one, reply)
        return None if score is None else replace(one, scores={"correct": score})
    said = reply.strip()
    prediction: Any = said if judge.gives == "extraction" else rule(benchmark.extract)(said, one.question)
    return scored(benchmark, one.question, one.answer, prediction) if prediction else None


def _score(judge: Judge, one: Scored, reply: str) -> float | None:
    """The score of the longest of `words` in the reply; without words, the first number in [0, 1] (after `Score:`, if it is there)."""
    if judge.words:
        said = next((w for w in sorted(judge.words, key=len, reverse=True) if w in reply.lower()), None)
        return None if said is None else float(template(str(judge.words[said])).render(one.question))
    match = _NUMBER.search(reply.lower().rpartition("score:")[2])
    return float(match.group()) if match else None

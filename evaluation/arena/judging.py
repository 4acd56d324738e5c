"""What the judge is asked and how its verdict is read: Arena-Hard's five verdicts (arXiv 2406.11939), both orders of every pair."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from core.rows import Row
from data_recipes.teacher.client import Client
from data_recipes.teacher.messages import prompt_parts, text_part
from evaluation.arena.ratings import Verdict, style_of

TRIES = 3
WON = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B>A": 0.0, "B>>A": 0.0}
_VERDICT = re.compile(r"\[\[(A>>B|A>B|A=B|B>A|B>>A)\]\]")
_SYSTEM = (
    "Please act as an impartial judge and evaluate the quality of the responses provided by two AI assistants to the user prompt"
    " displayed below, with its images. You will be given assistant A's answer and assistant B's answer. Judge whether they are"
    " correct, helpful, relevant and concise, and name any mistake. Do not let the order of the answers, their length or their"
    " formatting influence you. After a short explanation, end with exactly one of these verdicts:\n"
    "1. Assistant A is significantly better: [[A>>B]]\n2. Assistant A is slightly better: [[A>B]]\n"
    "3. Tie, relatively the same: [[A=B]]\n4. Assistant B is slightly better: [[B>A]]\n"
    "5. Assistant B is significantly better: [[B>>A]]"
)
Answers = Mapping[str, Mapping[str, str]]
"""Contestant -> id of the row -> answer."""


async def judge_all(
    rows: Sequence[Row], answers: Answers, client: Client, counts: Counter[str]
) -> list[Verdict]:
    """The verdicts on every pair of contestants and every row, in both orders; counts gets `judged` and `unreadable` (left out)."""
    tasks = [
        _judge(row, first, second, answers, client, counts)
        for row in rows
        for pair in combinations(answers, 2)
        for first, second in (pair, pair[::-1])
    ]
    return [verdict for verdict in await asyncio.gather(*tasks) if verdict is not None]


def read_verdict(text: str) -> float | None:
    """What A won by the last verdict of a reply; None if there is none, or several that differ."""
    found = {WON[verdict] for verdict in _VERDICT.findall(text)}
    return found.pop() if len(found) == 1 else None


async def _judge(
    row: Row, first: str, second: str, answers: Answers, client: Client, counts: Counter[str]
) -> Verdict | None:
    a, b = answers[first][row["id"]], answers[second][row["id"]]
    parts = [
        text_part("<|User Prompt|>"),
        *prompt_parts(row, client.endpoint),
        text_part(
            f"<|The Start of Assistant A's Answer|>\n{a}\n<|The End of Assistant A's Answer|>\n\n"
            f"<|The Start of Assistant B's Answer|>\n{b}\n<|The End of Assistant B's Answer|>"
        ),
    ]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": parts},
    ]
    counts["judged"] += 1
    for sample in range(TRIES):
        (reply,) = await client.ask(messages, [sample])
        won = read_verdict(reply.text or "")
        if won is not None:
            return Verdict(row["id"], first, second, won, (style_of(a), style_of(b)))
    counts["unreadable"] += 1
    return None

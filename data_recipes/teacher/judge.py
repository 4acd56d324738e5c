"""A model's judgement of a trace, read strictly: whatever is not exactly in the asked form counts as no approval."""

from __future__ import annotations

import json
from typing import Any

from data_recipes.teacher.client import Client

SCORES = ("clarity", "redundancy", "format")
BEST = 5

_VALID = """You check whether an answer agrees with the standard answer.

Question:
{question}

Standard answer:
{gold}

Answer to check:
{conclusion}

The answer is invalid if it means something else than the standard answer or refuses to answer. An answer that says "no", \
or is worded differently, can be valid. Reply with one word: valid or invalid."""

_QUALITY = """You rate a worked solution. Its answer has been checked already; do not judge whether it is right.

Question:
{question}

Solution:
{solution}

Give three whole numbers from 1 (worst) to 5 (best):
clarity: every step follows from what was said before, and a reader can follow it;
redundancy: 5 if nothing is said twice or for no purpose, 1 if most of it could go;
format: the parts stay in their roles (plan, description of the image, reasoning, short conclusion), with clean notation.

Reply with one JSON object and nothing else: {{"clarity": …, "redundancy": …, "format": …}}"""

_PROOF = """Does the following problem ask for a proof (or to show or explain that something holds) instead of a result that \
can be compared with a known one? A problem that asks for both counts as yes.

Problem:
{question}

Reply with one word: yes or no."""

UNKNOWN = "unknown"
_FROM_EVENTS = """Answer a question about a video from the list of its events alone.

Events:
{events}

Question:
{question}

Reply with the answer alone: the letter of an option, a number, or a few words. If the list does not say, reply: unknown"""


async def is_valid(client: Client, question: str, gold: str, conclusion: str) -> bool:
    """LLaVA-CoT's judgement whether a conclusion means the standard answer. True only if the reply is exactly "valid"."""
    prompt = _VALID.format(question=question, gold=gold, conclusion=conclusion)
    return await _word(client, prompt) == "valid"


async def asks_for_proof(client: Client, question: str) -> bool | None:
    """Whether a problem asks for a proof; None if the reply is neither exactly "yes" nor exactly "no"."""
    return {"yes": True, "no": False}.get(await _word(client, _PROOF.format(question=question)))


async def answer_from(client: Client, events: str, question: str) -> str:
    """The answer to a question about a video from its events; "" where there is no reply, UNKNOWN where they do not say."""
    prompt = _FROM_EVENTS.format(events=events, question=question)
    (reply,) = await client.ask([{"role": "user", "content": prompt}])
    return (reply.text or "").strip()


async def rate(client: Client, question: str, solution: str, tries: int = 2) -> dict[str, int] | None:
    """Scores of 1 to 5 for clarity, redundancy and format; None if `tries` replies were not exactly such JSON."""
    prompt = _QUALITY.format(question=question, solution=solution)
    for sample in range(tries):
        (reply,) = await client.ask([{"role": "user", "content": prompt}], [sample])
        scores = read_scores(reply.text or "")
        if scores is not None:
            return scores
    return None


def read_scores(text: str) -> dict[str, int] | None:
    """The scores in a reply that is one JSON object of exactly these three whole numbers, else None. Never raises."""
    try:
        found: Any = json.loads(text, object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != set(SCORES):
        return None
    if not all(type(value) is int and 1 <= value <= BEST for value in found.values()):
        return None
    return {name: found[name] for name in SCORES}


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


async def _word(client: Client, prompt: str) -> str:
    (reply,) = await client.ask([{"role": "user", "content": prompt}])
    return (reply.text or "").strip().lower()

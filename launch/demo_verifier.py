"""A verifier for the demo's answers: does the reasoning do what the question asks, by the answer's own caption?

It reads question, caption and reasoning, never the ground truth, so choosing by it is a result. It knows the demo's conventions as
a user would state them (coordinates in pixels with x first, times in seconds, multiplication before addition) and finds the
habits of the careless teachers; it cannot see whether the caption is right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SHAPE = re.compile(r"\b([a-z]+)-([a-z]+) ([abc][12])\b")
UNASKED = ("the first,", "of 1000", "y first", "in frames")


def consistent(completion: str, prompt: Sequence[Mapping[str, Any]], **row: Any) -> float | None:
    """1 if nothing in the reasoning so far contradicts question and caption, else 0; None before there is a reasoning."""
    reasoning = _block(completion, "REASONING")
    if reasoning is None:
        return None
    content = prompt[-1]["content"]
    question = content if isinstance(content, str) else " ".join(part.get("text") or "" for part in content)
    question = question.strip()
    return float(_follows(question, _block(completion, "CAPTION") or "", reasoning))


consistent.whole_text = True  # type: ignore[attr-defined]


def _follows(question: str, caption: str, reasoning: str) -> bool:
    if any(words in reasoning for words in UNASKED):
        return False
    named = SHAPE.findall(reasoning)
    if not set(named) <= set(SHAPE.findall(caption)):
        return False
    if sum_of := re.search(r"\d+ \+ (\d+ \* \d+)", question):
        return reasoning.startswith(sum_of.group(1))
    if times := re.search(r"times (\d+)", question):
        return f"* {times.group(1)} =" in reasoning and _counts(question, named, reasoning)
    return not question.startswith("How many") or _counts(question, named, reasoning)


def _counts(question: str, named: Sequence[tuple[str, str, str]], reasoning: str) -> bool:
    """Whether the shapes that are listed have the colour or form that was asked for, and are as many as it says."""
    asked = re.match(r"How many ([a-z]+)", question)
    word = asked.group(1).removesuffix("s") if asked else ""
    said = re.search(r": (\d+)", reasoning)
    counted = said is not None and int(said.group(1)) == len(named)
    return counted and all(word in (colour, form) for colour, form, _ in named)


def _block(text: str, name: str) -> str | None:
    """Text of a block, also of one that is not closed yet."""
    _, opened, rest = text.partition(f"<{name}>")
    return rest.partition(f"</{name}>")[0].strip() if opened else None

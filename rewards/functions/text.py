"""Rewards for text read from images: ANLS (soft) and exact equality. Never by substring.

Truths: `{"value": "text"}` or `{"values": ["text", "another spelling", …]}`; the best match counts. The answer is the text as
written (the last `\\boxed{…}` or `<answer>…</answer>` if there is one), or what `rewards.reading.final_answer` finds in it: "The answer
is **Main Street**." A text that begins with a negation ("not Main Street") only matches a truth that does, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rewards.reading.final_answer import find_answer
from rewards.reading.gold import field, gold_check, sequence
from rewards.reading.text import last_boxed, tail
from rewards.reading.unicode import plain_characters

MAX_TRUTH_CHARS = 5_000


def levenshtein(a: str, b: str) -> int:
    """Edit distance (insert, delete, substitute), bit-parallel (Hyyrö 2003): one pass over `b` with integers of len(a) bits."""
    if not a or not b:
        return len(a) + len(b)
    masks: dict[str, int] = {}
    for i, char in enumerate(a):
        masks[char] = masks.get(char, 0) | (1 << i)
    full, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, distance = full, 0, len(a)
    for char in b:
        match = masks.get(char, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        more, less = down | (full & ~(diagonal | up)), up & diagonal
        distance += bool(more & last) - bool(less & last)
        more = (more << 1) | 1
        up = ((less << 1) & full) | (full & ~(diagonal | more))
        down = more & diagonal & full
    return distance


def anls(predicted: str, truth: str, threshold: float = 0.5) -> float:
    """Normalised Levenshtein similarity 1 - distance / longer length, 0 if it is below `threshold` (Biten et al. 2019).

    Ignores case and the length of white space. In [0, 1]; 1 only for equal texts. Symmetric.
    """
    a, b = " ".join(predicted.split()).casefold(), " ".join(truth.split()).casefold()
    if a == b:
        return 1.0 if a else 0.0
    longer, shorter = max(len(a), len(b)), min(len(a), len(b))
    if shorter < threshold * longer:  # at least longer - shorter edits are needed
        return 0.0
    similarity = 1.0 - levenshtein(a, b) / longer
    return similarity if similarity >= threshold else 0.0


def gold_texts(answer: Mapping[str, Any]) -> list[str]:
    """The accepted texts of an answer. Raises ValueError if there are none, or one is empty, too long or not a string."""
    value = field(answer, "values", "value")
    texts = [value] if isinstance(value, str) else list(sequence(value, "answer.values"))
    for text in texts:
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_TRUTH_CHARS:
            raise ValueError(
                f"answer.value: expected a text of 1 to {MAX_TRUTH_CHARS} characters, got {text!r:.80}"
            )
    if not texts:
        raise ValueError("answer.values: expected at least one text, got none")
    return texts


def _check_texts(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    gold_texts(answer)


@gold_check(_check_texts)
def anls_reward(completion: str, answer: Mapping[str, Any], *, threshold: float = 0.5, **row: Any) -> float:
    """Best ANLS of the text with an accepted one, in [0, 1]; 1 only for an accepted text, ignoring case and white space."""
    texts = _answer_texts(completion)
    return max(
        anls(text, truth, threshold) if _denies(text) <= _denies(truth) else 0.0
        for truth in map(plain_characters, gold_texts(answer))
        for text in texts
    )


@gold_check(_check_texts)
def exact_text_reward(
    completion: str, answer: Mapping[str, Any], *, ignore_case: bool = False, **row: Any
) -> float:
    """1 if the text is an accepted one, ignoring the amount of white space and optionally case; else 0."""

    def form(text: str) -> str:
        text = " ".join(text.split())
        return text.casefold() if ignore_case else text

    truths = {form(plain_characters(truth)) for truth in gold_texts(answer)}
    return 1.0 if truths & {form(text) for text in _answer_texts(completion)} else 0.0


_DENIAL = re.compile(r"\s*(?:(?:it|this|that)\s)?(?:is\s|'s\s)?(?:not|never|isn't)\b|\s*不是", re.IGNORECASE)


def _denies(text: str) -> bool:
    return bool(_DENIAL.match(text))


def _answer_texts(completion: object) -> list[str]:
    """The answer as written, and as found; after a lead or in markup, a final full stop is not part of it."""
    text = plain_characters(tail(completion)).strip()
    boxed = last_boxed(text)
    raw = boxed if boxed is not None else text
    found = find_answer(completion)
    return [raw] if found in ("", raw.strip()) else [raw, found, found.removesuffix(".")]

"""Relaxed numeric reward for charts: ChartQA's relaxed accuracy (Masry et al. 2022, after Methani et al. 2020)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rewards.reading.final_answer import clauses, find_answer
from rewards.reading.gold import field, gold_check, number
from rewards.reading.quantities import Number, stated_number
from rewards.reading.text import plain_number, plain_text

MAX_WORDS_CHARS = 1_000
"""Longer texts do not answer a truth in words."""

# "Blue color", "the blue bar" and "Blue line" answer "Blue": the noun comes from the question.
_NOUN = re.compile(r"\s(?:colou?r(?:ed)?|bar|line|slice|segment|category|group|year|one)\Z")
_IS = re.compile(
    r"\A(?:(?:it|this|that|he|she|they|the\s[a-z]{2,20}(?:\s[a-z]{2,20})?)\s(?:is|was|are|were|would\sbe)\s|(?:it|that)'s\s)?(?:(?:the|an?)\s)?"
)
_CONFIRMS = re.compile(r"\A(?:yes|no)\Z")


def gold_value(answer: Mapping[str, Any]) -> tuple[str, Number | None]:
    """(text, number or None for words) of an answer `{"value": "12.5"}` (string or number). Raises ValueError if broken."""
    value = field(answer, "value")
    text = value if isinstance(value, str) else repr(number(value, "answer.value", limit=1e300))
    if not plain_text(text) or len(text) > MAX_WORDS_CHARS:
        raise ValueError(f"answer.value: expected a number or a short text, got {value!r:.80}")
    plain = plain_number(text)
    return text, None if plain is None else Number(plain.value, plain.percent, False)


def _check_value(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    gold_value(answer)


@gold_check(_check_value)
def relaxed_numeric_reward(
    completion: str, answer: Mapping[str, Any], *, tolerance: float = 0.05, **row: Any
) -> float:
    """1 if |predicted - true| <= tolerance * |true| (exactly equal if the truth is 0), or for words if they are equal; else 0.

    The answer (`rewards.reading.final_answer`) must state one number (`about 12.5 cm`, `3 million`, `twelve`). 50 answers 50 %; a
    percentage answers a decimal truth below 10 (57 % for 0.57), but not a whole number (1200 % for 12). As in ChartQA the
    tolerance also applies to years: set tolerance 0 for those.
    """
    truth, true = gold_value(answer)
    text = find_answer(completion)
    if true is None:
        return 1.0 if _same_words(text, plain_text(_dashes(truth))) else 0.0
    predicted = stated_number(text)
    if predicted is None:
        return 1.0 if len(text) <= MAX_WORDS_CHARS and plain_text(text) == plain_text(truth) else 0.0
    limit = Fraction(tolerance).limit_denominator(10**9) * abs(true.value)
    return 1.0 if any(abs(value - true.value) <= limit for value in _readings(predicted, true)) else 0.0


def _readings(predicted: Number, true: Number) -> list[Fraction]:
    """The values that a stated number may have in the truth's unit (percent or plain)."""
    if predicted.percent == true.percent:
        return [predicted.value]
    if true.percent:
        return [predicted.value, predicted.value * 100]
    return [predicted.value / 100] if true.value.denominator > 1 and abs(true.value) < 10 else []


def _dashes(text: str) -> str:
    return re.sub("[\u2010-\u2015]", "-", text)


def _same_words(text: str, truth: str) -> bool:
    """Whether an answer equals a truth in words: alone, after "it is", with the question's noun, or as "yes, it is"."""
    if len(text) > MAX_WORDS_CHARS:
        return False
    words = plain_text(_dashes(text))
    for form in (words, _IS.sub("", words), _NOUN.sub("", _IS.sub("", words))):
        if form == truth:
            return True
    if not _CONFIRMS.match(truth):
        return False
    first, *others = [clause.text.casefold() for clause in clauses(text)[:8]] or [""]
    opposite = "no" if truth == "yes" else "yes"
    return plain_text(first) == truth and not any(
        re.search(rf"\b(?:or|{opposite})\b", other) for other in others
    )

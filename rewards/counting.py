"""Reward for counts: exactly the true integer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rewards.gold import field, gold_check, number
from rewards.reading import last_boxed, plain_number, tail

_WORDS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *(
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ),
]
_WORD = re.compile(r"\b(?:" + "|".join(_WORDS) + r")\b", re.IGNORECASE)
# A number with whatever sticks to it, so that a part of "1e999", "3x", "1/2", "3:4" or "12-15" is never taken for a number.
_TOKEN = re.compile(r"(?:(?<=\s)|\A|(?<=[*$(\[\"'=]))[-+−]?[0-9][0-9A-Za-z,.:/^_%−+\-]*")


def read_count(completion: object) -> Fraction | None:
    r"""The one number in an answer text: the last `\boxed{…}` if there is one, the text itself, else the only number in it.

    Digits, or words up to twenty where there are no digits ("three cats"). None if there is no number, or there are different ones.
    """
    text = tail(completion)
    boxed = last_boxed(text)
    text = boxed if boxed is not None else text
    plain = plain_number(text)
    if plain:
        return None if plain.percent else plain.value
    tokens = {
        match.group().rstrip(".,:%") if match.group()[-1] != "%" else match.group()
        for match in _TOKEN.finditer(text)
    }
    if tokens:
        values = {
            parsed.value if (parsed := plain_number(token)) and not parsed.percent else None
            for token in tokens
        }
        return values.pop() if len(values) == 1 else None
    if any(char.isdigit() for char in text):
        return None
    words = {word.lower() for word in _WORD.findall(text)}
    return Fraction(_WORDS.index(words.pop())) if len(words) == 1 else None


def gold_count(answer: Mapping[str, Any]) -> int:
    """The true count of an answer `{"value": 3}` (or "3"); ValueError unless it is an integer >= 0."""
    value = field(answer, "value", "count")
    if isinstance(value, str):
        plain = plain_number(value)
        value = (
            None
            if plain is None or plain.percent
            else float(plain.value)
            if plain.value.denominator > 1
            else int(plain.value)
        )
        if value is None:
            raise ValueError(f"answer.value: expected an integer, got {answer.get('value')!r:.80}")
    parsed = number(value, "answer.value")
    if parsed < 0 or not parsed.is_integer():
        raise ValueError(f"answer.value: expected an integer of at least 0, got {value!r:.80}")
    return int(parsed)


def _check_count(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    gold_count(answer)


@gold_check(_check_count)
def counting_reward(completion: str, answer: Mapping[str, Any], **row: Any) -> float:
    """1 if the one number in the text is the true count, else 0."""
    return 1.0 if read_count(completion) == gold_count(answer) else 0.0

"""Reward for counts: exactly the true integer, in digits or in words.

The answer is found by the rule of `rewards.reading.final_answer` and read by `rewards.reading.quantities`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rewards.reading.final_answer import find_answer
from rewards.reading.gold import field, gold_check, number
from rewards.reading.quantities import stated_number
from rewards.reading.text import plain_number, tail

_NOTHING = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s)?"
    r"(?:(?:(?:no,\s)?there(?:\s(?:is|are)|'s|'re)|(?:i|we)\s(?:can\s)?(?:see|count|find)|it\s(?:shows|has|contains)|the\s(?:image|picture|photo)\s(?:shows|has|contains))\s)?"
    r"(?:none|nothing|nobody|zero(?:\s[a-z]{2,20}){1,3}|not\sany|not\s(?:a\ssingle|one)(?:\s[a-z]{2,20}){0,2}|no(?!\s(?:idea|comment|number|answer|way|doubt|clue|information|more|less|fewer|longer|problem|question|need|matter|good|one\sknows|of)\b)"
    r"(?:\s[a-z-]{2,20}){1,3})"
    r"(?:\sof\s(?:them|these|those|the\s[a-z]{2,20}))?"
    r"(?:\s(?:is|are|was|were|can\sbe)(?:\s[a-z]{2,20}){0,2}|\s(?:there|here|at\sall|visible|present|in\s(?:the|this)\s[a-z]{2,20})){0,3}"
    r"|there\s(?:isn't|is\snot)\san?(?:\ssingle)?(?:\s[a-z-]{2,20}){1,3}|(?:there\s(?:aren't|isn't|are\snot|is\snot)|(?:i|we)\s(?:don't|do\snot|can't|cannot)\ssee)\sany(?:\s[a-z-]{2,20}){0,3}"
    r"|一[\u3400-\u9fff](?:也|都)没有|(?:图中|图片中|画面中|这里)?(?:没有|无)(?:任何)?(?!答案|信息|办法|把握)[\u3400-\u9fff]{0,6}",
    re.IGNORECASE,
)
_SINGLE = re.compile(
    r"\b(?:an?|the|one|only\s(?:an?|one))\s(?:single|sole)\s(?!(?:one|1)\b)(?=[a-z])", re.IGNORECASE
)
_PRONOUN = re.compile(
    r"\b(?:every|each|another|this|that|which|any|some|the\s(?!only|single|sole)[a-z]+|an?\s(?!single|sole)[a-z]+)\sone\b",
    re.IGNORECASE,
)


def read_count(completion: object) -> Fraction | None:
    r"""The one number that an answer states (`3`, `three cats`, `5 dogs and 3 cats, 8 in total`, `共三只`), or None.

    "No cats", "none" and the like are 0. None for percentages, rates, bounds, ranges, ordinals and several different numbers.
    """
    plain = plain_number(tail(completion))
    if plain:
        return None if plain.percent else plain.value
    text = find_answer(completion)
    if _NOTHING.fullmatch(text.rstrip(".!。")):
        return Fraction(0)
    stated = stated_number(_PRONOUN.sub("it", _SINGLE.sub("1 ", text)))
    return None if stated is None or stated.percent or stated.rate else stated.value


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
    """1 if the one number that the text states is the true count, else 0."""
    return 1.0 if read_count(completion) == gold_count(answer) else 0.0

"""Relaxed numeric reward for charts: ChartQA's relaxed accuracy (Masry et al. 2022, after Methani et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rewards.gold import field, gold_check, number
from rewards.reading import last_boxed, plain_number, plain_text, tail, without_lead


def _value(text: str) -> Fraction | None:
    """The number a text is, percent as a fraction of 1 (as ChartQA's `_to_float`); None for other texts."""
    plain = plain_number(text)
    return None if plain is None else plain.value / 100 if plain.percent else plain.value


def gold_value(answer: Mapping[str, Any]) -> tuple[str, Fraction | None]:
    """(text, number or None if it is a word) of an answer `{"value": "12.5"}` (string or number); ValueError if broken."""
    value = field(answer, "value")
    text = value if isinstance(value, str) else repr(number(value, "answer.value", limit=1e300))
    if not plain_text(text) or len(text) > 1000:
        raise ValueError(f"answer.value: expected a number or a short text, got {value!r:.80}")
    return text, _value(text)


def _check_value(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    gold_value(answer)


@gold_check(_check_value)
def relaxed_numeric_reward(
    completion: str, answer: Mapping[str, Any], *, tolerance: float = 0.05, **row: Any
) -> float:
    """1 if |predicted - true| <= tolerance * |true| (exactly equal where the truth is 0); for words, if equal. Else 0.

    The text must be the number (a percent sign means a hundredth, a leading "The answer is" is skipped, the last boxed answer
    counts). As in ChartQA the tolerance applies to years too: give tolerance 0 for those.
    """
    truth, true = gold_value(answer)
    text = tail(completion).strip()
    boxed = last_boxed(text)
    text = boxed if boxed is not None else without_lead(text)
    predicted = _value(text)
    if true is None or predicted is None:
        return 1.0 if len(text) <= 1000 and plain_text(text) == plain_text(truth) else 0.0
    return 1.0 if abs(predicted - true) <= Fraction(tolerance).limit_denominator(10**9) * abs(true) else 0.0

"""Reading a text that is an answer as typed values, as a whole or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from rewards.mathematics.grammar import Parser
from rewards.mathematics.markup import tokens
from rewards.mathematics.relations import simplified
from rewards.mathematics.tokens import Token, Unreadable
from rewards.mathematics.values import Day, Quantity, Sequence, Value, Words
from rewards.reading.number_words import with_digits
from rewards.reading.text import plain_text
from rewards.reading.unicode import plain_characters

MAX_CHARS = 1_000
"""Longer texts are not answers."""


@dataclass(frozen=True)
class Reading:
    """One way to read a text. `ambiguous`: why it could also be read otherwise; `tokens`: what was read."""

    value: Value
    ambiguous: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()


@lru_cache(maxsize=8192)
def read(text: str) -> tuple[Reading, ...]:
    """The ways to read a text, the likeliest first; empty if it cannot be read whole as mathematics or as words.

    There is more than one for `5 m` (five metres, or 5 times m), `1000,99` (a decimal comma, or two numbers).
    """
    text = bare(text)
    if not text or len(text) > MAX_CHARS:
        return ()
    day = _day(text)
    if day is not None:
        return (Reading(day),)
    found = _mathematics(text)
    spelled = with_digits(_HYPHEN.sub(" ", text)) if not found or isinstance(found[0].value, Words) else text
    if spelled != text:
        numbers = [reading for reading in _mathematics(spelled) if not isinstance(reading.value, Words)]
        found = numbers or found
    if found:
        return tuple(found)
    words = _words(text)
    return (Reading(words),) if words is not None else ()


_HYPHEN = re.compile(
    r"(?<=[a-z])-(?=(?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?)\b)"
)


def bare(text: str) -> str:
    """The text without surrounding white space, quotes and punctuation."""
    text = plain_characters(text).strip()
    for _ in range(3):
        quoted = re.fullmatch(r"([\"'])([^\"']*)\1\.?", text)
        text = quoted.group(2).strip() if quoted else text
        text = re.sub(
            r"(?<!\\)[,;:]+\Z|(?<!\\)\\\Z", "", text
        ).rstrip()  # a lone backslash is left of `\\ `, a space
        if (
            text.endswith(".")
            and not text.endswith("..")
            and not re.search(r"\b[ap]\.m\.\Z", text, re.IGNORECASE)
        ):
            text = text[:-1].rstrip()
    return text


# One comma, not before three digits (thousands), in a text that is one number with an optional unit.
_DECIMAL_COMMA = re.compile(r"([-+]?\s?[0-9]{1,20}),([0-9]{1,2}|[0-9]{4,20})(\s?[^0-9,;()\[\]{}]{0,20})")


_HYPHENATED = re.compile(r"(-?[0-9]{1,9})-([0-9]{1,9})/([0-9]{1,9})")
"""A mixed number written with a hyphen: 2-1/2."""


def _mathematics(text: str) -> list[Reading]:
    found: list[Reading] = []
    try:
        parts = tokens(text)
    except Unreadable:
        return []
    for letters_are_units in (True, False):
        reading = _parsed(parts, letters_are_units)
        if reading is not None and reading.value not in [other.value for other in found]:
            found.append(reading)
    hyphen = _HYPHENATED.fullmatch(text)
    if hyphen and int(hyphen[2]) < int(hyphen[3]):
        found = [replace(reading, ambiguous=("a difference or a mixed number",)) for reading in found]
        found += _mathematics(f"{hyphen[1]} {hyphen[2]}/{hyphen[3]}")[:1]
    comma = _DECIMAL_COMMA.fullmatch(text)
    if comma:
        found += _mathematics(f"{comma[1]}.{comma[2]}{comma[3]}")[:1]
    return found


def _parsed(parts: list[Token], letters_are_units: bool) -> Reading | None:
    parser = Parser(list(parts), letters_are_units)
    try:
        value = parser.whole()
    except (Unreadable, RecursionError):
        return None
    return Reading(simplified(value), tuple(parser.ambiguous), tuple(part.text for part in parts))


_WORD = re.compile(r"[^\W\d_]")
_MATHEMATICS = re.compile(r"\\(?!text|mathrm|textbf|mbox)[A-Za-z]+|[=^_{}<>|+*/\\]|\?")


def _words(text: str) -> Words | None:
    """Words that the grammar does not know (`Route 66`, `x-axis`); None if mathematics is mixed in."""
    plain = plain_text(text)
    unwrapped = re.sub(r"\\(?:text|mathrm|textbf|mbox)\s?\{([^{}]*)\}", r"\1", text)
    if not _WORD.search(plain) or _MATHEMATICS.search(unwrapped.strip("$")):
        return None
    return Words(plain)


_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = "|".join(name[:3] + (f"(?:{name[3:]})?" if name[3:] else "") for name in _MONTHS)
_DAY = re.compile(
    rf"(?:(?P<m1>{_MONTH})\.?\s(?P<d1>[0-9]{{1,2}})(?:st|nd|rd|th)?(?:,?\s(?P<y1>[0-9]{{4}}))?"
    rf"|(?P<d2>[0-9]{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?(?P<m2>{_MONTH})\.?(?:,?\s(?P<y2>[0-9]{{4}}))?"
    r"|(?P<y3>[0-9]{4})(?:-|\s?年\s?)(?P<m3>[0-9]{1,2})(?:-|\s?月\s?)(?P<d3>[0-9]{1,2})\s?日?)",
    re.IGNORECASE,
)


def _day(text: str) -> Day | None:
    unwrapped = re.sub(r"\\(?:text|mathrm|textbf|mbox)\s?\{([^{}]*)\}", r"\1", text).strip("$ ")
    match = _DAY.fullmatch(unwrapped) if len(unwrapped) < 60 else None
    if match is None:
        return None
    year, month, day = (
        next((v for k, v in match.groupdict().items() if v and k[0] == part), None) for part in "ymd"
    )
    number = (
        int(month)
        if month and month.isdigit()
        else [name[:3] for name in _MONTHS].index((month or "")[:3].lower()) + 1
    )
    if not (1 <= number <= 12 and 1 <= int(day or 0) <= 31):
        return None
    return Day(int(year) if year else None, number, int(day or 0))


def joined(values: list[Value]) -> Value:
    """Several answers as one list; lists among them are flattened."""
    items: list[Value] = []
    for value in values:
        items.extend(value.items if isinstance(value, Sequence) and not value.left else [value])
    return items[0] if len(items) == 1 else Sequence("", tuple(items), "")


def is_plain_letter(value: Value) -> bool:
    """Whether a value is one capital letter, like the name of an option."""
    return (
        isinstance(value, Quantity)
        and value.unit is None
        and value.expr.op == "sym"
        and bool(re.fullmatch("[A-Z]", value.expr.args[0]))
    )

"""Coordinates in an answer: lists in brackets or tags, named values, bare lists. Shared by boxes and points.

Reads the part that is marked as the answer, else the whole text (rule 1 of `rewards.reading.final_answer`). A list that is denied
("not [1, 2, 3, 4]") is skipped, and one that is left open ("maybe (1, 2)", "[…] or […]") makes the answer unreadable. JSON is
matched as text, so broken JSON works too, and nothing is evaluated. Numbers are plain decimals, optionally with `px`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rewards.reading.final_answer import marked_answer, standing
from rewards.reading.text import NUMBER

_N = rf"{NUMBER}(?:\s?px\b)?(?![\w.%])"
_SEPARATOR = r"(?:\s{0,40}[,;|]\s{0,40}|\s{1,40})"
_LIST = re.compile(
    rf"[\[({{]\s{{0,40}}({_N}(?:{_SEPARATOR}{_N}){{1,11}})\s{{0,40}},?\s{{0,40}}(?:[\])}}]|(?=,\s{{0,9}}[A-Za-z_]{{1,20}}\s?=))"
)
_BARE = re.compile(
    rf"(?<![\w.,\[({{:;+-]){_N}(?:\s{{0,9}}[,;]\s{{0,9}}{_N}){{1,11}}|(?<=[:=]\s){_N}(?:\s{{1,9}}{_N}){{1,11}}"
)
_WHOLE = re.compile(rf"\s{{0,40}}({_N}(?:{_SEPARATOR}{_N}){{1,11}})\s{{0,40}}\.?\s{{0,40}}")
_VALUE = re.compile(NUMBER)
_TAG = re.compile(r"<(/?)(?:b?box|points?|click|coords?|coordinates?|loc|region)>", re.IGNORECASE)
# Quoted numbers count only after a name that says what they are: {"point_2d": ["150", "200"]}.
_QUOTED = re.compile(
    rf"[\"'](?:bbox(?:_2d)?|box(?:_2d)?|bounding_box|point(?:_2d)?|coordinates?|position|center)[\"']\s?:\s?"
    rf"\[\s{{0,9}}((?:[\"']{_N}[\"']\s{{0,9}},?\s{{0,9}}){{2,4}})\]",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"(?<![\w.-])[\"']?([A-Za-z][A-Za-z0-9_]{{0,19}})(?:[-\s](?:coordinate|coord|position|value))?[\"']?(?:\s?[:=]|\sis\b)\s?[\"']?({_N})[\"']?"
)

MAX_LISTS = 1_100
"""Maximum number of lists read in one answer."""


class Numbers(NamedTuple):
    """A list of numbers as written, and its position in the text."""

    values: tuple[float, ...]
    start: int
    end: int


class Named(NamedTuple):
    """One `name: value` (JSON, keywords, attributes of a tag), the name in lower case."""

    name: str
    value: float
    start: int
    end: int


def answer_with_places(completion: object) -> str:
    """The marked answer with tags of boxes and points replaced by brackets: `<box>1,2,3,4</box>` becomes `[1,2,3,4]`."""
    text = re.sub(r"\\([\[\]()])", r"\1", marked_answer(completion))  # \[…\] is a bracket of LaTeX
    return _TAG.sub(lambda tag: "]" if tag.group(1) else "[", text)


def number_lists(text: str) -> list[Numbers] | None:
    """All lists of 2 to 12 numbers in a text that are not denied, in order; None if one of them is left open.

    Lists in brackets, or if there are none, numbers that are the whole text or are separated by commas in a sentence.
    """
    whole = _WHOLE.fullmatch(text)
    if whole:
        return [Numbers(_values(whole.group(1)), 0, len(text))]
    found = []
    matches = [*_LIST.finditer(text), *_QUOTED.finditer(text)] or list(_BARE.finditer(text))
    for match in sorted(matches, key=lambda match: match.start())[:MAX_LISTS]:
        how = standing(text[: match.start()][-100:], text[match.end() :][:40])
        if how == "open":
            return None
        if how == "stated":
            found.append(Numbers(_values(match.group()), *match.span()))
    return found


def named_values(text: str) -> Iterator[Named]:
    """All named numbers in a text, in order (at most 4 times MAX_LISTS)."""
    for count, match in enumerate(_NAMED.finditer(text)):
        if count >= 4 * MAX_LISTS:
            return
        yield Named(match.group(1).lower(), _values(match.group(2))[0], *match.span())


def _values(text: str) -> tuple[float, ...]:
    return tuple(float(value) for value in _VALUE.findall(text.replace("_2d", "")))

"""Reading what a model wrote, in bounded linear time; never evaluates and never raises.

Only the last MAX_CHARS characters of a text are read. Digits are ASCII digits: digits of other scripts, NaN, Infinity, true and
quoted numbers are not numbers.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_CHARS = 20_000
"""Number of characters read from the end of a completion; a final answer that starts earlier is not seen."""

NUMBER = r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,3})?"
"""A plain decimal number. All quantifiers are bounded, which limits backtracking."""


class PlainNumber(NamedTuple):
    """A number as written: its exact value, whether a percent sign followed ('28 %' has value 28), and whether it had a point."""

    value: Fraction
    percent: bool
    decimal: bool


def tail(completion: object) -> str:
    """The part of a completion that is read; anything other than a string counts as empty."""
    return completion[-MAX_CHARS:] if isinstance(completion, str) else ""


_BOXED = re.compile(r"\\(?:f?boxed|fbox)\s{0,3}(\{|[0-9]{1,100}(?:\.[0-9]{1,100})?)")


class Boxed(NamedTuple):
    r"""One `\boxed{…}`: its start (the backslash) and end in the text, and its content."""

    start: int
    end: int
    content: str


def boxed_answers(text: str) -> list[Boxed]:
    r"""All complete outermost `\boxed{…}` (balanced braces) and `\boxed 7` in order. One pass, whatever the depth of nesting."""
    found = list(_BOXED.finditer(text))
    if not found:
        return []
    starts = {match.end() - 1: match.start() for match in found if match[1] == "{"}
    result = [Boxed(match.start(), match.end(), match[1]) for match in found if match[1] != "{"]
    depth = 0
    opened: list[
        tuple[int, int]
    ] = []  # (depth outside, position of the opening brace) of boxes not yet closed
    for match in re.finditer(r"\\.|[{}]", text):
        # `\b` of `\boxed`, `\{` and `\}` are escapes: they never open or close a group.
        token, at = match.group(), match.start()
        if token == "{":
            if at in starts:
                opened.append((depth, at))
            depth += 1
        elif token == "}" and depth:
            depth -= 1
            if opened and opened[-1][0] == depth:
                brace = opened.pop()[1]
                result.append(Boxed(starts[brace], at + 1, text[brace + 1 : at]))
    result.sort()
    outermost: list[Boxed] = []
    for box in result:
        if not outermost or box.start >= outermost[-1].end:
            outermost.append(box)
    return outermost


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete `\boxed{…}`; None if there is none."""
    boxes = boxed_answers(text)
    return boxes[-1].content if boxes else None


_CONNECTOR = re.compile(
    r"(?:\s|\\[,;:! ()\[\]]|\\q?quad|\\text\s?\{[^{}]{0,40}\b(?:and|or)\s*\}|\\text\s?\{\s*,\s*\}|[$,;]|\band\b|\bor\b)*"
)


def last_boxed_list(text: str, side_by_side: bool = False) -> list[str]:
    r"""The last list of boxed answers, such as `\boxed{1}, \boxed{2} and \boxed{3}`, which is one answer with several values.
    Boxes with other text between them are separate; so are boxes with only space between them, unless `side_by_side`."""
    boxes = boxed_answers(text)
    run = boxes[-1:]
    for before, after in zip(reversed(boxes[:-1]), reversed(boxes[1:]), strict=True):
        between = text[before.end : after.start]
        connected = side_by_side or re.search(r"[,;]|and|or", between)
        if len(between) > 60 or not connected or not _CONNECTOR.fullmatch(between):
            break
        run.insert(0, before)
    return [box.content for box in run]


_PLAIN = re.compile(
    r"(?:\\?[$€£¥₹]\s?)?([-+−]?)(?:\\?[$€£¥₹]\s?)?"
    r"([0-9]{1,3}(?:(?:,|\{,\}|\\,|\\!|,\\!)[0-9]{3}){1,30}|[0-9]{1,100})?(\.[0-9]{0,100})?"
    r"(?:(?:[eE]|\s?(?:\\times|×|\*|\\cdot)\s?10\s?(?:\^|\*\*)\s?)\{?([-+−]?[0-9]{1,3})\}?)?"
    r"\s?(\\?%|percent|percentage|[$€£¥₹])?",
    re.ASCII,
)


def plain_number(text: str) -> PlainNumber | None:
    r"""The number that a text *is* (nothing else in it), or None.

    Read: signs, thousands separators in groups of three (`4,656`, `4{,}656`), decimals, `1.5e3`, `1.5 \times 10^3`,
    currency signs before or after, percent, surrounding `$…$`, `**…**` and one final full stop.
    """
    text = text.strip()
    if len(text) > 400:
        return None
    for _ in range(3):
        if len(text) >= 2 and text[0] == "$" == text[-1] and text[-2] != "\\" and text.count("$") == 2:
            text = text[1:-1].strip()
        text = text.strip("*").strip()
        if text.endswith(".") and len(text) > 1:
            text = text[:-1].strip()
    match = _PLAIN.fullmatch(text)
    if not match:
        return None
    sign, whole, decimals, exponent, suffix = match.groups()
    whole = re.sub(r"[^0-9]", "", whole or "")
    decimals = (decimals or "").lstrip(".")
    if not whole and not decimals:
        return None
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
    if exponent:
        power = int(exponent.replace("−", "-"))
        if abs(power) > 400:  # keeps exact powers of ten small
            return None
        value *= Fraction(10) ** power
    if sign in ("-", "−"):
        value = -value
    return PlainNumber(
        value, bool(suffix) and ("%" in suffix or "percent" in suffix), bool(decimals or exponent)
    )


_TEXT_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]{0,400})\}"
)
_SPACE_COMMAND = re.compile(r"\\[,;:! ()\[\]]|~|\\quad|\\qquad")


def decimal_comma(text: str) -> PlainNumber | None:
    """A number written with a decimal comma (`1000,99`; one comma, not before exactly three digits), or None."""
    match = re.fullmatch(r"\s*([-+−]?[0-9]{1,20}),([0-9]{1,2}|[0-9]{4,20})\s*", text, re.ASCII)
    return plain_number(f"{match.group(1)}.{match.group(2)}") if match else None


def plain_text(text: str) -> str:
    r"""Normalised text for comparing words: `\text{…}` unwrapped, surrounding `$`, `*` and quotes removed, white space collapsed,
    case folded, and one final `.`, `,`, `;`, `:` or `!` removed."""
    text = _SPACE_COMMAND.sub(" ", _TEXT_COMMAND.sub(r"\1", text))
    text = " ".join(text.split()).strip("$*\"'`“”‘’ ")
    return text.rstrip(".,;:! ").casefold()


_LEAD = re.compile(
    r"(?:so|thus|therefore|hence)?,?\s{0,3}(?:the|my)?\s{0,3}(?:final|correct|right|best)?\s{0,3}"
    r"(?:answer|option|choice|result)\s{0,3}(?:is|:|=)?\s{0,3}(?:option|choice|:)?\s{0,3}",
    re.IGNORECASE,
)


def without_lead(text: str) -> str:
    """The text without a leading 'The answer is', 'Final answer:', 'Option', … ."""
    text = text.strip().lstrip("*").lstrip()
    match = _LEAD.match(text)
    return text[match.end() :].strip() if match else text

"""Reward for multiple choice: the letter or the exact text of an option, never a substring."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.gold import field, gold_check, sequence
from rewards.reading import last_boxed, plain_text, tail, without_lead

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LETTER = re.compile(r"[\(\[]?([A-Za-z])[\)\]]?\s?[.:,]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Z])\)\s{0,3}[.:,-]?|([A-Z])\s{0,3}[.:)-])\s{0,9}(\S.*)", re.DOTALL)
_OTHER_LETTER = re.compile(r"\([A-Z]\)|\b[B-HJ-Z]\b|\b[A-Z][.):](?:\s|$)")


def options_of(answer: Any, row: Any) -> list[str] | None:
    """Texts of the options in order (letter A first): `options` or `choices` of the answer or the row; None if unknown."""
    for source in (answer, row):
        if not isinstance(source, Mapping):  # a broken answer: reported by whoever reads its fields
            continue
        for name in ("options", "choices"):
            value = source.get(name)
            if value is not None and len(value):
                if isinstance(value, Mapping):  # {"A": "a cat", …}
                    value = [value[key] for key in sorted(value) if value[key] is not None]
                return [str(item) for item in sequence(value, name)]
    return None


def read_choice(completion: object, options: Sequence[str] | None = None) -> str | None:
    r"""The letter that an answer text chooses, or None if it chooses none or not exactly one.

    In this order: the last `\boxed{…}` alone counts if there is one; a leading "The answer is" is skipped; `B`, `(B)`, `B.`, `b`;
    an option's exact text; letter and text together (`B. a cat`), which must agree where the options are known.
    """
    text = tail(completion)
    boxed = last_boxed(text)
    text = without_lead(_strip(boxed if boxed is not None else text))
    text = _strip(text)
    letters = LETTERS[: len(options)] if options else LETTERS
    match = _LETTER.fullmatch(text)
    if match and match.group(1).upper() in letters:
        return match.group(1).upper()
    wanted = plain_text(text)
    if options and wanted:
        same = [
            letter for letter, option in zip(letters, options, strict=False) if plain_text(option) == wanted
        ]
        if same:
            return same[0] if len(same) == 1 else None
    match = _LETTER_AND_TEXT.fullmatch(text)
    if not match:
        return None
    letter, rest = match.group(1) or match.group(2), match.group(3)
    if letter not in letters:
        return None
    if options:
        return letter if plain_text(options[letters.index(letter)]) == plain_text(rest) else None
    return None if _OTHER_LETTER.search(rest) else letter


def gold_letter(answer: Mapping[str, Any], options: Sequence[str] | None) -> str:
    """The true letter of an answer `{"letter": "B"}`, or `{"value": …}` with a letter or an option's text; else ValueError."""
    value = field(answer, "letter", "value")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"answer.letter: expected a letter, got {value!r:.80}")
    letter = value.strip().strip("().").upper()
    if len(letter) == 1 and letter in LETTERS:
        if options and letter not in LETTERS[: len(options)]:
            raise ValueError(f"answer.letter: expected one of the {len(options)} options, got {value!r:.80}")
        return letter
    same = [i for i, option in enumerate(options or []) if plain_text(option) == plain_text(value)]
    if len(same) == 1 and same[0] < len(LETTERS):
        return LETTERS[same[0]]
    raise ValueError(
        f"answer.letter: expected a letter A to Z or the text of exactly one option, got {value!r:.80}"
    )


def _check_choice(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    gold_letter(answer, options_of(answer, row))


@gold_check(_check_choice)
def choice_reward(completion: str, answer: Mapping[str, Any], **row: Any) -> float:
    """1 if the text chooses exactly the true option, by letter or by its exact text, else 0."""
    options = options_of(answer, row)
    return 1.0 if read_choice(completion, options) == gold_letter(answer, options) else 0.0


def _strip(text: str) -> str:
    text = text.strip().strip("*$`\"' \n").strip()
    match = re.fullmatch(r"\\(?:text|textbf|mathrm|mathbf)\s?\{([^{}]*)\}\.?", text)
    return match.group(1).strip() if match else text

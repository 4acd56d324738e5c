"""Reward for multiple choice: the letter or the exact text of an option, never part of it.

`rewards.reading.final_answer` finds the answer; this module reads it as a letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from rewards.reading.final_answer import Clause, clauses, find_answer, is_negated, without_markup
from rewards.reading.gold import field, gold_check, sequence
from rewards.reading.number_words import number_word
from rewards.reading.text import plain_number, plain_text
from rewards.reading.unicode import latex_symbols

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_OPEN, _CLOSE = r"[(\[{<]{0,2}", r"[)\]}>]{0,2}"
_LEAD = re.compile(
    r"(?:(?:and|so|thus|hence|therefore|then|i\.e\.|namely|but|clearly|definitely|obviously|surely|certainly|所以|因此|故)[\s,]{1,3})?"
    r"(?:i'm\s(?:sure|certain|confident)\s(?:that\s)?|(?:let's\s)?go\swith\s|(?:我)?(?:认为|觉得)?(?:应该|应)?(?:是|正确的是)\s?)?"
    r"(?:(?:it|this|that)(?:\s(?:is|must\sbe|should\sbe|has\sto\sbe|would\sbe)|'s)\s"
    r"|(?:i|we)(?:'d|'ll|\swould|\swill|\smust|\sshould)?\s(?:choose|chose|pick|select|say|go\swith|think|believe|am\ssure)"
    r"(?:\s(?:that|it\sis|it's|the\sanswer\sis)){0,2}\s)?"
    r"(?:(?:the\s)?(?:(?:final|correct|right|best)\s)?(?:answer|option|choice|letter)\s?|选项|选)?[\s:]{0,3}",
    re.IGNORECASE,
)
_LETTER = re.compile(rf"{_OPEN}([A-Za-z]){_CLOSE}(?:\s?选项)?\s?[.:,;!]{{0,2}}")
_AFFIRMED = re.compile(
    rf"(?:option\s|choice\s)?{_OPEN}([A-Z]){_CLOSE}(?:\s(?:is|seems|looks|must\sbe|would\sbe|(?:appears|seems)\sto\sbe)\s(?:indeed\s|clearly\s)?(?:the\s)?(?:only\s)?"
    r"(?:correct|right|true|best|answer|one)(?:\s(?:answer|option|choice|one|letter))?"
    r"|\s?(?:选项)?(?:是|为)?(?:正确|对)的?(?:答案|选项)?|\s(?:makes\ssense|matches|fits|it\sis))[.:,;!]?",
    re.IGNORECASE,
)
_AROUND = re.compile(  # symbols and phrases of certainty around a choice
    r"\A(?:[*$`\"'\s•→✓✔✅]|[>=-]{1,3}\s){1,9}(?=\S)|(?<=[*$`\"'])\.\Z|[*$`\"'\s✓✔✅]{1,9}\Z|(?<=[!.])[!.]{1,5}\Z"
    r"|,?\s(?:i\s(?:think|believe|am\ssure)|for\ssure|of\scourse|obviously|clearly|definitely)\.?\Z",
    re.IGNORECASE,
)
_THEN_TEXT = re.compile(r"[(\[{<]{0,2}([A-Z])(?=\W)[)\]}>]{0,2}[\s.:,;=→–—-]{0,9}(\S.*)", re.DOTALL)
_THEN_LETTER = re.compile(r"(.+\S)[\s,:(\[–—-]{1,5}([A-Z])[)\]]{0,2}[.!]?", re.DOTALL)
_DASH_THEN_SENTENCE = re.compile(rf"\A({_OPEN}[A-Z]{_CLOSE})\s?(?:[–—:]|\s-)\s(?=\w)")
_LETTER_AND_TEXT = re.compile(
    r"(?:[(\[{]{1,2}([A-Z])[)\]}]{1,2}\s{0,3}[.:,;-]{0,2}|([A-Z])\s{0,3}(?:[.:,;)]+|[-–—](?=\s)))\s{0,9}(\S.*)",
    re.DOTALL,
)
_SUBJECT_IS = re.compile(
    r"(?:the|this|that|its|my|these|those)\s[^.,;:!?]{1,80}\s(?:is|are|was|were|equals)\s(?:shown\sto\sbe\s)?([^.,;:!?].*)",
    re.IGNORECASE,
)
_FREE_TEXT_IS_OTHER = re.compile(
    # Options unknown, and the text after a letter names another one: "B. c", "B. a cat or C", "(B) 1 (C) 2".
    r"\A\W*[A-Fa-f]\W*\Z|\A\W*[A-Fa-f]\s?[.:,)]|\([A-H]\)|(?:\bor|\band|[,;/&])\s?[A-H]\W*\Z|(?:\A|\s)[A-H][.):]\s|\bor\s\(?[A-H]\b"
)
_PLAIN_NO = re.compile(
    r"\Ano\s(?!it|way|that|this|good|one|longer|not)[a-z]+", re.IGNORECASE
)  # "No solution"


def options_of(answer: Any, row: Any) -> list[str] | None:
    """Texts of the options, A first: `options` or `choices` of the answer or the row; None if unknown."""
    for source in (answer, row):
        if not isinstance(source, Mapping):  # a broken answer, reported where its fields are read
            continue
        for name in ("options", "choices"):
            value = source.get(name)
            if value is not None and len(value):
                if isinstance(value, Mapping):  # {"A": "a cat", …}
                    value = [value[key] for key in sorted(value) if value[key] is not None]
                return [str(item) for item in sequence(value, name)]
    return None


def read_choice(completion: object, options: Sequence[str] | None = None) -> str | None:
    r"""The letter that an answer chooses, or None if it does not choose exactly one.

    Accepts `B`, `(B)`, `b`, `B is correct`, an option's exact text, or letter and text together, which must agree if the options
    are known. Options' texts are compared as words, as numbers (`3.0` for `3`, `140` for `140°`) or as LaTeX (`\dfrac`).
    Sentences around the choice may explain it, but must not name or deny another option in addition.
    """
    text = find_answer(completion)
    whole = _one(text, options)
    if whole:
        return whole
    stated: set[str] = set()
    denied: set[str] = set()
    last = None
    for clause in clauses(_DASH_THEN_SENTENCE.sub(r"\1. ", text)):
        letter = _one(clause.text, options)
        if letter:
            stated.add(letter)
        elif clause.denied:
            if last and options is None and not _mentioned(clause.text, options):
                return None  # "B. is wrong" denies the letter before it
            denied |= _mentioned(clause.text, options)
        elif not _explains(clause, options, last):
            return None
        last = letter or last
    return stated.pop() if len(stated) == 1 and not stated & denied else None


def _one(text: str, options: Sequence[str] | None) -> str | None:
    """The letter of a text that consists only of a choice; None for other texts."""
    text = _AROUND.sub("", text.strip())
    letters = LETTERS[: len(options)] if options else LETTERS
    for part in dict.fromkeys((text, text[_lead_end(text) :])):
        match = _LETTER.fullmatch(part) or _AFFIRMED.fullmatch(part)
        if match:
            return letter if (letter := match.group(1).upper()) in letters else None
        same = _same_options(part, options) or _same_options(_predicate(part), options)
        if same:
            return same[0] if len(same) == 1 else None
        both = _letter_with_its_text(part, options) if options else _letter_with_a_text(part)
        if both:
            return both
    return None


def _letter_with_its_text(text: str, options: Sequence[str]) -> str | None:
    """The letter of `B. a bus`, `(B) a bus`, `B (a bus)`, `a bus (B)`, if that is the option's text."""
    for match, letter, rest in ((_THEN_TEXT.fullmatch(text), 1, 2), (_THEN_LETTER.fullmatch(text), 2, 1)):
        if match:
            words = match.group(rest)
            same = _same_options(words, options) or _same_options(words.strip("()[]*\"' .-–—"), options)
            if match.group(letter) in same:
                return match.group(letter)
    return None


def _letter_with_a_text(text: str) -> str | None:
    """The letter of `B. a bus` or `(B) a bus` if the options are unknown."""
    match = _LETTER_AND_TEXT.fullmatch(text)
    return (match.group(1) or match.group(2)) if match and _is_free_text(match.group(3)) else None


def _lead_end(text: str) -> int:
    match = _LEAD.match(text)
    return match.end() if match else 0


def _predicate(text: str) -> str:
    """The predicate of a sentence ("a bus" of "The vehicle is a bus."); empty for denials and other texts."""
    match = _SUBJECT_IS.fullmatch(text)
    return match.group(1) if match and not is_negated(text[: match.start(1)]) else ""


def _is_free_text(rest: str) -> bool:
    """Whether the text after a letter can be its option's text, if the options are unknown."""
    if _FREE_TEXT_IS_OTHER.search(rest):
        return False
    return all(not (part.denied or part.doubtful) or _PLAIN_NO.match(part.text) for part in clauses(rest))


_NAMED = re.compile(r"\(([A-Za-z])\)|\b([B-Z])\b(?!['-])|\b(A)\b(?=\W*\Z|\W*[,.;)]|\s(?:is|or|and|isn't)\b)")


def _mentioned(text: str, options: Sequence[str] | None) -> set[str]:
    """Letters named anywhere in a text, and those of options whose text occurs in it."""
    letters = LETTERS[: len(options)] if options else LETTERS[:8]
    found = {(match.group(1) or match.group(2) or match.group(3)).upper() for match in _NAMED.finditer(text)}
    words = _words(text)
    for letter, option in zip(letters, options or [], strict=False):
        if option.strip() and _words(option) in words:
            found.add(letter)
    return found & set(letters)


def _words(text: str) -> str:
    words = " ".join(re.findall(r"[^_\W]+", text.casefold()))
    return f" {words} "


_FILLER = re.compile(
    r"(?:yes|well|ok|okay|sure|right|so|hence|thus|therefore)\W{0,3}"
    r"|(?:yes\W{1,3})?(?:it|they|there|that|this|he|she)\s(?:is|are|was|were|does|do|did|has|have|can|will)\W{0,3}",
    re.IGNORECASE,
)


def _explains(clause: Clause, options: Sequence[str] | None, stated: str | None) -> bool:
    """Whether a clause that is not a choice itself explains one and names no other option."""
    if _FILLER.fullmatch(clause.text):
        return True
    words = len(clause.text.split())
    if stated and options and _bare(clause.text) == _bare(options[LETTERS.index(stated)]):
        return True  # "(C), the lizard" where the option is "a lizard"
    sentence = re.match(r"(?:it|the|this|these|there|they)\b", clause.text, re.IGNORECASE)
    if clause.doubtful or words < (4 if stated and not sentence else 3):
        return False
    if not stated and words >= 6:
        return True  # reasoning before the choice may discuss the other options
    return _mentioned(clause.text, options) <= ({stated} if stated else set())


def _bare(text: str) -> str:
    return re.sub(r"\A(?:the|an?)\s", "", plain_text(text))


def _same_options(text: str, options: Sequence[str] | None) -> list[str]:
    """Letters of the options that equal the whole text."""
    if not options or len(text) > 2_000:
        return []
    key = _key(text)
    if not key:
        return []
    keys = [_key(option) for option in options[: len(LETTERS)]]
    same = [letter for letter, option in zip(LETTERS, keys, strict=False) if option == key]
    if not same and isinstance(
        key, Fraction
    ):  # 140 for "140°": the number alone, where all options have the same unit
        parts = [_number_and_unit(option) for option in options[: len(LETTERS)]]
        if len({unit for _, unit in parts}) == 1 and all(value is not None for value, _ in parts):
            same = [letter for letter, (value, _) in zip(LETTERS, parts, strict=False) if value == key]
    value, _ = _number_and_unit(text)
    if not same and value is not None and all(isinstance(option, Fraction) for option in keys):
        same = [
            letter for letter, option in zip(LETTERS, keys, strict=False) if option == value
        ]  # 140° for "140"
    return same


def _key(text: str) -> str | Fraction | tuple[str, Fraction]:
    """A key that is equal for equal option texts: a number, normalised LaTeX, or the words in lower case."""
    plain = plain_number(text)
    if plain:
        return ("percent", plain.value) if plain.percent else plain.value
    spelled = number_word(text.rstrip("."))
    if spelled is not None:
        return Fraction(spelled)
    text = re.sub(r"(?<=[0-9])\s?degrees?\b", "°", without_markup(text))
    text = re.sub(r"(?<=[0-9])\s{1,3}(?=[A-Za-z])", "", text)  # 15cm is 15 cm
    if not re.search(r"[\\^_{}=/$<>+*]|[^\x00-\x7f]", text):
        words = plain_text(text)
        return (
            words if re.search(r"[^\W\d_]{2}", words) else "".join(words.split())
        )  # x - 1 is x-1, (2, 1) is (2,1)
    latex = re.sub(r"\\[dtc]frac(?![a-z])", r"\\frac", latex_symbols(text))
    latex = re.sub(r"\\(?:left|right|displaystyle)(?![a-z])|\\[,;:! ]|[\s$]", "", latex).rstrip(".,;:!")
    latex = re.sub(r"\^\{?\\circ\}?|\\degree", "°", latex)
    latex = re.sub(
        r"\\frac\{?(\w)\}?\{?(\w)\}?", r"\1/\2", re.sub(r"\\frac\{(-?\w+)\}\{(\w+)\}", r"\1/\2", latex)
    )
    latex = re.sub(r"([\^_]|\\sqrt)\{(\w)\}", r"\1\2", latex)
    ratio = re.fullmatch(r"(-?[0-9]{1,30})/([0-9]{0,29}[1-9])", latex)
    if ratio:
        return Fraction(int(ratio.group(1)), int(ratio.group(2)))
    return (
        latex.casefold() if re.search(r"[A-Za-z]{2}", latex) and "\\" not in latex else latex
    )  # r/R is not R/r


_UNIT = re.compile(
    r"\s?\$?([-+]?[0-9.,]{1,40})\s?((?![b-fi-jn-rt-z]\Z)[A-Za-zµ°º%²³/]{1,12}|\^?\{?\\circ\}?)\$?\.?"
)


def _number_and_unit(text: str) -> tuple[Fraction | None, str]:
    """(140, "°") for a number with a unit; (None, text) for others (`2x`, `2\\pi`)."""
    match = _UNIT.fullmatch(without_markup(text))
    plain = plain_number(match.group(1)) if match else None
    return (plain.value, match.group(2)) if match and plain else (None, text)


def gold_letter(answer: Mapping[str, Any], options: Sequence[str] | None) -> str:
    """The true letter of an answer `{"letter": "B"}`, or `{"value": …}` with a letter or an option's text.

    Raises ValueError if it has none.
    """
    value = field(answer, "letter", "value")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"answer.letter: expected a letter, got {value!r:.80}")
    letter = value.strip().strip("().").upper()
    if len(letter) == 1 and letter in LETTERS:
        if options and letter not in LETTERS[: len(options)]:
            raise ValueError(f"answer.letter: expected one of the {len(options)} options, got {value!r:.80}")
        return letter
    same = _same_options(value, options)
    if len(same) == 1:
        return same[0]
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

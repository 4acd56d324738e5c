"""Near-duplicate texts: MinHash of word 3-grams to find them, their words and their mathematics to judge them.

Two questions are near-duplicates when the estimated Jaccard similarity of their 3-grams reaches a threshold, they contain the
same numbers, signs, operators and formulas in the same order, and no word stands in the place of another: in sets made from
templates, "3 apples" and "4 apples", "x - 2" and "x + 2", "the smallest" and "the largest" are different questions. Words may be
added or left out ("Answer with a number."), but for negations. Documents of some length are compared by their similarity alone.

MinHash (Broder 1997) by `datasketch`, 128 permutations of which 16 bits each are kept: 256 bytes a text, standard error
of the similarity at most 0.045. Texts are looked up by 25 bands of 5 values: a pair of similarity s is found with
probability 1 - (1 - s^5)^25: 0.99 at s = 0.7, 0.9998 at 0.8.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np

PERMUTATIONS = 128
BANDS, BAND_ROWS = 25, 5
SHINGLE = 3  # words

# a number with its thousands separators, a run of letters and digits, or one character of a script without spaces
_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[぀-ヿ㐀-鿿가-힯]|[^\W\d_]+")


# LaTeX and Unicode ways to write an operator, as one
_OPERATORS = {
    "−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", r"\times": "*", r"\cdot": "*", "÷": "/", r"\div": "/",
    r"\le": "≤", r"\leq": "≤", r"\ge": "≥", r"\geq": "≥", r"\ne": "≠", r"\neq": "≠", r"\pm": "±", r"\dfrac": r"\frac",
    r"\tfrac": r"\frac",
}  # fmt: skip
_LAYOUT = {r"\left", r"\right", r"\displaystyle", r"\quad", r"\text", r"\mathrm", r"\,", r"\;", r"\!"}
_FORMULA = re.compile(r"\$\$?(.+?)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_PROSE = re.compile(r"(?<!\\)\b[A-Za-z]{2,}[,.]?\s+[A-Za-z]{2,}")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\s?\{[^{}]*\}")
_IN_FORMULA = re.compile(r"\\[A-Za-z]+|\\[,;!]|\d+(?:\.\d+)?|[^\s\\{}&~]")
_IN_PROSE = re.compile(
    r"""
    \d+(?:,\d{3})+(?:\.\d+)?(?!\d) | \d+(?:\.\d+)?              # numbers
    | [*^=<>≤≥≠≈√±×÷·⋅+%°²³|]                                       # never anything else
    | (?<![^\W\d_])[-−–](?=\s*[\d(.\\])                           # a minus: before a number, not within a word
    | (?<=[\d)])\s*[-−–](?=\s*[^\W\d_]\b)                         # 5 - x
    | (?<=[\d)])\s*/(?=\s*[\d(])  | (?<=\d):(?=\d)                # 3/4, 1:15
    | (?<=\d)!(?=\s*[-+*/=)^,])                                   # a factorial
    | \((?=\s*[-−+]?[\d(.]) | (?<=[\d)])\s*\)                     # brackets of an expression
    """,
    re.VERBOSE,
)
_NUMBER_WORDS = frozenset(
    [
        "zero",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "twenty",
        "thirty",
        "forty",
        "fifty",
        "hundred",
        "thousand",
        "million",
        "half",
        "third",
        "quarter",
        "twice",
        "double",
        "triple",
        "first",
        "second",
        "fourth",
        "fifth",
    ]
)
_NEGATIONS = frozenset(
    [
        "not",
        "no",
        "never",
        "none",
        "except",
        "without",
        "isn",
        "aren",
        "doesn",
        "don",
        "cannot",
        "least",
        "most",
    ]
)
_FILLERS = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "this",
        "that",
        "these",
        "those",
        "please",
        "following",
        "and",
    ]
)


@dataclass(frozen=True)
class TextHash:
    """minhash: (128,) uint16. numbers: of what must be the same, the numbers, signs, operators and formulas in order. words:
    all words in order, between spaces. digest: of both."""

    minhash: np.ndarray
    numbers: str
    words: str
    digest: str


def words(text: str) -> list[str]:
    """Words and numbers of a text without case, punctuation and typographic variants; "4,656.00" is the number 4656."""
    found = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    return [_plain_number(word) if word[0].isdecimal() else word for word in found]


def _plain_number(word: str) -> str:
    word = word.replace(",", "")
    return word.rstrip("0").rstrip(".") if "." in word else word


LONG = 100
"""Words of a document from which on it may differ from a near-duplicate in a date, a counter or a word."""


def text_hash(text: str, *, document: bool = False) -> TextHash:
    """document: of LONG words and more only the MinHash is compared, as usual for pages of the web."""
    tokens = words(text)
    count = max(1, len(tokens) - SHINGLE + 1)  # a text of one or two words is one shingle
    shingles = {" ".join(tokens[i : i + SHINGLE]).encode() for i in range(count)}
    from datasketch import MinHash

    minhash = MinHash(PERMUTATIONS, permutations=_permutations(), scheme="affine32")
    minhash.update_batch(sorted(shingles))
    numbers, joined = _digest(" ".join(mathematics(text))), " ".join(tokens)
    digest = _digest(numbers + joined)
    if document and len(tokens) >= LONG:
        numbers, joined = "document", "\0document"  # alike for all documents, and no word of a question
    return TextHash((minhash.hashvalues & 0xFFFF).astype(np.uint16), numbers, joined, digest)


def mathematics(text: str) -> list[str]:
    """Numbers, number words, signs and operators of a text in order, and everything that stands in its formulas."""
    text = text.replace("×", r" \times ")  # which normalisation would make a letter of
    found: list[str] = []
    end = 0
    while formula := _FORMULA.search(text, end):
        inner = next(part for part in formula.groups() if part is not None)
        if _PROSE.search(_TEXT.sub(" ", inner)) or inner != inner.strip():  # between two sums of dollars
            found += _in_prose(text[end : formula.start() + 1])
            end = formula.start() + 1
            continue
        found += _in_prose(text[end : formula.start()])
        tokens = _IN_FORMULA.findall(unicodedata.normalize("NFKC", inner))
        found += [_OPERATORS.get(token, token) for token in tokens if token not in _LAYOUT]
        end = formula.end()
    return [_plain_number(token) for token in found + _in_prose(text[end:])]


def _in_prose(text: str) -> list[str]:
    text = re.sub(r"\\[A-Za-z]+", lambda m: f" {_OPERATORS.get(m[0], m[0])} ", text)
    found = [(m.start(), m[0].strip()) for m in _IN_PROSE.finditer(unicodedata.normalize("NFKC", text))]
    text = unicodedata.normalize("NFKC", text).casefold()
    found += [(m.start(), m[0]) for m in re.finditer(r"[^\W\d_]+", text) if m[0] in _NUMBER_WORDS]
    return [_OPERATORS.get(token, token) for _, token in sorted(found)]


@cache
def _permutations() -> Any:
    from datasketch import MinHash

    return MinHash(PERMUTATIONS, seed=1, scheme="affine32").permutations


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def pack(text: TextHash) -> dict[str, str]:
    """As JSON."""
    return {
        "minhash": base64.b64encode(text.minhash.tobytes()).decode(),
        "numbers": text.numbers,
        "words": text.words,
        "digest": text.digest,
    }


def unpack(data: Mapping[str, str]) -> TextHash:
    return TextHash(
        np.frombuffer(base64.b64decode(data["minhash"]), np.uint16),
        data["numbers"],
        data["words"],
        data["digest"],
    )


def similarity(a: TextHash, b: TextHash) -> float:
    """Estimated Jaccard similarity of the texts' word 3-grams, 0 to 1; exactly 1 for the same words."""
    return float((a.minhash == b.minhash).mean())


def same_words(a: TextHash, b: TextHash, *, numbers: bool) -> bool:
    """Whether no word is replaced by another, and no added or omitted word reverses the meaning.

    numbers: those are words too; otherwise they are not compared.
    """
    ours, theirs = (
        [word for word in text.words.split() if numbers or not word[0].isdecimal()] for text in (a, b)
    )
    for kind, i, j, k, m in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        left, right = ours[i:j], theirs[k:m]
        if kind != "equal" and _NEGATIONS.intersection(left + right):
            return False
        if kind == "replace" and not all(
            word in _FILLERS or any(_singular(word) == _singular(other) for other in others)
            for words, others in ((left, right), (right, left))
            for word in words
        ):
            return False
    return True


def _singular(word: str) -> str:
    return word.removesuffix("s").removesuffix("e")


def bands(text: TextHash, *, numbers: bool) -> list[int]:
    """Keys (63 bits) under which a text is stored and looked up; texts that share one are candidates.

    numbers: only texts with the same numbers, signs and operators share one.
    """
    values = text.minhash[: BANDS * BAND_ROWS].reshape(BANDS, BAND_ROWS)
    must = text.numbers.encode() if numbers else b""
    return [
        int.from_bytes(blake2b(bytes([band]) + row.tobytes() + must, digest_size=8).digest(), "big") >> 1
        for band, row in enumerate(values)
    ]


def question(row: Mapping[str, Any]) -> str:
    """What the user asks: the text parts of the user's messages in the prompt; of a document all its text."""
    if row.get("document") is not None:
        return _texts({"content": row["document"]})
    return "\n".join(_texts(message) for message in row["prompt"] if message["role"] == "user")


def answer_values(row: Mapping[str, Any]) -> str:
    """The values of the gold answer, one per line."""
    return "\n".join(str(value) for _, value in sorted((row.get("answer") or {}).items()))


def answer_digest(row: Mapping[str, Any]) -> str:
    """Of the gold answer if it is a value (a number, a text, an option), not a place or a time; "" if there is none."""
    value = (row.get("answer") or {}).get("value")
    if not isinstance(value, str | int | float | bool):
        return ""
    return _digest(" ".join(mathematics(str(value))) + " | " + " ".join(words(str(value))))


def trace_text(row: Mapping[str, Any]) -> str:
    """The stages, or what the assistant says."""
    trace = row.get("trace")
    if isinstance(trace, Mapping):
        return "\n".join(str(text) for text in trace.values())
    return "\n".join(_texts(message) for message in trace or () if message["role"] == "assistant")


def answer(row: Mapping[str, Any]) -> str:
    """The gold answer's values, then the trace."""
    return f"{answer_values(row)}\n{trace_text(row)}".strip()


def _texts(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")

"""Near-duplicate texts: MinHash of word 3-grams, and the numbers in the text.

Two questions are near-duplicates when the estimated Jaccard similarity of their 3-grams reaches a threshold and they
name the same numbers: in mathematics sets made from templates, "3 apples" and "4 apples" are different questions.

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
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np

PERMUTATIONS = 128
BANDS, BAND_ROWS = 25, 5
SHINGLE = 3  # words

# a number with its thousands separators, a run of letters and digits, or one character of a script without spaces
_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[぀-ヿ㐀-鿿가-힯]|[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class TextHash:
    """minhash: (128,) uint16. numbers: of the numbers in the text, in order. digest: of all its words, in order."""

    minhash: np.ndarray
    numbers: str
    digest: str


def words(text: str) -> list[str]:
    """Words and numbers of a text without case, punctuation and typographic variants; "4,656.00" is the number 4656."""
    found = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    return [_plain_number(word) if word[0].isdecimal() else word for word in found]


def _plain_number(word: str) -> str:
    word = word.replace(",", "")
    return word.rstrip("0").rstrip(".") if "." in word else word


def text_hash(text: str) -> TextHash:
    tokens = words(text)
    count = max(1, len(tokens) - SHINGLE + 1)  # a text of one or two words is one shingle
    shingles = {" ".join(tokens[i : i + SHINGLE]).encode() for i in range(count)}
    from datasketch import MinHash

    minhash = MinHash(PERMUTATIONS, permutations=_permutations(), scheme="affine32")
    minhash.update_batch(sorted(shingles))
    numbers = " ".join(token for token in tokens if _NUMBER.fullmatch(token))
    return TextHash(
        (minhash.hashvalues & 0xFFFF).astype(np.uint16), _digest(numbers), _digest(" ".join(tokens))
    )


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
        "digest": text.digest,
    }


def unpack(data: Mapping[str, str]) -> TextHash:
    return TextHash(
        np.frombuffer(base64.b64decode(data["minhash"]), np.uint16), data["numbers"], data["digest"]
    )


def similarity(a: TextHash, b: TextHash) -> float:
    """Estimated Jaccard similarity of the texts' word 3-grams, 0 to 1; exactly 1 for the same words."""
    return float((a.minhash == b.minhash).mean())


def bands(text: TextHash) -> list[int]:
    """Keys (63 bits) under which a text is stored and looked up; texts that share one are candidates."""
    values = text.minhash[: BANDS * BAND_ROWS].reshape(BANDS, BAND_ROWS)
    return [
        int.from_bytes(blake2b(bytes([band]) + row.tobytes(), digest_size=8).digest(), "big") >> 1
        for band, row in enumerate(values)
    ]


def question(row: Mapping[str, Any]) -> str:
    """What the user asks: the text parts of the user's messages in the prompt."""
    return "\n".join(_texts(message) for message in row["prompt"] if message["role"] == "user")


def answer_values(row: Mapping[str, Any]) -> str:
    """The values of the gold answer, one per line."""
    return "\n".join(str(value) for _, value in sorted((row.get("answer") or {}).items()))


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

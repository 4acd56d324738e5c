"""Repetition in a text: loops and passages said again, not the turns of phrase that a worked solution has in every step.

Gopher's limits on repeated n-grams (Rae et al. 2021, arXiv 2112.11446) are for web pages. Solutions break them where
nothing is wrong: rows of a table are added in the same words, a sum has equal terms, options are dismissed one by one.
The limits here were chosen on real solutions and real loops (`python -m benchmarks.text_filters`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

MAX_PERIOD = 400
"""Tokens in the longest loop that is looked for; longer passages are found as repeated ones."""
PROSE_LOOP = 0.25
"""Share of the text that a loop may have in which at least half of the tokens are words."""
SYMBOL_LOOP = 0.5
"""The same for loops of numbers and symbols: rules of tables and sums of equal terms repeat them."""
LONG_LOOP = (10, 60)
"""(copies, tokens) of a loop of words that is one in a text of any length."""
TWICE = 20
"""Tokens that a passage must have to count as a loop when said only twice in a row; shorter ones, three times."""
PASSAGES = ((8, 0.65), (24, 0.45))
"""(tokens, share): at most this share of the text may lie in passages of so many tokens that stood there before."""

_TOKEN = re.compile(
    r"\\[A-Za-z]+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s]"
)


def repetition(text: str) -> tuple[str, float, float] | None:
    """(rule, share of the text's tokens, limit) of the first limit that the text exceeds; None for a text without fault.

    Tokens are words, numbers, LaTeX commands, single signs, and single characters of Chinese, Japanese and Korean.
    """
    tokens = [match.group().casefold() for match in _TOKEN.finditer(text)]
    if len(tokens) < 2:
        return None
    is_word = np.array([token[0].isalpha() and (len(token) > 1 or token > "\u3000") for token in tokens])
    ids: dict[str, int] = {}
    numbers = np.array([ids.setdefault(token, len(ids)) for token in tokens])
    # a loop repeats at least half of itself, which saves the search for one in most texts
    again = _repeated(tokens, PASSAGES[0][0])
    if again.mean() > PROSE_LOOP / 2 or again.sum() > LONG_LOOP[1] / 2 or len(ids) < PASSAGES[0][0]:
        found = _loop(numbers, is_word)
        if found is not None:
            return found
    for n, limit in PASSAGES:
        share = float((_repeated(tokens, n) & _mostly(is_word, n)).mean())
        if share > limit:
            return "repeated_passages", share, limit
    return None


def _loop(numbers: np.ndarray, is_word: np.ndarray) -> tuple[str, float, float] | None:
    """The first loop that exceeds its limit, by period."""
    size = len(numbers)
    for period in range(1, min(MAX_PERIOD, size // 2) + 1):
        for start, again in _runs(numbers[period:] == numbers[:-period]):
            if again < (period if period >= TWICE else 2 * period):
                continue
            length = again + period
            words = 2 * is_word[start : start + length].mean() >= 1
            limit = PROSE_LOOP if words else SYMBOL_LOOP
            copies, least = LONG_LOOP
            if length > limit * size or (words and length >= max(copies * period, least)):
                return "loop", length / size, limit
    return None


def _runs(equal: np.ndarray) -> list[tuple[int, int]]:
    """(start, length) of each run of true values."""
    steps = np.flatnonzero(np.diff(np.concatenate(([False], equal, [False])).astype(np.int8)))
    return [(int(start), int(end - start)) for start, end in zip(steps[::2], steps[1::2], strict=True)]


def _repeated(tokens: Sequence[str], n: int) -> np.ndarray:
    """Whether each token lies in an n-gram that stood before."""
    seen: set[tuple[str, ...]] = set()
    covered = np.zeros(len(tokens), dtype=bool)
    for at in range(len(tokens) - n + 1):
        ngram = tuple(tokens[at : at + n])
        if ngram in seen:
            covered[at : at + n] = True
        seen.add(ngram)
    return covered


def _mostly(is_word: np.ndarray, n: int) -> np.ndarray:
    """Whether at least half of the tokens around each are words."""
    return 2 * np.convolve(is_word, np.ones(n), mode="same") >= min(n, len(is_word))

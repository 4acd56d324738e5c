"""Text filters: length, language, repetition, readability and density of words; each removal names its rule and figure.

Rules are tried in the order of the options and the first that a row breaks is named. All are off but repetition, whose
limits are those of Gopher (Rae et al. 2021, arXiv 2112.11446, Table A1), computed as in datatrove's
GopherRepetitionFilter, which works on whole documents: shorter texts are not judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from pydantic import Field

from core.rows import TRACE_STAGES, Row
from data_recipes.operations.text_hashes import answer_values, question, trace_text, words
from data_recipes.records import Context, Options, Removed, RowOperation

Part = Literal[
    "prompt", "answer", "trace", "trace.summary", "trace.caption", "trace.reasoning", "trace.conclusion"
]
Broken = tuple[str, str]
"""(rule, reason)"""

TOP_NGRAMS = ((2, 0.20), (3, 0.18), (4, 0.16))
DUPLICATE_NGRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))

# function words of English; they say how a text is built, not what it knows
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about above after again all also am an and any are as at be because been before being below between both but by "
        "can could did do does doing down during each either else every few for from further get gets had has have having "
        "he her here hers him his how i if in into is it its just let like may me might more most must my no nor not now of "
        "off on once only or other our out over own per same shall she should since so some such than that the their them "
        "then there therefore these they this those though through thus to too under until up upon us very was we were what "
        "when where whether which while who whom whose why will with within without would yes yet you your",
    )
)


class Limits(Options):
    """Bounds of a figure."""

    min: float | None = None
    """At least."""
    max: float | None = None
    """At most."""


class TextFilterOptions(Options):
    """Texts of odd length, language, repetition, readability or density leave."""

    characters: dict[Part, Limits] = {}
    """Limits on characters of a part: `prompt` (what the user asks), `answer` (the gold's values), `trace`, or one stage
    as `trace.reasoning`. A part that the row has not is not judged."""
    words: dict[Part, Limits] = {}
    """Limits on words; characters count as words in scripts without spaces."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes; texts surely in another language leave. Empty: any."""
    same_language: bool = False
    """Prompt and trace must be in the same language."""
    language_parts: tuple[Part, ...] = ("prompt", "trace")
    """The parts that `languages` judges."""
    min_confidence: float = Field(0.8, ge=0, le=1)
    """py3langid's probability below which the language of a text counts as unknown; formulas and short texts then pass."""
    repetition: bool = True
    """Gopher's limits on the characters in the most frequent 2- to 4-gram and in repeated 5- to 10-grams and lines."""
    repetition_parts: tuple[Part, ...] = ("trace",)
    """The parts that `repetition` judges."""
    repetition_min_words: int = Field(50, ge=1)
    """Shorter texts are not judged for repetition: a question of ten words often has one 2-gram twice."""
    grade: Limits | None = None
    """School grade by the automated readability index, for English prose: 12 is the end of school. Formulas make it
    meaningless."""
    grade_parts: tuple[Part, ...] = ("trace",)
    """The parts that `grade` judges."""
    density: Limits | None = None
    """Different content words per word: within windows of 50 words, the share of words that are neither function words of
    English nor repeated in the window; the mean over windows (a moving-average type-token ratio, Covington and McFall
    2010, which does not fall with length). Prose has 0.4 to 0.6, phrases said again and again below 0.2."""
    density_parts: tuple[Part, ...] = ("trace",)
    """The parts that `density` judges."""


def text_filter(rows: Iterator[Row], options: TextFilterOptions, context: Context) -> Iterator[Row | Removed]:
    for row in rows:
        broken = first_broken(row, options)
        yield row if broken is None else Removed(row, *broken)


def first_broken(row: Row, options: TextFilterOptions) -> Broken | None:
    """The first rule that the row breaks, with its figure."""
    for unit, limits_of, count in (
        ("characters", options.characters, len),
        ("words", options.words, lambda text: len(words(text))),
    ):
        for part, limits in limits_of.items():
            text = part_text(row, part)
            if text is not None and (problem := _outside(count(text), limits, unit)):
                return f"{unit}_{part}", f"{part} has {problem}"
    for judge in (_languages, _repetition, _grade, _density):
        broken = judge(row, options)
        if broken is not None:
            return broken
    return None


def part_text(row: Row, part: str) -> str | None:
    """The text of a part; None where the row has none."""
    if part == "prompt":
        return question(row)
    if part == "answer":
        return None if row.get("answer") is None else answer_values(row)
    trace = row.get("trace")
    if trace is None:
        return None
    if part == "trace":
        return trace_text(row)
    stage = part.removeprefix("trace.")
    return trace[stage] if isinstance(trace, Mapping) and stage in TRACE_STAGES else None


def _outside(value: float, limits: Limits, unit: str) -> str | None:
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    if limits.min is not None and value < limits.min:
        return f"{shown} {unit}, expected at least {limits.min:g}"
    if limits.max is not None and value > limits.max:
        return f"{shown} {unit}, expected at most {limits.max:g}"
    return None


# ---------------------------------------------------------------------------------------------------------- language

_NOT_PROSE = re.compile(r"\$[^$]*\$|\\[A-Za-z]+|<[^>]*>|[\d_^{}\\=+*/|]+")


def language(text: str) -> tuple[str, float]:
    """(ISO 639-1 code, probability) of the prose in a text: formulas, tags and digits are left out."""
    return _identifier().classify(_NOT_PROSE.sub(" ", text))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _languages(row: Row, options: TextFilterOptions) -> Broken | None:
    if options.languages:
        for part in options.language_parts:
            code, sure = language(part_text(row, part) or "")
            if sure >= options.min_confidence and code not in options.languages:
                return (
                    "language",
                    f"{part} is in {code!r} (probability {sure:.2f}), allowed: {', '.join(options.languages)}",
                )
    if options.same_language:
        asked, told = (language(part_text(row, part) or "") for part in ("prompt", "trace"))
        if min(asked[1], told[1]) >= options.min_confidence and asked[0] != told[0]:
            return (
                "same_language",
                f"prompt is in {asked[0]!r} (probability {asked[1]:.2f}), trace in {told[0]!r} ({told[1]:.2f})",
            )
    return None


# -------------------------------------------------------------------------------------------------------- repetition


def _repetition(row: Row, options: TextFilterOptions) -> Broken | None:
    if options.repetition:
        for part in options.repetition_parts:
            text = part_text(row, part) or ""
            tokens = text.split()
            if len(tokens) >= options.repetition_min_words and (found := repetition(text)):
                rule, share, limit = found
                return (
                    rule,
                    f"{part}: {share:.0%} of its characters are in {rule}, at most {limit:.0%} allowed",
                )
    return None


def repetition(text: str) -> tuple[str, float, float] | None:
    """(rule, share of the text's characters, limit) of the first of Gopher's limits that the text exceeds."""
    lines = [line for line in re.split(r"\n+", text) if line]
    share = _repeated_characters(lines) / max(1, len(text))
    if share > 0.20:
        return "repeated_lines", share, 0.20
    tokens = text.split()
    for n, limit in TOP_NGRAMS:
        share = top_ngram_characters(tokens, n) / max(1, len(text))
        if share > limit:
            return f"top_{n}_gram", share, limit
    for n, limit in DUPLICATE_NGRAMS:
        share = duplicate_ngram_characters(tokens, n) / max(1, len(text))
        if share > limit:
            return f"repeated_{n}_grams", share, limit
    return None


def _repeated_characters(items: Sequence[str]) -> int:
    """Characters of items that stood before."""
    seen: set[str] = set()
    repeated = 0
    for item in items:
        repeated += len(item) if item in seen else 0
        seen.add(item)
    return repeated


def top_ngram_characters(tokens: Sequence[str], n: int) -> int:
    """Characters of all occurrences of the most frequent n-gram (the first of several); 0 if none occurs twice."""
    counts: dict[str, int] = {}
    for i in range(len(tokens) - n + 1):
        ngram = " ".join(tokens[i : i + n])
        counts[ngram] = counts.get(ngram, 0) + 1
    top = max(counts, key=counts.__getitem__, default="")
    return len(top) * counts[top] if counts.get(top, 0) > 1 else 0


def duplicate_ngram_characters(tokens: Sequence[str], n: int) -> int:
    """Characters in n-grams that stood before; none is counted twice."""
    seen: set[str] = set()
    repeated = i = 0
    while i <= len(tokens) - n:
        ngram = "".join(tokens[i : i + n])
        if ngram in seen:
            repeated += len(ngram)
            i += n
        else:
            seen.add(ngram)
            i += 1
    return repeated


# ------------------------------------------------------------------------------------------- readability and density


def _grade(row: Row, options: TextFilterOptions) -> Broken | None:
    if options.grade is not None:
        for part in options.grade_parts:
            text = part_text(row, part)
            if not text:
                continue
            if problem := _outside(school_grade(text), options.grade, "years of school"):
                return "grade", f"{part} needs {problem}"
    return None


def school_grade(text: str) -> float:
    """Automated readability index (Smith and Senter 1967): 4.71 letters per word + 0.5 words per sentence - 21.43.

    It needs no dictionary of syllables, which the Flesch-Kincaid grade would have to download.
    """
    tokens = words(text)
    sentences = len(re.findall(r"[.!?]+(?:\s|$)|\n+", text.strip())) or 1
    return 4.71 * sum(map(len, tokens)) / max(1, len(tokens)) + 0.5 * len(tokens) / sentences - 21.43


def _density(row: Row, options: TextFilterOptions) -> Broken | None:
    if options.density is not None:
        for part in options.density_parts:
            text = part_text(row, part)
            if text and (
                problem := _outside(density(text), options.density, "different content words per word")
            ):
                return "density", f"{part} has {problem}"
    return None


def density(text: str, window: int = 50) -> float:
    """Different content words per word, 0 to 1: mean over windows of so many words; 0 for a text without words."""
    tokens = words(text)
    shares = []
    for start in range(max(1, len(tokens) - window + 1)):
        part = tokens[start : start + window]
        shares.append(len(set(part) - STOP_WORDS) / max(1, len(part)))
    return sum(shares) / len(shares)


OPERATIONS = {"text_filter": RowOperation(text_filter, TextFilterOptions)}

"""Text filters: length, language, repetition, slips, readability and density of words; each removal names its rule.

Rules are tried in the order of the options and the first that a row breaks is named. Only repetition and the two kinds of slips
are on by default: a trace that loops, says that its answer was given to it, or says that it saw no image teaches just that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, field_validator

from core.rows import TRACE_STAGES, Row
from data_recipes.operations import languages
from data_recipes.operations.languages import language
from data_recipes.operations.repetition import repetition
from data_recipes.operations.slips import denies_media, tells_given_answer
from data_recipes.operations.text_hashes import answer_values, question, trace_text, words
from data_recipes.records import Context, Options, Removed, RowOperation

Part = Literal[
    "prompt", "answer", "trace", "trace.summary", "trace.caption", "trace.reasoning", "trace.conclusion"
]
Broken = tuple[str, str]
"""(rule, reason)"""

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
    """Codes of languages (en, zh, de …; zh stands for all Chinese ones); texts in others leave. Empty: any. The script decides
    where it can, so that no Chinese text passes for English; texts without prose, as formulas, pass."""
    same_language: bool = False
    """Prompt and trace must be in the same language."""
    language_parts: tuple[Part, ...] = ("prompt", "trace")
    """The parts that `languages` judges."""
    min_confidence: float = Field(0.8, ge=0, le=1)
    """Probability below which only the script of a text counts as known, among languages of one script."""
    repetition: bool = True
    """Loops, and passages that make up much of a text though they stood before. The terms of a sum, the rows of a table or the
    same words for one option after the other are not repetition."""
    repetition_parts: tuple[Part, ...] = ("trace",)
    """The parts that `repetition` judges."""
    repetition_min_words: int = Field(50, ge=1)
    """Shorter texts are not judged for repetition."""
    given_answer: bool = True
    """Traces leave that say that the answer was given ("according to the reference answer", 标准答案), unless the question itself
    speaks of a given answer."""
    unseen_media: bool = True
    """Traces of rows with images or videos leave that say that none was seen, that a language model sees none, or that refuse
    ("I cannot see any image", "as a text-based model")."""
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

    @field_validator("languages")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(code for code in codes if code.lower() not in languages.known_codes())
        if unknown:
            raise ValueError(f"expected codes of languages as 'en' or 'zh', got {', '.join(unknown)}")
        return codes


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
            if text is not None and (problem := outside(count(text), limits, unit)):
                return f"{unit}_{part}", f"{part} has {problem}"
    for judge in (_languages, _repetition, _slips, _grade, _density):
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


def outside(value: float, limits: Limits, unit: str) -> str | None:
    """What is wrong with a value of this unit; None for one within the limits."""
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    if limits.min is not None and value < limits.min:
        return f"{shown} {unit}, expected at least {limits.min:g}"
    if limits.max is not None and value > limits.max:
        return f"{shown} {unit}, expected at most {limits.max:g}"
    return None


# ----------------------------------------------------------------------------------- language, repetition, slips


def _languages(row: Row, options: TextFilterOptions) -> Broken | None:
    sure = options.min_confidence
    if options.languages:
        for part in options.language_parts:
            found = language(part_text(row, part) or "")
            if not languages.is_allowed(found, options.languages, sure):
                return "language", f"{part} is in {found.shown}, allowed: {', '.join(options.languages)}"
    if options.same_language:
        asked, told = (language(part_text(row, part) or "") for part in ("prompt", "trace"))
        if languages.differ(asked, told, sure):
            return "same_language", f"prompt is in {asked.shown}, trace in {told.shown}"
    return None


def _repetition(row: Row, options: TextFilterOptions) -> Broken | None:
    if options.repetition:
        for part in options.repetition_parts:
            text = part_text(row, part) or ""
            if len(words(text)) >= options.repetition_min_words and (found := repetition(text)):
                rule, share, limit = found
                return rule, f"{part}: {share:.0%} of it is {_SHOWN[rule]}, at most {limit:.0%} allowed"
    return None


_SHOWN = {"loop": "one loop", "repeated_passages": "passages that stood before"}


def _slips(row: Row, options: TextFilterOptions) -> Broken | None:
    trace = part_text(row, "trace")
    if trace and options.given_answer and (said := tells_given_answer(trace, question(row))):
        return "given_answer", f"trace says that its answer was given: {said!r:.80}"
    if trace and options.unseen_media and (row.get("images") or row.get("videos")):
        said = denies_media(trace)
        if said:
            return "unseen_media", f"trace says that it saw no image or refuses: {said!r:.80}"
    return None


# ------------------------------------------------------------------------------------------- readability and density


def _grade(row: Row, options: TextFilterOptions) -> Broken | None:
    if options.grade is not None:
        for part in options.grade_parts:
            text = part_text(row, part)
            if not text:
                continue
            if problem := outside(school_grade(text), options.grade, "years of school"):
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
                problem := outside(density(text), options.density, "different content words per word")
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

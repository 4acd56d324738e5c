"""Filter of interleaved documents: boilerplate leaves their text, and documents that teach little leave.

The figures of a text are those of published filters of web pages, with their limits: Gopher's (Rae et al. 2021, arXiv 2112.11446,
A.1.1) on lengths, symbols and lines, FineWeb's (Penedo et al. 2024, arXiv 2406.17557, 3.6) on how lines end and repeat, and the
density of content words (`text_filters.density`; moving-average type-token ratio, Covington and McFall 2010), which tells prose
from lists of links and from phrases said again. School grade is off by default, as formulas and code make it meaningless.

datatrove has these filters for plain text; it counts words by tokenizers that it downloads, and knows no parts of a document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from core.rows import Row
from data_recipes.operations.languages import language
from data_recipes.operations.text_filters import Limits, density, outside, school_grade
from data_recipes.operations.text_hashes import words
from data_recipes.records import Context, Options, Removed, RowOperation


class DocumentFilterOptions(Options):
    """Documents lose their boilerplate, and leave if what stays is no text to learn from. Rows with a prompt pass."""

    boilerplate: bool = True
    """Notices (cookies, rights, newsletters, scripts that are off) and lines of navigation leave the text. Paragraphs are judged
    one by one; tables are left alone."""
    words: Limits = Limits(min=50)
    """Of the whole document (Gopher: 50 to 100,000). Characters count as words in scripts without spaces."""
    words_an_image: Limits | None = None
    """Words for each image; a gallery has few."""
    word_length: Limits = Limits(min=2.5, max=10)
    """Mean letters of a word, in scripts with spaces. Gopher's 3 takes pages of short formulas."""
    symbols: float = Field(0.1, ge=0)
    """At most so many hash signs and ellipses a word (Gopher); those that mark headings don't count."""
    bullets: float = Field(0.9, ge=0, le=1)
    """At most this share of lines may begin with a bullet (Gopher)."""
    ellipses: float = Field(0.3, ge=0, le=1)
    """At most this share of lines may end with an ellipsis (Gopher)."""
    lettered: float = Field(0.5, ge=0, le=1)
    """At least this share of words must have a letter. Gopher's 0.8 takes tables of figures, which pages of learning have."""
    stop_words: int = Field(2, ge=0)
    """Texts in English must have so many of the, be, to, of, and, that, have, with (Gopher)."""
    ended_lines: float = Field(0.12, ge=0, le=1)
    """At least this share of lines of prose must end like a sentence (FineWeb). Tables, headings and formulas are no lines of prose."""
    repeated_lines: float = Field(0.4, ge=0, le=1)
    """At most this share of characters may stand in lines that stood before. FineWeb's 0.1 is for plain text; here lines of code
    and tables count too."""
    density: Limits | None = Limits(min=0.2)
    """Different content words per word, in windows of 50 words: prose has 0.4 to 0.6, phrases said again and again below 0.2."""
    grade: Limits | None = None
    """School grade by the automated readability index, for English prose: 12 is the end of school."""


def document_filter(
    rows: Iterator[Row], options: DocumentFilterOptions, context: Context
) -> Iterator[Row | Removed]:
    for row in rows:
        if row.get("document") is None:
            yield row
            continue
        cleaned = without_boilerplate(row, context) if options.boilerplate else row
        broken = first_broken(cleaned, options)
        yield cleaned if broken is None else Removed(row, *broken)


# ---------------------------------------------------------------------------------------------------------- boilerplate

_NOTICE = re.compile(
    r"\b(?:we|this (?:web)?site|our partners)\b.{0,40}\buses? (?:\w+ ){0,3}cookies|accept (?:all )?(?:the )?cookies|manage (?:your )?cookies"
    r"|cookie (?:settings|preferences|consent)|all rights reserved|subscribe to (?:our|the|this) (?:newsletter|channel|feed)"
    r"|sign up (?:for|to) (?:our|the) newsletter|(?:enable|turn on) javascript|javascript (?:is|seems to be) (?:disabled|required|not enabled)"
    r"|wir verwenden (?:\w+ )?cookies|nous utilisons des cookies|utilizamos cookies|utilizziamo i? ?cookie|本(?:网|站)[^。]{0,12}cookie|接受.{0,4}cookie",
    re.IGNORECASE,
)
NOTICE_WORDS = 80
"""A longer paragraph may be about such things."""
_LABEL = re.compile(
    r"(?:privacy policy|terms (?:of (?:use|service)|and conditions)|cookie policy|legal notice|imprint|site ?map|log ?in|log ?out|sign (?:in|up)|register"
    r"|contact(?: us)?|about(?: us)?|help|home|top|up|contents|index|search|prev(?:ious)?|next|back(?: to top)?|menu|skip to (?:main )?content"
    r"|skip navigation|share(?: this)?(?: (?:on|via) \w+)?|tweet|print(?: this page)?|e-?mail this|advertisement|read more|loading)[.:…]*",
    re.IGNORECASE,
)
_PARTS = re.compile(r"\s*(?:[|›»«·•>→←\[\],:]|\s/\s|\t|\n)+\s*")
MENU_ITEMS = 3
"""Short items between > or | that make a line a path of navigation."""


def without_boilerplate(row: Row, context: Context) -> Row:
    """The row without notices and navigation in its texts; how many paragraphs and words is counted."""
    content = row["document"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    kept: list[Any] = []
    for part in parts:
        if part["type"] != "text":
            kept.append(part)
            continue
        paragraphs = re.split(r"(\n\s*\n)", part["text"])
        texts = paragraphs[::2]
        out = {i for i, text in enumerate(texts) if is_boilerplate(text)}
        if out:
            context.counts["boilerplate_paragraphs"] += len(out)
            context.counts["boilerplate_words"] += sum(len(words(texts[i])) for i in out)
            joins = paragraphs[1::2]
            text = "".join(
                t + (joins[i] if i < len(joins) else "") for i, t in enumerate(texts) if i not in out
            )
            part = {**part, "text": text}
        if part["text"].strip():
            kept.append(part)
    return row if kept == parts else row | {"document": kept}


def is_boilerplate(paragraph: str) -> bool:
    """Whether a paragraph is a notice, or a line of navigation: labels alone, or a path of short items."""
    text = paragraph.strip()
    if not text or text.startswith("|"):
        return False
    if _NOTICE.search(text) and len(words(text)) <= NOTICE_WORDS:
        return True
    items = [item for item in _PARTS.split(text) if item.strip(" -–—")]
    if items and all(_LABEL.fullmatch(item.strip()) for item in items):
        return True
    labels = sum(bool(_LABEL.fullmatch(item.strip())) for item in items)
    if labels >= 2 and 2 * labels >= len(items) and len(words(text)) <= 30:
        return True
    path = [item.strip() for item in re.split(r"\s+[›»>|]\s+", text)]
    return (
        "\n" not in text
        and len(path) >= MENU_ITEMS
        and all(0 < len(item.split()) <= 4 and not re.search(r"[.=;:(){}]", item) for item in path)
    )


# -------------------------------------------------------------------------------------------------------------- figures


def first_broken(row: Row, options: DocumentFilterOptions) -> tuple[str, str] | None:
    """(rule, reason) of the first limit that a document's text breaks."""
    content = row["document"]
    text = (
        content
        if isinstance(content, str)
        else "\n\n".join(p["text"] for p in content if p["type"] == "text")
    )
    tokens = words(text)
    if problem := outside(len(tokens), options.words, "words"):
        return "words", f"the document has {problem}"
    images = len(row.get("images") or ())
    ratio = Limits() if options.words_an_image is None else options.words_an_image
    if images and (problem := outside(len(tokens) / images, ratio, "words an image")):
        return "words_an_image", f"the document has {problem}"
    for rule, judge in _FIGURES.items():
        if reason := judge(text, tokens, options):
            return rule, reason
    return None


Judge = Callable[[str, Sequence[str], DocumentFilterOptions], str | None]


def _word_length(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    spaced = [token for token in tokens if token[0] < "\u3000"]
    if 2 * len(spaced) < len(tokens):
        return None
    return outside(sum(map(len, spaced)) / len(spaced), options.word_length, "letters a word")


def _symbols(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    signs = len(re.findall(r"#|\.{3,}|…", re.sub(r"^#{1,6} ", "", text, flags=re.MULTILINE)))
    return _above(signs / len(tokens), options.symbols, "hash signs and ellipses a word")


def _bullets(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    lines = _lines(text)
    return _above(
        _share(lines, lambda line: line[0] in "•-*‣◦"), options.bullets, "of the lines begin with a bullet"
    )


def _ellipses(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    lines = _lines(text)
    return _above(
        _share(lines, lambda line: line.endswith(("...", "…"))),
        options.ellipses,
        "of the lines end with an ellipsis",
    )


def _lettered(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    return _below(
        _share(tokens, lambda token: not token[0].isdecimal()), options.lettered, "of the words have a letter"
    )


def _stop_words(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    found = len(_GOPHER & set(tokens))
    if found >= options.stop_words or language(text).code != "en":
        return None
    return f"{found} of {', '.join(sorted(_GOPHER))}, at least {options.stop_words} are wanted"


_GOPHER = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))


def _ended_lines(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    lines = [line for line in _lines(text) if line[0] not in "|#$"]
    return (
        _below(
            _share(lines, lambda line: line.rstrip("\"'”’)]»").endswith(_ENDS)),
            options.ended_lines,
            "of the lines end like a sentence",
        )
        if lines
        else None
    )


_ENDS = (".", "!", "?", ":", ";", "…", "。", "！", "？", "।", "؟", "$")


def _repeated_lines(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    seen: set[str] = set()
    again = 0
    lines = _lines(text)
    for line in lines:
        again += len(line) if line in seen else 0
        seen.add(line)
    return _above(
        again / max(1, sum(map(len, lines))),
        options.repeated_lines,
        "of the characters stand in lines that stood before",
    )


def _density(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    return (
        outside(density(text), options.density, "different content words a word") if options.density else None
    )


def _grade(text: str, tokens: Sequence[str], options: DocumentFilterOptions) -> str | None:
    return outside(school_grade(text), options.grade, "years of school") if options.grade else None


_FIGURES: Mapping[str, Judge] = {
    "word_length": _word_length,
    "symbols": _symbols,
    "bullets": _bullets,
    "ellipses": _ellipses,
    "lettered": _lettered,
    "stop_words": _stop_words,
    "ended_lines": _ended_lines,
    "repeated_lines": _repeated_lines,
    "density": _density,
    "grade": _grade,
}


def _lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.split("\n")) if line]


def _share(items: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, items)) / max(1, len(items))


def _above(value: float, limit: float, what: str) -> str | None:
    return f"{value:.2f} {what}, at most {limit:g} allowed" if value > limit else None


def _below(value: float, limit: float, what: str) -> str | None:
    return f"{value:.2f} {what}, at least {limit:g} wanted" if value < limit else None


OPERATIONS = {"document_filter": RowOperation(document_filter, DocumentFilterOptions)}

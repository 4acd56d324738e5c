"""Words that a changed image would make wrong: sides and written text under a flip, colours under jitter, places under a crop.

The lists are English. A row is refused where a word is in one of them, and where nothing shows that its text is English,
since then nobody knows what it says. They are wide on purpose: "right" may mean "correct", but a row left as it is harms
nothing, and a text that describes another image does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from core.rows import Row

FLIP, CROP, JITTER = "flip", "crop", "jitter"

_LISTS: dict[str, dict[str, str]] = {
    "a side": {
        FLIP: r"left\w*|right\w*|east\w*|west\w*|clockwise|counter-?clockwise|anti-?clockwise|mirror\w*|reflect\w*"
        r"|links|rechts|gauche|droite|izquierd[ao]|derech[ao]|sinistra|destra|esquerd[ao]|direit[ao]"
    },
    "a clock": {
        FLIP: r"clocks?|o.?clock|\w*watch(?:es)?|(?:hour|minute|second) hands?|dials?|gauges?|what time|[0-2]?\d:[0-5]\d"
    },
    "written text": {
        FLIP: r"written|writing|writes|handwrit\w*|texts?|letters?|words?|sentences?|reads?|reading|says?|saying|spell\w*"
        r"|labels?|labell?ed|signs?|captions?|titles?|headlines?|print(?:s|ed)?|fonts?|ocr|digits?|numerals?|plates?|logos?|brands?"
        r"|number on|numbered|pages?|documents?|screenshots?|screens?|menus?|buttons?|icons?|charts?|graphs?|plots?"
        r"|diagrams?|axis|axes|equations?|formulas?|maps?|subtitles?|websites?|posters?|newspapers?|books?|magazines?"
        r"|barcodes?|qr|keyboards?|receipts?|invoices?|inscri\w+|engrav\w+|graffiti|jersey numbers?|calendars?|flags?"
        r"|the table (?:shows|below|above)|(?:in|of) the table"
    },
    "a colour": {
        JITTER: r"colou?r\w*|red(?:dish)?|green\w*|blue\w*|yellow\w*|orange|purple|violet|pink\w*|brown\w*|black\w*|white\w*"
        r"|gr[ea]y\w*|cyan|magenta|turquoise|teal|gold(?:en)?|silver\w*|beige|maroon|crimson|scarlet|navy|indigo|olive"
        r"|tan|khaki|lavender|bronze|copper|hues?|tints?|tinted|shades?|blond\w*|monochrome|sepia|pale\w*|vivid"
    },
    "light": {
        JITTER: r"bright\w*|dark\w*|light\w*|dim|dimly|contrast\w*|saturat\w*|exposure|shadow\w*|glow\w*"
    },
    "a place in the image": {
        CROP: r"left\w*|right\w*|top|topmost|bottom\w*|upper\w*|lower\w*|middle|cent(?:er|re)\w*|corners?|edges?|borders?|half"
        r"|rows?|columns?|first|second|third|fourth|fifth|sixth|last|background|foreground|distance"
    },
    "a count": {
        CROP: r"how many|counts?|counted|counting|numbers? of|total|all|every|each|both|two|three|four|five|six|seven|eight"
        r"|nine|ten|eleven|twelve|several|many|no other|(?:[2-9]|[1-9]\d+) [a-z]+s"
    },
    "the whole image": {CROP: r"whole|entire|overall|size|resolution|pixels? (?:wide|high|tall)"},
}
"""Why, and for which change, the words that forbid it."""

_WORDS = {
    (change, why): re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)
    for why, changes in _LISTS.items()
    for change, words in changes.items()
}
_TASKS = {
    FLIP: {"ocr": "written text", "math": "written text", "gui": "written text", "chart": "written text"},
    CROP: {"counting": "a count"},
    JITTER: {},
}
"""Tasks whose rows ask for it in whatever words."""
_INSTRUCTIONS = re.compile(
    r"(?:answer|respond|reply)\b[^.?!\n]{0,40}?\b(?:letter|word|number|text)\b(?: (?:of|from)[^.?!\n]{0,40})?",
    re.IGNORECASE,
)
"""How to answer, which says nothing of the image."""
_ENGLISH = re.compile(
    r"\b(?:the|and|what|where|which|how|this|that|with|are|there|it|find|locate|show|describe|look|answer)\b",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_FOREIGN = re.compile(r"[^\W\d_\u0041-\u024f]")  # a letter of another script than the Latin one


def forbidden(row: Row, change: str, more: re.Pattern[str] | None = None) -> tuple[str, str] | None:
    """(why, the word) if the row's texts would be wrong once its image is changed (FLIP, CROP or JITTER); None if nothing says so.

    more: words that a user forbids as well.
    """
    if why := _TASKS[change].get(row["task"]):
        return why, f"task {row['task']}"
    said = "\n".join(texts(row))
    plain = _INSTRUCTIONS.sub(" ", said)
    for (name, why), words in _WORDS.items():
        if name == change and (found := words.search(plain)):
            return why, found.group()
    if more and (found := more.search(plain)):
        return "a word of refuse_words", found.group()
    if _FOREIGN.search(said) or (_LETTERS.search(said) and not _ENGLISH.search(said)):
        return "a text that is not known to be English", " ".join(said.split())[:40]
    return None


def texts(row: Row) -> Iterator[str]:
    """What the row says of its image: prompt and trace, without system messages and observations, and the answer's texts."""
    for message in row["prompt"]:
        if message["role"] != "system":
            yield from _of_content(message["content"])
    trace = row.get("trace")
    if isinstance(trace, Mapping):
        yield from trace.values()
    for message in trace if isinstance(trace, list) else ():
        if message["role"] == "assistant":
            yield from _of_content(message["content"])
    yield from _strings({k: v for k, v in (row.get("answer") or {}).items() if k != "frame"})


def _of_content(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (part["text"] for part in content if part["type"] == "text")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)

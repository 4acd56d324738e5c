"""The stage grammar of structured traces: rendering and parsing.

    <SUMMARY>…</SUMMARY><CAPTION>…</CAPTION><REASONING>…</REASONING><CONCLUSION>…</CONCLUSION>

Plain text tags, each exactly once, in this order, with only white space outside. Tags are case-sensitive, and white space around
a stage's text does not belong to it. Parsing returns a value (the stages, or the first rule that is broken) and never raises. It
is a linear scan without backtracking.

Every function takes the names of the blocks, so that it also serves other grammars of this kind (`THINK`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

STAGES: tuple[str, ...] = ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")
THINK: tuple[str, ...] = ("think", "answer")
"""`<think>…</think><answer>…</answer>`, the grammar of R1-style models; pass it as `names`."""

RULES: tuple[str, ...] = ("empty", "missing", "repeated", "order", "unclosed", "nested", "outside")
"""The rules that can be broken. `Parsed.broken` is `rule` or `rule:NAME`, where NAME is the block (or place) concerned."""


@dataclass(frozen=True)
class Parsed:
    """A parsed text: `stages` (block name -> stripped text), or the rule that it broke first.

    Exactly one of `stages` and `broken` is None. `names` are the grammar's blocks; the last one is the answer.
    """

    stages: dict[str, str] | None
    broken: str | None
    names: tuple[str, ...] = STAGES

    @property
    def conclusion(self) -> str | None:
        """Text of the last block (the CONCLUSION), the only part that rewards and users see; None if the grammar is broken."""
        return None if self.stages is None else self.stages[self.names[-1]]


@lru_cache(maxsize=32)
def _tag_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"<(/?)(" + "|".join(re.escape(name) for name in names) + r")>")


def render(trace: Mapping[str, str], names: Sequence[str] = STAGES) -> str:
    """A trace (keys: the block names in lower case, as in a row's `trace`) as one text.

    `parse(render(trace)).stages` returns the stripped texts. Raises ValueError on a missing or unknown
    key, a text that is not a string, or a tag of the grammar inside a stage's text.
    """
    keys = [name.lower() for name in names]
    if set(trace) != set(keys):
        raise ValueError(f"trace: expected exactly the keys {keys}, got {sorted(map(str, trace))}")
    parts = []
    for name, key in zip(names, keys, strict=True):
        text = trace[key]
        if not isinstance(text, str):
            raise ValueError(f"trace field {key!r}: expected a string, got {type(text).__name__}")
        tag = _tag_pattern(tuple(names)).search(text)
        if tag:
            raise ValueError(
                f"trace field {key!r}: holds the tag {tag.group()!r}, which would break the grammar"
            )
        parts.append(f"<{name}>{text.strip()}</{name}>")
    return "".join(parts)


def parse(text: str, names: Sequence[str] = STAGES) -> Parsed:
    """Split a text into its stages, or report the first rule that it breaks (see `RULES`). Never raises."""
    names = tuple(names)
    if not isinstance(text, str) or not text.strip():
        return Parsed(None, "empty", names)
    tags = list(_tag_pattern(names).finditer(text))
    broken = _broken_rule(tags, names) or _text_outside(text, tags, names)
    if broken:
        return Parsed(None, broken, names)
    stages = {
        tags[2 * i].group(2): text[tags[2 * i].end() : tags[2 * i + 1].start()].strip()
        for i in range(len(names))
    }
    return Parsed(stages, None, names)


def stage_spans(text: str, names: Sequence[str] = STAGES) -> list[tuple[str, int, int]]:
    """(block name, start, end) character spans of each block, tags included; [] if the text breaks the grammar."""
    names = tuple(names)
    if parse(text, names).stages is None:
        return []
    tags = list(_tag_pattern(names).finditer(text))
    return [(name, tags[2 * i].start(), tags[2 * i + 1].end()) for i, name in enumerate(names)]


def _broken_rule(tags: list[re.Match[str]], names: tuple[str, ...]) -> str | None:
    """The first rule that the sequence of tags breaks: each block present, once, in order, and closed before the next opens."""
    opened = [tag.group(2) for tag in tags if not tag.group(1)]
    closed = [tag.group(2) for tag in tags if tag.group(1)]
    for name in names:
        if name not in opened:
            return f"missing:{name}"
        if opened.count(name) > 1 or closed.count(name) > 1:
            return f"repeated:{name}"
        if name not in closed:
            return f"unclosed:{name}"
    # From here on each tag occurs exactly once, so the lists are short.
    if opened != list(names):
        wrong = next(name for name, expected in zip(opened, names, strict=True) if name != expected)
        return f"order:{wrong}"
    for i, tag in enumerate(tags):
        if (bool(tag.group(1)), tag.group(2)) != (i % 2 == 1, names[i // 2]):
            return f"nested:{tag.group(2)}"
    return None


def _text_outside(text: str, tags: list[re.Match[str]], names: tuple[str, ...]) -> str | None:
    edges = [0, *(tag.start() if not tag.group(1) else tag.end() for tag in tags), len(text)]
    for i in range(0, len(edges), 2):
        if text[edges[i] : edges[i + 1]].strip():
            return f"outside:before {names[i // 2]}" if i // 2 < len(names) else f"outside:after {names[-1]}"
    return None

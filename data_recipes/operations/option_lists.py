r"""Lists of options inside the text of a question: found, and taken out with what only makes sense beside them.

Read: letters from A in order, as `(A) 3 (B) 4`, `A. 3 B. 4`, `A) 3`, `A: 3`, `A、3`, on one line or a line each, ASCII or
full-width, capital or small. The last such list of the text counts, and a list must go on to its end in one style.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STYLES = (
    re.compile(r"[(（]\s?([A-Za-z])\s?[)）]"),
    re.compile(r"(?<![A-Za-z0-9\\$(（{\[.,'’])([A-Z])\s?[.．、:：)）](?=\s|[^\sA-Za-z.])"),
    re.compile(r"(?:(?<=\n)|\A)\s*([a-z])\s?[.．)）](?=\s)"),
)
_HEADER = re.compile(
    r"(?:^|(?<=[\n.?!。？！:：]))[ \t]*(?:(?:the|here are the)\s+)?(?:answer\s+)?(?:choices|options|选项|选择)"
    r"(?:\s+are)?\s*[:：]?\s*\Z",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"(?:^|(?<=[\n.?!。？！]))[ \t]*(?:"
    r"(?:hint:\s*)?(?:please\s+)?(?:answer|respond|reply|select|choose|pick|give|provide)\b[^\n.?!]*\b"
    r"(?:letters?|options?|choices?)\b(?:e\.g\.|[^\n.?!])*(?:[.?!]|(?=\n)|\Z)"
    r"|(?:请|从)[^\n。]*(?:选项|字母|选择)[^\n。]*(?:。|(?=\n)|\Z)"
    r")",
    re.IGNORECASE,
)
_REQUEST_ON_THE_LINE = re.compile(
    r"(?<=\s)(?:please\s+)?(?:answer|respond|reply|select|choose|pick)\b[^\n]{0,80}\b(?:letters?|options?|choices?)\b",
    re.IGNORECASE,
)
_QUESTION_LABEL = re.compile(r"\A\s*question:\s*", re.IGNORECASE)
_EMPTY_BRACKETS = re.compile(r"\s*[(（][\s　]*[)）]\s*([.。]?)\s*\Z")


@dataclass(frozen=True)
class OptionList:
    """Options in a text. start, end: the whole list, markers included."""

    options: tuple[str, ...]
    start: int
    end: int


def find_options(text: str) -> OptionList | None:
    """The last list of at least two options in a text, or None."""
    found = [at for style in _STYLES if (at := _of_style(text, style)) is not None]
    return max(found, key=lambda at: (len(at.options), at.start), default=None)


def without_options(text: str, found: OptionList | None) -> str:
    """The question without its list, the list's header, requests for a letter, and the brackets left for the letter."""
    if found is not None:
        before, after = text[: found.start].rstrip(), text[found.end :].strip()
        before = _HEADER.sub("", before).rstrip()
        text = f"{before}\n{after}" if after else before
    text = _INSTRUCTION.sub("", text)
    text = _QUESTION_LABEL.sub("", text.strip()).strip()
    if found is not None or _EMPTY_BRACKETS.search(text):
        text = _EMPTY_BRACKETS.sub(r" ____\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _of_style(text: str, style: re.Pattern[str]) -> OptionList | None:
    """The last run A, B, C, … of markers in one style."""
    markers = [(match.group(1), match.start(), match.end()) for match in style.finditer(text)]
    runs: list[list[tuple[str, int, int]]] = []
    for marker in markers:
        if marker[0] in "Aa":
            runs.append([marker])
        elif runs and marker[0] == chr(ord(runs[-1][-1][0]) + 1):
            runs[-1].append(marker)
        # any other letter is text of an option (or of the question)
    run = next((run for run in reversed(runs) if len(run) >= 2), None)
    if run is None:
        return None
    ends = [*(start for _, start, _ in run[1:]), _end(text, run)]
    options = tuple(_trimmed(text[begin:end]) for (_, _, begin), end in zip(run, ends, strict=True))
    return OptionList(options, run[0][1], ends[-1])


def _end(text: str, run: list[tuple[str, int, int]]) -> int:
    """Where the last option ends: at its line's end; a request for a letter behind it on that line is not part of it."""
    begin = run[-1][2]
    line = text.find("\n", begin)
    if line >= 0 and not text[begin:line].strip():  # the option stands on the line below its letter
        line = text.find("\n", line + 1)
    end = len(text) if line < 0 else line
    request = _REQUEST_ON_THE_LINE.search(text, begin + 1, end)
    return request.start() if request and text[begin : request.start()].strip() else end


def _trimmed(option: str) -> str:
    return option.strip().rstrip(";,；，").strip()

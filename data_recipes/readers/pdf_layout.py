"""Lines of a PDF's page put together to paragraphs, and the places of its figures and tables between them. Geometry alone.

Boxes are (left, bottom, right, top) in points, with y upwards. The order of lines is that of the content stream, which is the
reading order in what typesetters and word processors write, in several columns too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Box = tuple[float, float, float, float]
HYPHEN = 0xFFFE
"""What PDFium gives for a hyphen that parts a word at the end of a line."""
PARAGRAPH_GAP = 0.7
"""Of the line's height: a wider gap between two lines begins a paragraph."""
FULL_LINE = 0.85
"""Of the paragraph's width: a line that ends before it keeps its line break (code, verse, lists)."""
EDGE = 0.1
"""Of the page's height: where running heads and page numbers stand."""
RUNNING_PAGES = 3
"""Pages on which a line at an edge stands, but for its numbers, to be a running head."""


@dataclass
class Line:
    """hyphen: its last word goes on in the next line."""

    text: str
    box: Box
    hyphen: bool = False


@dataclass
class PdfPage:
    """What stands on a page. items: boxes of figures and tables. contents: of each the image, or the table's text."""

    height: float
    lines: list[Line] = field(default_factory=list)
    items: list[Box] = field(default_factory=list)
    contents: list[Any] = field(default_factory=list)
    tables: int = 0
    unreadable: int = 0


@dataclass
class Block:
    """A paragraph, or (lines empty) a figure or table that stands for `item` of the page."""

    lines: list[Line] = field(default_factory=list)
    item: int | None = None
    box: Box = (0.0, 0.0, 0.0, 0.0)

    @property
    def text(self) -> str:
        made = ""
        for i, line in enumerate(self.lines):
            made += line.text.strip()
            if i + 1 < len(self.lines):
                made += self._between(line, self.lines[i + 1])
        return made

    def _between(self, line: Line, after: Line) -> str:
        if line.hyphen:
            return ""
        left, _, right, _ = self.box
        if line.box[2] < left + FULL_LINE * (right - left):
            return "\n"
        return "" if _WIDE.match(line.text[-1:]) and _WIDE.match(after.text[:1]) else " "


_WIDE = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")


def paragraphs(lines: Sequence[Line]) -> list[Block]:
    """Lines in reading order as paragraphs: a wide gap, a jump, another size of letters or an indent begins one."""
    blocks: list[Block] = []
    for line in lines:
        if blocks and _goes_on(blocks[-1], line):
            blocks[-1].lines.append(line)
            blocks[-1].box = union(blocks[-1].box, line.box)
        else:
            blocks.append(Block([line], box=line.box))
    return blocks


def _goes_on(block: Block, line: Line) -> bool:
    last = block.lines[-1]
    height, own = last.box[3] - last.box[1], line.box[3] - line.box[1]
    if abs(line.box[1] - last.box[1]) < 0.5 * height and line.box[0] >= last.box[2] - height:
        return True  # on the same line
    gap = last.box[1] - line.box[3]
    jumped = gap > PARAGRAPH_GAP * max(height, own) or gap < -0.8 * max(height, own)
    beside = line.box[0] > block.box[2] or line.box[2] < block.box[0]
    resized = max(height, own) > 1.6 * min(height, own)
    indented = (
        len(block.lines) > 1
        and line.box[0] > block.box[0] + 1.2 * own
        and last.box[0] < block.box[0] + 0.5 * own
    )
    return not (jumped or beside or resized or indented)


def union(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def inside(box: Box, other: Box) -> bool:
    """Whether the middle of a box lies in another."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return other[0] <= x <= other[2] and other[1] <= y <= other[3]


def placed(blocks: Sequence[Block], items: Sequence[Box]) -> list[Block]:
    """The blocks with a block for each item behind the last paragraph above it that overlaps it from left to right."""
    order = list(blocks)
    for number, box in sorted(enumerate(items), key=lambda item: (-item[1][3], item[1][0])):
        middle = (box[1] + box[3]) / 2
        beside = [i for i, b in enumerate(order) if min(b.box[2], box[2]) > max(b.box[0], box[0])]
        above = [i for i in beside if (order[i].box[1] + order[i].box[3]) / 2 > middle]
        below = [i for i in beside if i not in above]
        at = above[-1] + 1 if above else below[0] if below else len(order)
        order.insert(at, Block(item=number, box=box))
    return order


def running_lines(pages: Sequence[tuple[float, Sequence[Line]]]) -> set[str]:
    """Keys (`edge_key`) of the lines at the edges of at least RUNNING_PAGES pages. pages: (height, lines) of each."""
    found: Counter[str] = Counter()
    for height, lines in pages:
        found.update({edge_key(line, height) for line in lines} - {""})
    return {key for key, count in found.items() if count >= RUNNING_PAGES}


def edge_key(line: Line, height: float) -> str:
    """What a running head is recognised by: its edge and text without numbers; "" for a line elsewhere on the page."""
    edge = "top" if line.box[1] > height * (1 - EDGE) else "bottom" if line.box[3] < height * EDGE else ""
    words = _NUMBER.sub("#", line.text.strip().casefold())
    return edge and f"{edge} {words}"


_NUMBER = re.compile(r"[0-9]+|\b[ivxlc]+\b")

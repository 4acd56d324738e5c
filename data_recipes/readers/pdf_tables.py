"""Tables with ruled lines on a PDF's pages, by pdfplumber (MIT)."""

from __future__ import annotations

import io
import logging
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from data_recipes.readers.html_text import markdown_table
from data_recipes.readers.pdf_layout import HYPHEN, Box, PdfPage, inside

# pdfminer, under pdfplumber, warns about every odd font
logging.getLogger("pdfminer").setLevel(logging.ERROR)

RULES = 4
"""Thin lines on a page that is looked at for tables."""
TopDown = tuple[float, float, float, float]
"""pdfplumber's boxes: (left, top, right, bottom) in points from the page's upper left corner."""


class Tables:
    """Ruled tables of a document, by pdfplumber, which is opened when the first page with rules comes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._document: Any = None

    def of(self, number: int, page: pdfium.PdfPage) -> list[tuple[Box, str]]:
        """(box, Markdown) of each table of a page. Pages that are turned or cropped give none: their tables stay lines of text."""
        height = page.get_height()
        if (
            page.get_rotation()
            or page.get_cropbox() != page.get_mediabox()
            or page.get_mediabox()[:2] != (0, 0)
            or not _ruled(page)
        ):
            return []
        import pdfplumber
        from pdfplumber.utils.exceptions import MalformedPDFException, PdfminerException

        try:
            if self._document is None:
                self._document = pdfplumber.open(io.BytesIO(self._content))
            plumbed = self._document.pages[number]
            tables = _ruled_tables(plumbed)
            plumbed.close()
        except (
            MalformedPDFException,
            PdfminerException,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            RecursionError,
        ):
            return []  # pdfminer stumbles over files that PDFium reads; the table stays lines of text
        text = page.get_textpage()
        made = []
        for (x1, y1, x2, y2), boxes in tables:
            cells = _cells([[_cell_lines(box, text, height) for box in row] for row in boxes])
            if cells:
                made.append(((x1, height - y2, x2, height - y1), markdown_table(cells)))
        return made


def _ruled_tables(page: Any) -> list[tuple[TopDown, list[list[TopDown | None]]]]:
    """(box, boxes of its cells) of the tables of pdfplumber's page; those open at their sides reach as far as their rules."""
    found = []
    for table in page.find_tables():
        x1, top, x2, bottom = table.bbox
        rules = [
            e
            for e in page.horizontal_edges
            if top - 1 <= e["top"] <= bottom + 1 and e["x1"] > x1 and e["x0"] < x2
        ]
        left, right = min((e["x0"] for e in rules), default=x1), max((e["x1"] for e in rules), default=x2)
        if left < x1 - 5 or right > x2 + 5:
            whole = page.crop((left - 0.1, top - 0.1, right + 0.1, bottom + 0.1), strict=False)
            table = whole.find_table({"explicit_vertical_lines": [left, right]}) or table
        found.append((table.bbox, [row.cells for row in table.rows]))
    return found


def _cell_lines(box: TopDown | None, text: pdfium.PdfTextPage, height: float) -> list[str]:
    """Lines of text in a cell."""
    if box is None:
        return []
    words = text.get_text_bounded(box[0], height - box[3], box[2], height - box[1])
    lines = (" ".join(line.split()) for line in words.replace(chr(HYPHEN), "").splitlines())
    return [line for line in lines if line]


def _ruled(page: pdfium.PdfPage) -> bool:
    thin = 0
    for path in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_PATH], max_depth=1):
        left, bottom, right, top = path.get_bounds()
        thin += min(right - left, top - bottom) < 3 < 20 < max(right - left, top - bottom) or (
            right - left > 20 and top - bottom > 8
        )
        if thin >= RULES:
            return True
    return False


def _cells(rows: list[list[list[str]]]) -> list[list[str]]:
    """Cells from their lines, without empty rows and columns; [] for what is no table: a frame, or a figure's grid.

    Rows without a rule between them are told by their lines, where all cells have as many.
    """
    cells = []
    for row in rows:
        counts = {len(lines) for lines in row if lines}
        if len(counts) == 1:
            cells += [[lines[i] if lines else "" for lines in row] for i in range(*counts)]
        elif counts:
            cells.append([" ".join(lines) for lines in row])
    cells = [list(row) for row in zip(*(column for column in zip(*cells) if any(column)))]
    filled = sum(bool(cell) for row in cells for cell in row)
    return cells if len(cells) > 1 and len(cells[0]) > 1 and 2 * filled >= len(cells) * len(cells[0]) else []


def add_tables(page: PdfPage, source: pdfium.PdfPage, number: int, tables: Tables | None) -> None:
    """Ruled tables of a page; their lines leave the text."""
    for box, text in tables.of(number, source) if tables is not None else ():
        page.items.append(box)
        page.contents.append(text)
        page.tables += 1
        page.lines = [line for line in page.lines if not inside(line.box, box)]

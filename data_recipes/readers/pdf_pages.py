"""PDFs as documents: text, figures and tables in reading order.

Text and pictures are read by pypdfium2 (BSD-3-Clause and Apache-2.0, as PDFium itself), in about 10 ms a page; tables on pages
with ruled lines by pdfplumber (MIT), which takes ten times as long and looks at these pages alone. Others: PyMuPDF reads as
well as PDFium but is AGPL; docling (MIT) recognises layout, tables without rules and formulas by models that have to be
downloaded; pdfminer.six alone is slow and draws nothing.

Figures: `pdf_figures.py`; tables: `pdf_tables.py`. Running heads and page numbers are left out and counted. Formulas are the
characters that they are set in, since a PDF holds no TeX. Scans without a layer of text are rejected.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from pydantic import Field

from core.rows import Row
from data_recipes.readers.files import kind_of
from data_recipes.readers.interleaved import Part
from data_recipes.readers.pages import Left, PageOptions, content_of, document_row, entries, is_shards
from data_recipes.readers.pdf_figures import add_figures, pages_of_images
from data_recipes.readers.pdf_layout import (
    HYPHEN,
    Box,
    Line,
    PdfPage,
    edge_key,
    paragraphs,
    placed,
    running_lines,
    union,
)
from data_recipes.readers.pdf_tables import Tables, add_tables
from data_recipes.records import Format, Record, Rejected

ENDINGS = (".pdf",)
UNREADABLE = 0.2
"""Share of characters without Unicode above which a document's text is rejected."""


class PdfOptions(PageOptions):
    """Options of the format pdf_pages."""

    pages: int | None = Field(32, ge=1)
    """Most pages of one row; longer documents become several rows, cut between pages. null: one row."""
    tables: bool = True
    """Tables with ruled lines as Markdown; false: as lines of text, which is faster."""


def read(path: Path, options: PdfOptions) -> Iterator[Record]:
    """Documents in the order of their paths."""
    return entries(path, ENDINGS, options)


def convert(record: Record, options: PdfOptions) -> Iterator[Row]:
    """A row for every `pages` pages."""
    content = content_of(record)
    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        raise Rejected(f"expected a PDF that opens without a password, got: {error}") from None
    try:
        yield from _rows(document, content, record, options)
    except pdfium.PdfiumError as error:
        raise Rejected(f"expected pages that can be read, got: {error}") from None
    finally:
        document.close()


def _rows(document: pdfium.PdfDocument, content: bytes, record: Record, options: PdfOptions) -> Iterator[Row]:
    texts = [_lines(document[i]) for i in range(len(document))]
    characters = sum(len(line.text) for _, lines, _ in texts for line in lines)
    unreadable = sum(count for _, _, count in texts)
    if unreadable > UNREADABLE * max(1, characters + unreadable):
        raise Rejected(
            f"expected text in Unicode, got {unreadable} of {characters + unreadable} characters without it"
        )
    if not characters:
        raise Rejected("expected a PDF with text, got none: a scan?")
    running = running_lines([(height, lines) for height, lines, _ in texts])
    seen = pages_of_images(document) if options.max_pages else Counter()
    tables = Tables(content) if options.tables else None
    size = options.pages or len(document)
    for start in range(0, len(document), size):
        numbers = range(start, min(start + size, len(document)))
        left = Left()
        parts: list[Part] = []
        images: list[Any] = []
        heads = made = 0
        for number in numbers:
            height, lines, _ = texts[number]
            kept = [line for line in lines if edge_key(line, height) not in running]
            heads += len(lines) - len(kept)
            page = PdfPage(height, kept)
            add_tables(page, document[number], number, tables)
            add_figures(page, document[number], number, seen, left, options)
            made += page.tables
            _add_page(parts, images, page)
        label = f"-p{numbers[0] + 1}-{numbers[-1] + 1}" if size < len(document) else ""
        columns = {"pages": [numbers[0] + 1, numbers[-1] + 1], "tables": made, "running_heads": heads}
        try:
            yield document_row(record, label, parts, images, left, options, **columns)
        except Rejected as error:
            yield Rejected(f"pages {numbers[0] + 1} to {numbers[-1] + 1}: {error}")  # type: ignore[misc]


def _add_page(parts: list[Part], images: list[Any], page: PdfPage) -> None:
    """The page's paragraphs, figures and tables in reading order."""
    for block in placed(paragraphs(page.lines), page.items):
        content = block.text if block.item is None else page.contents[block.item]
        if isinstance(content, bytes):
            parts.append({"type": "image"})
            images.append({"bytes": content})
        elif not content.strip():
            continue
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += "\n\n" + content
        else:
            parts.append({"type": "text", "text": content})


# ----------------------------------------------------------------------------------------------------------------- text


def _lines(page: pdfium.PdfPage) -> tuple[float, list[Line], int]:
    """(height of the page, its lines in the order of the content stream, characters without Unicode)."""
    text = page.get_textpage()
    edges = [ctypes.c_double() for _ in range(4)]
    left, right, bottom, top = edges
    lines: list[Line] = []
    letters: list[str] = []
    box: Box | None = None
    unreadable = 0

    def close(hyphen: bool) -> None:
        nonlocal box
        words = "".join(letters).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if words.strip() and box is not None:
            lines.append(Line(" ".join(words.split()), box, hyphen))
        letters.clear()
        box = None

    for i in range(text.count_chars()):
        code = pdfium_c.FPDFText_GetUnicode(text, i)
        if code in (0x0A, 0x0D, HYPHEN):
            close(code == HYPHEN)
        elif code < 0x20 or 0xE000 <= code <= 0xF8FF or code in (0xFFFD, 0xFFFF):
            unreadable += code != 0x09
        else:
            letters.append(chr(code))
            if code != 0x20 and pdfium_c.FPDFText_GetCharBox(text, i, left, right, bottom, top):
                own = (left.value, bottom.value, right.value, top.value)
                box = own if box is None else union(box, own)
    close(False)
    text.close()
    return page.get_height(), lines, unreadable


def looks_like(path: Path, first: Any) -> bool:
    """True for a PDF, or a folder with one at its top."""
    if path.is_file():
        return kind_of(path) in ENDINGS
    return not is_shards(path) and any(kind_of(file) in ENDINGS for file in path.glob("*"))


FORMATS = (
    Format(
        "pdf_pages",
        "PDFs: text, figures and tables in reading order, as documents",
        read,
        convert,
        looks_like,
        PdfOptions,
    ),
)

"""PDFs as documents: text, figures and tables in reading order.

Text and pictures are read by pypdfium2 (BSD-3-Clause and Apache-2.0, as PDFium itself), in about 10 ms a page; tables on pages
with ruled lines by pdfplumber (MIT), which takes ten times as long and looks at these pages alone. Others: PyMuPDF reads as
well as PDFium but is AGPL; docling (MIT) recognises layout, tables without rules and formulas by models that have to be
downloaded; pdfminer.six alone is slow and draws nothing.

Images are taken in their own resolution; drawings that were included as a whole (a form XObject, as TeX and plotting programs
make them) are drawn at 144 dpi, with the words in them. Running heads and page numbers are left out and counted. Formulas are
the characters that they are set in, since a PDF holds no TeX. Drawings made of loose strokes on the page are not recognised as
figures; their words stay in the text. Scans without a layer of text are rejected.
"""

from __future__ import annotations

import ctypes
import io
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image
from pydantic import Field

from core.rows import Row
from data_recipes.readers.files import kind_of
from data_recipes.readers.html_text import markdown_table
from data_recipes.readers.interleaved import Part
from data_recipes.readers.pages import (
    Left,
    PageOptions,
    content_of,
    document_row,
    entries,
    flat,
    is_shards,
    odd_shape,
)
from data_recipes.readers.pdf_layout import (
    Box,
    Line,
    edge_key,
    inside,
    paragraphs,
    placed,
    running_lines,
    union,
)
from data_recipes.records import Format, Record, Rejected

logging.getLogger("pdfminer").setLevel(
    logging.ERROR
)  # it warns about every odd font; what cannot be read is rejected

ENDINGS = (".pdf",)
SCALE = 2.0
"""Pixels a point of drawings."""
LONGEST_SIDE = 2048
"""Pixels; larger images are made smaller."""
PADDING = 2.0
"""Points around a drawing, whose bounds may end at its strokes' middles."""
DRAWN = 12
"""Strokes, fills and images that a form must have to be a figure; others are text or decoration."""
WHOLE_PAGE = 0.8
"""Of the page: a larger form is the page itself."""
RULES = 4
"""Thin lines on a page that is looked at for tables."""
UNREADABLE = 0.2
"""Share of characters without Unicode above which a document's text is rejected."""
TopDown = tuple[float, float, float, float]
"""pdfplumber's boxes: (left, top, right, bottom) in points from the page's upper left corner."""
HYPHEN = 0xFFFE
"""What PDFium gives for a hyphen that parts a word at the end of a line."""


class PdfOptions(PageOptions):
    """Options of the format pdf_pages."""

    pages: int | None = Field(32, ge=1)
    """Most pages of one row; longer documents become several rows, cut between pages. null: one row."""
    tables: bool = True
    """Tables with ruled lines as Markdown; false: as lines of text, which is faster."""


@dataclass
class PdfPage:
    """What stands on a page. items: boxes of figures and tables. contents: of each the image, or the table's text."""

    height: float
    lines: list[Line] = field(default_factory=list)
    items: list[Box] = field(default_factory=list)
    contents: list[Any] = field(default_factory=list)
    tables: int = 0
    unreadable: int = 0


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
    seen = _pages_of_images(document) if options.max_pages else Counter()
    tables = _Tables(content) if options.tables else None
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
            _add_tables(page, document[number], number, tables)
            _add_figures(page, document[number], number, seen, left, options)
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


# --------------------------------------------------------------------------------------------------------------- figures


def _pages_of_images(document: pdfium.PdfDocument) -> Counter[bytes]:
    """On how many pages each image stands, by its stored content."""
    seen: Counter[bytes] = Counter()
    for number in range(len(document)):
        seen.update({_digest(image) for image in _images(document[number])})
    return seen


def _images(page: pdfium.PdfPage) -> Iterator[Any]:
    return page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=1)


def _digest(image: Any) -> bytes:
    return blake2b(bytes(image.get_data(decode_simple=False)), digest_size=16).digest()


def _add_figures(
    page: PdfPage, source: pdfium.PdfPage, number: int, seen: Counter[bytes], left: Left, options: PdfOptions
) -> None:
    """Images and drawings of a page; words inside a drawing leave the text."""
    name = f"page {number + 1}, image"
    for count, image in enumerate(_images(source), 1):
        pages = seen[_digest(image)] if options.max_pages else 0
        problem = odd_shape(image.get_px_size(), options)
        if problem is None and options.max_pages and pages > options.max_pages:
            problem = "repeated", f"on {pages} pages, at most {options.max_pages} are wanted"
        if problem is None:
            try:
                picture = image.get_bitmap(render=True, scale_to_original=True).to_pil()
            except (pdfium.PdfiumError, ValueError) as error:
                problem = "unreadable", str(error)
            else:
                problem = flat(picture)
        if problem is None:
            page.items.append(tuple(image.get_bounds()))
            page.contents.append(_encoded(picture, photo="DCTDecode" in image.get_filters()))
        else:
            left.add(f"{name} {count}", *problem)
    drawings = [
        box for box in map(_drawing, _forms(source)) if box is not None and _smaller_than_page(box, source)
    ]
    if not drawings:
        return
    bitmap = source.render(scale=SCALE)
    whole, place = bitmap.to_pil().convert("RGB"), bitmap.get_posconv(source)
    for count, box in enumerate(drawings, 1):
        (x1, y1), (x2, y2) = place.to_bitmap(box[0], box[1]), place.to_bitmap(box[2], box[3])
        cut = whole.crop(
            (
                max(0, min(x1, x2)),
                max(0, min(y1, y2)),
                min(whole.width, max(x1, x2)),
                min(whole.height, max(y1, y2)),
            )
        )
        problem = odd_shape(cut.size, options) or flat(cut)
        if problem is None:
            page.items.append(box)
            page.contents.append(_encoded(cut, photo=False))
            page.lines = [line for line in page.lines if not inside(line.box, box)]
        else:
            left.add(f"page {number + 1}, drawing {count}", *problem)


def _forms(page: pdfium.PdfPage) -> Iterator[Any]:
    return page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_FORM], max_depth=1)


def _drawing(form: Any) -> Box | None:
    """The box of a form that draws something."""
    kinds = Counter(
        pdfium_c.FPDFPageObj_GetType(pdfium_c.FPDFFormObj_GetObject(form, i))
        for i in range(pdfium_c.FPDFFormObj_CountObjects(form))
    )
    drawn = kinds[pdfium_c.FPDF_PAGEOBJ_PATH] + kinds[pdfium_c.FPDF_PAGEOBJ_SHADING]
    pictures = kinds[pdfium_c.FPDF_PAGEOBJ_IMAGE] + kinds[pdfium_c.FPDF_PAGEOBJ_FORM]
    left, bottom, right, top = form.get_bounds()
    return (
        (left - PADDING, bottom - PADDING, right + PADDING, top + PADDING)
        if drawn >= DRAWN or pictures
        else None
    )


def _smaller_than_page(box: Box, page: pdfium.PdfPage) -> bool:
    width, height = page.get_size()
    return (box[2] - box[0]) * (box[3] - box[1]) < WHOLE_PAGE * width * height


def _encoded(image: Image.Image, photo: bool) -> bytes:
    """PNG; JPEG of quality 95 for what was stored as JPEG."""
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if photo:
        image.convert("RGB").save(file, "JPEG", quality=95, subsampling=0)
    else:
        image.save(file, "PNG")
    return file.getvalue()


# ---------------------------------------------------------------------------------------------------------------- tables


class _Tables:
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


def _add_tables(page: PdfPage, source: pdfium.PdfPage, number: int, tables: _Tables | None) -> None:
    """Ruled tables of a page; their lines leave the text."""
    for box, text in tables.of(number, source) if tables is not None else ():
        page.items.append(box)
        page.contents.append(text)
        page.tables += 1
        page.lines = [line for line in page.lines if not inside(line.box, box)]


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

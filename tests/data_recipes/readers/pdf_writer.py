"""Small PDFs for tests, written by PDFium itself: text at places, images, ruled tables, drawings included as a whole."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Sequence

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image

WIDTH, HEIGHT = 400.0, 500.0  # points


class Writer:
    """Pages are added one after the other; y grows upwards."""

    def __init__(self) -> None:
        self.document = pdfium.PdfDocument.new()
        self.page = self.document.new_page(WIDTH, HEIGHT)

    def new_page(self) -> None:
        self.page.gen_content()
        self.page = self.document.new_page(WIDTH, HEIGHT)

    def text(self, x: float, y: float, words: str, size: float = 12.0) -> None:
        made = pdfium_c.FPDFPageObj_NewTextObj(self.document, b"Helvetica", size)
        content = (words + "\0").encode("utf-16-le")
        pdfium_c.FPDFText_SetText(made, ctypes.cast(content, pdfium_c.FPDF_WIDESTRING))
        self._put(made, (1, 0, 0, 1, x, y))

    def lines(self, x: float, y: float, lines: Sequence[str], size: float = 12.0) -> None:
        for i, line in enumerate(lines):
            self.text(x, y - 1.2 * size * i, line, size)

    def image(self, x: float, y: float, width: float, height: float, picture: Image.Image) -> None:
        made = pdfium.PdfImage.new(self.document)
        made.set_bitmap(pdfium.PdfBitmap.from_pil(picture))
        made.set_matrix(pdfium.PdfMatrix().scale(width, height).translate(x, y))
        self.page.insert_obj(made)

    def rect(
        self, x: float, y: float, width: float, height: float, colour: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        made = pdfium_c.FPDFPageObj_CreateNewRect(x, y, width, height)
        pdfium_c.FPDFPageObj_SetFillColor(made, *colour, 255)
        pdfium_c.FPDFPath_SetDrawMode(made, pdfium_c.FPDF_FILLMODE_ALTERNATE, False)
        self._put(made)

    def table(
        self, x: float, y: float, rows: Sequence[Sequence[str]], width: float = 80, height: float = 20
    ) -> None:
        """Rules between all cells; x, y: the upper left corner."""
        wide, high = width * len(rows[0]), height * len(rows)
        for i in range(len(rows) + 1):
            self.rect(x, y - i * height, wide, 0.5)
        for i in range(len(rows[0]) + 1):
            self.rect(x + i * width, y - high, 0.5, high)
        for i, row in enumerate(rows):
            for j, words in enumerate(row):
                self.text(x + j * width + 5, y - (i + 1) * height + 6, words, 9)

    def drawing(self, x: float, y: float, scale: float, other: Writer) -> None:
        """Include the first page of another document as a form."""
        other.page.gen_content()
        form = pdfium_c.FPDF_NewXObjectFromPage(self.document, other.document, 0)
        self._put(pdfium_c.FPDF_NewFormObjectFromXObject(form), (scale, 0, 0, scale, x, y))

    def _put(self, made: object, matrix: tuple[float, ...] | None = None) -> None:
        if matrix is not None:
            pdfium_c.FPDFPageObj_SetMatrix(made, pdfium_c.FS_MATRIX(*matrix))
        pdfium_c.FPDFPage_InsertObject(self.page, made)

    def content(self) -> bytes:
        self.page.gen_content()
        file = io.BytesIO()
        self.document.save(file)
        return file.getvalue()

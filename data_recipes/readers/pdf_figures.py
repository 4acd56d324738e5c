"""Images and drawings of a PDF's page.

Images are taken in their own resolution; drawings that were included as a whole (a form XObject, as TeX and plotting programs
make them) are drawn at 144 dpi, with the words in them. Drawings made of loose strokes on the page are not recognised as
figures; their words stay in the text.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image

from data_recipes.readers.pages import Left, PageOptions, flat, odd_shape
from data_recipes.readers.pdf_layout import Box, PdfPage, inside

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


def pages_of_images(document: pdfium.PdfDocument) -> Counter[bytes]:
    """On how many pages each image stands, by its stored content."""
    seen: Counter[bytes] = Counter()
    for number in range(len(document)):
        seen.update({_digest(image) for image in _images(document[number])})
    return seen


def _images(page: pdfium.PdfPage) -> Iterator[Any]:
    return page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=1)


def _digest(image: Any) -> bytes:
    return blake2b(bytes(image.get_data(decode_simple=False)), digest_size=16).digest()


def add_figures(
    page: PdfPage, source: pdfium.PdfPage, number: int, seen: Counter[bytes], left: Left, options: PageOptions
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

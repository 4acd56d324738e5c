"""PDFs as documents: reading order, columns, figures and tables in their places, running heads, what is broken."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.rows import check_document
from data_recipes.config import Recipe
from data_recipes.readers.pdf_layout import Line, paragraphs, placed, running_lines
from data_recipes.readers.pdf_pages import PdfOptions, convert, read
from data_recipes.records import Rejected
from data_recipes.runner import run_recipe
from tests.data_recipes.readers.pdf_writer import Writer


def picture(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 10, width // 10, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)


def rows_of(content: bytes, folder: Path, **options) -> list[dict]:
    (folder / "paper.pdf").write_bytes(content)
    typed = PdfOptions(**options)
    (record,) = read(folder / "paper.pdf", typed)
    return list(convert(record, typed))


def shape(row: dict) -> list[str]:
    return [part.get("text", "IMAGE") for part in row["document"]]


def image_of(row: dict, number: int) -> Image.Image:
    return Image.open(io.BytesIO(row["images"][number]["bytes"]))


def test_a_figure_stands_between_the_paragraphs_around_it(tmp_path):
    page = Writer()
    page.lines(
        40,
        460,
        ["The first paragraph is set in two lines that", "fill the width of it, as in a book it would."],
    )
    page.lines(40, 200, ["Figure 1: blocks of colour.", "A second line, which goes on a little more."])
    page.image(60, 250, 240, 180, picture())
    (row,) = rows_of(page.content(), tmp_path)
    first, image, last = shape(row)
    assert (
        first == "The first paragraph is set in two lines that fill the width of it, as in a book it would."
    )
    assert image == "IMAGE" and last.startswith("Figure 1: blocks of colour.")
    assert np.array_equal(np.asarray(image_of(row, 0).convert("RGB")), np.asarray(picture()))
    assert check_document(row, tmp_path)["task"] == "document"


def test_columns_are_read_one_after_the_other(tmp_path):
    page = Writer()
    left = [f"left column, line number {i}" for i in range(4)]
    right = [f"right column, line number {i}" for i in range(4)]
    page.lines(20, 450, left, 10)
    page.lines(220, 450, right, 10)
    page.image(230, 300, 120, 90, picture())
    ((text, image),) = [shape(row) for row in rows_of(page.content(), tmp_path)]
    assert text.index("left column, line number 3") < text.index("right column, line number 0")
    assert image == "IMAGE"


def test_a_ruled_table_is_markdown_in_its_place(tmp_path):
    page = Writer()
    page.lines(40, 470, ["Before the table."])
    page.table(40, 440, [["Name", "Size"], ["alpha", "3"], ["beta | gamma", "4"]])
    page.lines(40, 300, ["After the table."])
    (row,) = rows_of(page.content(), tmp_path)
    (text,) = shape(row)
    table = "| Name | Size |\n| --- | --- |\n| alpha | 3 |\n| beta \\| gamma | 4 |"
    assert text == f"Before the table.\n\n{table}\n\nAfter the table." and row["tables"] == 1
    (plain,) = rows_of(page.content(), tmp_path, tables=False)
    assert "| --- |" not in shape(plain)[0] and "alpha" in shape(plain)[0] and plain["tables"] == 0


def test_a_drawing_that_was_included_is_drawn_and_its_words_leave_the_text(tmp_path):
    figure = Writer()
    for i in range(20):
        figure.rect(10 + 19 * i, 10, 12, 20 + 20 * i, (12 * i, 0, 200))
    figure.text(40, 450, "label within the drawing")
    page = Writer()
    page.lines(40, 470, ["A plot follows."])
    page.drawing(50, 200, 0.5, figure)
    page.lines(40, 100, ["It was a plot."])
    (row,) = rows_of(page.content(), tmp_path)
    assert shape(row) == ["A plot follows.", "IMAGE", "It was a plot."]
    drawn = np.asarray(image_of(row, 0).convert("RGB"))
    assert (drawn[..., 2].astype(int) - drawn[..., 1] > 100).mean() > 0.1  # the blue bars are there


def test_images_that_carry_nothing_are_left_out_with_the_rule(tmp_path):
    page = Writer()
    for number in range(5):
        if number:
            page.new_page()
        page.lines(40, 300, [f"Page {number} says something of its own, at some length."])
        page.image(40, 400, 80, 80, picture(100, 100, seed=7))  # a logo
    page.image(40, 200, 10, 10, picture(20, 20))
    page.image(40, 100, 300, 10, picture(1200, 80))
    page.image(140, 200, 90, 90, Image.new("RGB", (200, 200), (250, 250, 250)))
    page.image(250, 200, 90, 60, picture(150, 100, seed=2))
    (row,) = rows_of(page.content(), tmp_path, max_pages=3)
    assert [entry["rule"] for entry in row["left_out"]] == ["repeated"] * 5 + ["small", "aspect", "flat"]
    assert row["left_out"][0]["reason"] == "on 5 pages, at most 3 are wanted"
    assert image_of(row, 0).size == (150, 100) and len(row["images"]) == 1
    assert len(rows_of(page.content(), tmp_path, max_pages=None)[0]["images"]) == 6


def test_running_heads_leave_and_long_documents_become_several_rows(tmp_path):
    page = Writer()
    for number in range(1, 6):
        if number > 1:
            page.new_page()
        page.text(40, 480, f"{number}   A HISTORY OF NOTHING", 9)
        page.lines(40, 300, [f"This is what stands on page {'abcde'[number - 1]}."])
        page.text(200, 15, str(number), 9)
    rows = rows_of(page.content(), tmp_path, pages=2)
    assert [row["id"] for row in rows] == ["paper.pdf-p1-2", "paper.pdf-p3-4", "paper.pdf-p5-5"]
    assert shape(rows[0]) == ["This is what stands on page a.\n\nThis is what stands on page b."]
    assert [row["running_heads"] for row in rows] == [4, 4, 2]


def test_words_parted_at_the_end_of_a_line_are_joined():
    lines = [
        Line("it is avail", (0, 20, 100, 30), hyphen=True),
        Line("able now", (0, 8, 60, 18)),
        Line("so", (0, -30, 9, -20)),
    ]
    assert [block.text for block in paragraphs(lines)] == ["it is available now", "so"]


def test_short_lines_keep_their_breaks():
    lines = [
        Line("x = 1", (0, 20, 30, 30)),
        Line("print(x + 12345)", (0, 8, 90, 18)),
        Line("漢字が", (0, -4, 88, 6)),
        Line("続く", (0, -16, 80, -6)),
    ]
    assert paragraphs(lines)[0].text == "x = 1\nprint(x + 12345) 漢字が続く"


def test_what_overlaps_no_paragraph_comes_last():
    (text,) = paragraphs([Line("a", (0, 0, 10, 10))])
    assert [block.item for block in placed([text], [(50, 0, 60, 10), (0, 40, 10, 50)])] == [1, None, 0]


def test_a_head_must_stand_on_three_pages():
    pages = [(100.0, [Line("Chapter 1", (0, 95, 10, 99)), Line("Chapter 1", (0, 50, 10, 54))])] * 2
    assert running_lines(pages) == set()
    assert running_lines(pages + pages[:1]) == {"top chapter #"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "got an empty file"),
        (b"<html>no</html>", "expected a PDF that opens without a password"),
        (b"%PDF-1.7\n" + b"x" * 500, "expected a PDF that opens without a password"),
    ],
)
def test_what_is_no_pdf_is_rejected(tmp_path, content, expected):
    with pytest.raises(Rejected, match=expected):
        rows_of(content, tmp_path)


def test_a_scan_without_text_is_rejected(tmp_path):
    page = Writer()
    page.image(0, 0, 400, 500, picture(400, 500))
    with pytest.raises(Rejected, match="expected a PDF with text, got none: a scan"):
        rows_of(page.content(), tmp_path)


def test_a_recipe_reads_a_folder_and_names_broken_files(tmp_path):
    page = Writer()
    page.lines(40, 460, ["A document with a picture."])
    page.image(60, 250, 240, 180, picture())
    page.image(60, 150, 20, 20, picture(20, 20))
    site = tmp_path / "papers"
    (site / "more").mkdir(parents=True)
    (site / "a.pdf").write_bytes(page.content())
    (site / "more" / "b.pdf.gz").write_bytes(gzip.compress(page.content()))
    (site / "c.pdf").write_bytes(page.content()[:300])
    recipe = {
        "name": "papers",
        "sources": [{"name": "papers", "format": "pdf_pages", "path": str(site)}],
        "output_dir": str(tmp_path / "out"),
        "tasks": 1,
        "workers": 1,
    }
    said: list[str] = []
    run_recipe(Recipe.model_validate(recipe), say=said.append)
    card = "\n".join(said)
    assert "| papers | image (small) | 2 |" in card and "| papers | pdf_pages | 3 | 2 | 1 | 1 |" in card
    assert str(site / "c.pdf") in (tmp_path / "out" / "rejected.jsonl").read_text()


REAL = sorted(Path("/usr/share/doc").rglob("*.pdf")) if Path("/usr/share/doc").is_dir() else []


@pytest.mark.skipif(not REAL, reason="no PDF under /usr/share/doc (a -doc package of Debian)")
def test_real_documentation_is_read():
    path = min(REAL, key=lambda file: file.stat().st_size)
    options = PdfOptions(pages=None)
    (record,) = read(path, options)
    (row,) = convert(record, options)
    words = sum(len(part["text"].split()) for part in row["document"] if part["type"] == "text")
    assert words > 50

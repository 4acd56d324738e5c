"""OBELICS and MMC4: documents in reading order; images that are left out are named with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from core.rows import check_document, read_rows
from data_recipes.config import Recipe
from data_recipes.readers import FORMATS
from data_recipes.readers.interleaved import MMC4Options, ObelicsOptions, mmc4, obelics
from data_recipes.records import Record, Rejected, SourceError
from data_recipes.runner import run_recipe

IMAGE = {"type": "image"}
PAGE = {
    "images": [
        None,
        "https://example.org/x/red%20tile.png?w=3",
        None,
        None,
        "https://example.org/gone.png",
        None,
    ],
    "texts": ["Before.", None, "Between.", "Also between.", None, "After."],
    "metadata": "[]",
    "general_metadata": '{"url": "https://example.org/page"}',
}
SENTENCES = {
    "text_list": ["One.", "Two.", "Three."],
    "image_info": [
        {"image_name": "tile.png", "matched_text_index": 2, "matched_sim": 0.3},
        {"image_name": "red tile.png", "matched_text_index": 0, "matched_sim": 0.2},
        {"image_name": "gone.png", "matched_text_index": 0, "matched_sim": 0.5},
    ],
    "url": "https://example.org/page",
}


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "images"
    folder.mkdir()
    for name in ("red tile.png", "tile.png"):
        Image.new("RGB", (56, 56), (200, 30, 30)).save(folder / name)
    return folder


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def of_obelics(record: dict, media: Path, **options) -> dict:
    (row,) = obelics(Record(record, media.parent / "rows.parquet", 7), ObelicsOptions(**options))
    return row


def of_mmc4(record: dict, media: Path, **options) -> dict:
    (row,) = mmc4(Record(record, media.parent / "docs.jsonl", 7), MMC4Options(**options))
    return row


def test_a_page_of_obelics_keeps_its_order(media):
    row = of_obelics(PAGE, media)
    assert row["document"] == [text("Before."), IMAGE, text("Between.\n\nAlso between.\n\nAfter.")]
    assert row["images"] == [str(media / "red tile.png")]
    assert row["left_out"] == [
        {
            "image": "https://example.org/gone.png",
            "rule": "missing",
            "reason": f"no file {media / 'gone.png'}",
        }
    ]
    assert row["url"] == "https://example.org/page"
    assert row["source"] == {"dataset": "OBELICS", "licence": "CC BY 4.0"}
    assert check_document(row, media)["id"] == "7"


def test_urls_may_be_mapped_to_files(media, tmp_path):
    entry = {"url": "https://example.org/gone.png", "path": "tile.png"}
    (tmp_path / "files.jsonl").write_text(json.dumps(entry) + "\n")
    row = of_obelics(PAGE, media, files=tmp_path / "files.jsonl")
    assert row["images"] == [str(media / "red tile.png"), str(media / "tile.png")]
    assert not row["left_out"]
    (tmp_path / "wrong.jsonl").write_text("[1]\n")
    with pytest.raises(SourceError, match="files: expected JSON lines"):
        of_obelics(PAGE, media, files=tmp_path / "wrong.jsonl")


def test_an_image_of_mmc4_stands_before_its_sentence(media):
    row = of_mmc4(SENTENCES, media)
    assert row["document"] == [IMAGE, text("One. Two."), IMAGE, text("Three.")]
    assert row["images"] == [str(media / "red tile.png"), str(media / "tile.png")]
    assert [left["image"] for left in row["left_out"]] == ["gone.png"]


def test_images_that_fit_their_sentence_badly_are_left_out(media):
    row = of_mmc4(SENTENCES, media, similarity=0.25)
    assert row["images"] == [str(media / "tile.png")]
    reason = "similarity 0.200 is below 0.25"
    assert {"image": "red tile.png", "rule": "similarity", "reason": reason} in row["left_out"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"texts": ["one"]}, "expected one length, got 6 and 1"),
        ({"images": [None] * 6, "texts": [None] * 6}, "expected one of them, got none"),
        ({"images": ["a"] * 6, "texts": ["b"] * 6}, "expected one of them, got both"),
        (
            {"images": [None] * 6, "texts": ["only text"] * 6},
            "expected a document with an image, got none .it has none",
        ),
        ({"images": ["https://a.org/b.png"], "texts": [None]}, "https://a.org/b.png: no file"),
        ({"images": [None], "texts": [3]}, "expected a text, got 3"),
    ],
)
def test_a_broken_page_says_what_is_wrong(media, changes, expected):
    with pytest.raises(Rejected, match=expected):
        of_obelics(PAGE | changes, media)


def test_a_sentence_that_is_not_there_is_an_error(media):
    infos = [{"image_name": "tile.png", "matched_text_index": 3, "matched_sim": 0.3}]
    with pytest.raises(Rejected, match=r"image_info\[0\].matched_text_index': expected 0 to 2, got 3"):
        of_mmc4(SENTENCES | {"image_info": infos}, media)


def test_text_alone_may_be_kept(media):
    page = PAGE | {"images": [None], "texts": ["only text"]}
    assert of_obelics(page, media, need_image=False)["document"] == [text("only text")]


def test_the_formats_are_told_from_their_first_record():
    for name, record in (("obelics", PAGE), ("mmc4", SENTENCES)):
        assert [n for n, form in FORMATS.items() if form.looks_like(Path("x.jsonl"), record)] == [name]


def test_a_recipe_writes_documents_without_doubles(media, tmp_path):
    """The operations of texts read the whole document."""
    (tmp_path / "images").symlink_to(media)
    pages = [SENTENCES, SENTENCES, SENTENCES | {"text_list": ["A.", "B.", "Quite another page."]}]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    recipe = {
        "name": "pages",
        "sources": [{"name": "mmc4", "format": "mmc4", "path": str(tmp_path / "docs.jsonl"),
                     "options": {"media": str(media)}}],
        "operations": ["dedup"],
        "output_dir": str(tmp_path / "out"),
        "tasks": 1,
        "workers": 1,
    }  # fmt: skip
    run_recipe(Recipe.model_validate(recipe), say=lambda line: None)
    rows = read_rows(tmp_path / "out", check=check_document)
    assert len(rows) == 2
    assert all(part in (IMAGE, *row["document"]) for row in rows for part in row["document"])
    assert all(Path(image).is_file() for row in rows for image in row["images"])

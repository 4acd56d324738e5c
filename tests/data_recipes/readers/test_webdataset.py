"""Tar shards of webdataset: samples as documents; what is missing, broken or damaged costs its sample alone and is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from core.rows import check_document, read_rows
from data_recipes.config import Recipe
from data_recipes.readers.webdataset import WebDatasetOptions, convert, read
from data_recipes.records import Rejected, SourceError
from data_recipes.runner import run_recipe


def picture(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (56, 56), (colour, 30, 30)).save(out, "PNG")
    return out.getvalue()


def shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


GOOD = {
    "a/000.png": picture(1),
    "a/000.txt": b"A dark tile.",
    "a/000.json": json.dumps({"url": "https://example.org/0", "long": "Quite a dark tile."}).encode(),
    "a/001.png": picture(200),
    "a/001.txt": "Ein rotes Plättchen.".encode(),
}


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_samples_become_documents(tmp_path, name):
    records = list(read(shard(tmp_path / name, GOOD), WebDatasetOptions()))
    assert [record.at for record in records] == ["a/000", "a/001"]
    first, second = (row for record in records for row in convert(record, WebDatasetOptions()))
    assert first["document"] == [{"type": "image"}, {"type": "text", "text": "\nA dark tile."}]
    assert first["images"] == [{"bytes": GOOD["a/000.png"]}] and first["url"] == "https://example.org/0"
    assert second["document"][1]["text"] == "\nEin rotes Plättchen."
    assert check_document(first, tmp_path)["id"] == "a/000"


def test_the_text_may_be_a_field(tmp_path):
    record = next(iter(read(shard(tmp_path / "x.tar", GOOD), WebDatasetOptions())))
    (row,) = convert(record, WebDatasetOptions(caption="long"))
    assert row["document"][1]["text"] == "\nQuite a dark tile."
    with pytest.raises(Rejected, match="field 'short' of .json: expected a text, got null"):
        convert(record, WebDatasetOptions(caption="short"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"0.txt": b"a"}, "expected one of the files .jpg"),
        ({"0.png": b"x", "0.jpg": b"y", "0.txt": b"a"}, "got 2"),
        ({"0.png": b"", "0.txt": b"a"}, "the image: expected 1 byte"),
        ({"0.png": b"x"}, "file .txt: expected a text, got null"),
        ({"0.png": b"x", "0.txt": b" "}, "file .txt: expected a text"),
        ({"0.png": b"x", "0.txt": b"\xff"}, "file .txt: expected UTF-8"),
        ({"0.png": b"x", "0.txt": b"a", "0.json": b"{"}, "file .json: expected an object, got no valid JSON"),
        ({"0.png": b"x", "0.txt": b"a", "0.json": b"[1]"}, "file .json: expected an object"),
    ],
)
def test_a_broken_sample_says_what_is_wrong(tmp_path, files, expected):
    (record,) = read(shard(tmp_path / "x.tar", files), WebDatasetOptions())
    with pytest.raises(Rejected, match=expected):
        convert(record, WebDatasetOptions())


def test_a_damaged_shard_costs_its_rest_alone(tmp_path):
    shard(tmp_path / "a.tar", GOOD)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: whole.index(b"a/001.png") + 600])
    shard(tmp_path / "b.tar", {"9.png": picture(3), "9.txt": b"Another."})
    records = list(read(tmp_path, WebDatasetOptions()))
    assert [bool(record.problem) for record in records] == [False, True, False]
    assert "expected a readable tar file" in str(records[1].problem)
    with pytest.raises(SourceError, match="expected a .tar file, or a folder of them"):
        list(read(tmp_path / "nothing", WebDatasetOptions()))


def test_a_recipe_puts_the_images_beside_its_rows(tmp_path):
    files = GOOD | {"b/002.png": b"no picture", "b/002.txt": b"Broken."}
    path = shard(tmp_path / "x.tar", files)
    recipe = {"name": "pairs", "sources": [{"name": "w", "format": "webdataset", "path": str(path)}],
              "output_dir": str(tmp_path / "out"), "tasks": 1, "workers": 1}  # fmt: skip
    run_recipe(Recipe.model_validate(recipe), say=lambda line: None)
    rows = read_rows(tmp_path / "out", check=check_document)
    assert sorted(Image.open(row["images"][0]).getpixel((0, 0))[0] for row in rows) == [1, 200]
    (rejected,) = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert "images[0]" in json.loads(rejected)["reason"]

"""A row may name media under its source's own folders alone, unless the recipe names another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from core.rows import read_rows
from data_recipes.config import Recipe
from data_recipes.runner import RecipeError, run_recipe


@pytest.fixture
def private(tmp_path) -> Path:
    """A picture that is none of the set's business."""
    (tmp_path / "home").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "home" / "private.png")
    return tmp_path / "home" / "private.png"


def run(tmp_path: Path, image: str, kind: str = "sharegpt", **source) -> list[dict]:
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(folder / "own.png")
    turns = [{"from": "human", "value": "<image>Name it."}, {"from": "gpt", "value": "A cat."}]
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1 + 1?"}]}
    rows = [
        {"id": "a", "task": "math", "prompt": [message], "answer": {"value": "2"}},
        {"conversations": turns},
    ]
    row = rows[0] if kind == "rows" else rows[1]
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(row | {"images": [i], "id": i}) + "\n" for i in ("own.png", image))
    )
    sources = [{"name": "s", "format": kind, "path": str(folder / "rows.jsonl"), **source}]
    values = {
        "name": "t",
        "sources": sources,
        "output_dir": str(tmp_path / "out"),
        "output": {"media": "copy"},
        "tasks": 1,
    }
    run_recipe(Recipe.model_validate(values | {"workers": 1}), say=lambda line: None)
    return read_rows(tmp_path / "out")


@pytest.mark.parametrize("kind", ["sharegpt", "rows"])
@pytest.mark.parametrize("way", ["absolute", "relative", "link", "file"])
def test_a_file_elsewhere_is_not_taken(private, tmp_path, kind, way):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link.png").symlink_to(private)
    path = {
        "absolute": str(private),
        "relative": "../home/private.png",
        "link": "link.png",
        "file": f"file://{private}",
    }[way]
    assert len(run(tmp_path, path, kind)) == 1
    (rejected,) = [
        json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    ]
    assert rejected["origin"].endswith("rows.jsonl:2")
    if (way, kind) != ("file", "rows"):  # rows hold paths, no addresses
        assert "expected a file under" in rejected["reason"] and "option `root`" in rejected["reason"]
    assert len(list((tmp_path / "out" / "media").rglob("*.png"))) == 1


def test_a_named_root_or_media_folder_is_allowed(private, tmp_path):
    assert len(run(tmp_path, str(private), root=str(private.parent))) == 2
    # own.png is then relative to that folder and does not exist
    assert len(run(tmp_path, str(private), options={"media": "/"})) == 1
    assert len(run(tmp_path, str(private), root="/")) == 2


def test_a_folder_whose_name_begins_alike_is_another(private, tmp_path):
    (tmp_path / "set-2").mkdir()
    private.rename(tmp_path / "set-2" / "a.png")
    assert len(run(tmp_path, "../set-2/a.png")) == 1


def test_links_of_a_hubs_cache_stay_in_its_entry(tmp_path):
    entry = tmp_path / "datasets--a--b"
    snapshot = entry / "snapshots" / "123"
    snapshot.mkdir(parents=True)
    (entry / "blobs").mkdir()
    Image.new("RGB", (30, 20)).save(entry / "blobs" / "picture.png")
    (snapshot / "a.png").symlink_to("../../blobs/picture.png")
    turns = [{"from": "human", "value": "<image>Name it."}, {"from": "gpt", "value": "A cat."}]
    (snapshot / "rows.jsonl").write_text(json.dumps({"conversations": turns, "images": ["a.png"]}) + "\n")
    sources = [{"name": "s", "format": "sharegpt", "path": str(snapshot / "rows.jsonl")}]
    values = {"name": "t", "sources": sources, "output_dir": str(tmp_path / "out"), "tasks": 1, "workers": 1}
    run_recipe(Recipe.model_validate(values), say=lambda line: None)
    assert len(read_rows(tmp_path / "out")) == 1


def test_nothing_left_says_why(private, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    row = {
        "id": "a",
        "task": "math",
        "prompt": [{"role": "user", "content": [{"type": "image"}]}],
        "images": [str(private)],
    }
    (folder / "rows.jsonl").write_text(json.dumps(row | {"answer": {"value": "2"}}) + "\n")
    sources = [{"name": "s", "format": "rows", "path": str(folder / "rows.jsonl")}]
    values = {"name": "t", "sources": sources, "output_dir": str(tmp_path / "out"), "tasks": 1, "workers": 1}
    with pytest.raises(RecipeError, match="no row is left"):
        run_recipe(Recipe.model_validate(values | {"strict": False}), say=lambda line: None)

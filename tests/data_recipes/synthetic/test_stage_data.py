"""The shapes world as data of the training stages: documents with their pictures, held out by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.rows import check_document, read_rows
from data_recipes.synthetic.shapes.stages import KINDS, LONG, write_stages


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_stages(folder, rows=12, held_out=6, seed=3)
    return folder


def rows(world: Path, name: str) -> list[dict[str, Any]]:
    return read_rows(world / f"{name}.jsonl", check=check_document)


def pictures(world: Path, name: str) -> set[bytes]:
    return {Image.open(path).tobytes() for row in rows(world, name) for path in row["images"]}


def test_every_kind_has_its_rows(world):
    for kind in KINDS:
        assert [len(rows(world, name)) for name in (kind, f"held_out_{kind}")] == [12, 6]
    assert all(len(row["images"]) == LONG for row in rows(world, "long"))
    assert all(2 <= len(row["images"]) <= 3 for row in rows(world, "interleaved"))
    assert all(row["trace"] and row["answer"] for row in rows(world, "instruction"))
    assert not any(row["images"] for row in rows(world, "text"))


def test_no_held_out_picture_is_in_a_training_row(world):
    held_out = set().union(*(pictures(world, f"held_out_{kind}") for kind in KINDS))
    trained = set().union(*(pictures(world, kind) for kind in KINDS))
    assert held_out and trained and not held_out & trained


def test_the_same_arguments_write_the_same_bytes(world, tmp_path):
    write_stages(tmp_path, rows=12, held_out=6, seed=3)
    for file in sorted(world.rglob("*")):
        if file.is_file():
            assert (tmp_path / file.relative_to(world)).read_bytes() == file.read_bytes(), file

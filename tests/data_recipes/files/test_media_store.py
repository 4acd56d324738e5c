"""Media that come as bytes, or that travel with the output, become files named by their content."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from data_recipes.files.media_store import copy_media, store_bytes


def encoded(kind: str, colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp"), ("gif", "gif"), ("bmp", "bmp")]
)
def test_bytes_become_a_file_with_the_suffix_of_their_kind(tmp_path, kind, suffix):
    content = encoded(kind)
    row = store_bytes({"images": [content, {"bytes": content, "path": None}]}, tmp_path)
    assert row["images"][0] == row["images"][1]  # the same content is one file
    path = Path(row["images"][0])
    assert path.suffix == f".{suffix}" and path.read_bytes() == content


def test_other_fields_of_a_medium_stay(tmp_path):
    (video,) = store_bytes(
        {"videos": [{"bytes": b"\0\0\0\x18ftypisom", "start": 1.0, "end": None}]}, tmp_path
    )["videos"]
    assert video["start"] == 1.0 and video["path"].endswith(".mp4") and "end" not in video


def test_paths_stay_paths(tmp_path):
    row = {"images": ["a.png", {"path": "b.png", "bytes": None}], "videos": [{"path": "c.mp4", "start": 2.0}]}
    stored = store_bytes(row, tmp_path)
    assert stored == {"images": ["a.png", "b.png"], "videos": [{"path": "c.mp4", "start": 2.0}]}


def test_copies_are_named_by_content_and_made_once(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(encoded("png"))
    (tmp_path / "c.png").write_bytes(encoded("png", "blue"))
    row = {"images": [str(tmp_path / f"{name}.png") for name in "abc"]}
    copied = copy_media(row, tmp_path / "media", {})["images"]
    assert copied[0] == copied[1] != copied[2]
    assert len(list((tmp_path / "media").rglob("*.png"))) == 2


def test_threads_may_store_the_same_bytes_at_the_same_time(tmp_path):
    """As the teacher's dialogues do, several of which may show one picture."""
    with ThreadPoolExecutor(16) as threads:
        for number in range(20):
            row = {"images": [{"bytes": bytes([number]) * 2_000_000}]}
            stored = list(threads.map(lambda _, row=row: store_bytes(row, tmp_path)["images"], range(16)))
            assert all(path == stored[0] for path in stored)
            assert Path(stored[0][0]).read_bytes() == row["images"][0]["bytes"]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 20

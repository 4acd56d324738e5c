"""Clicks on screenshots: the published annotations (without images), and real sessions with theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from data_recipes.readers import FORMATS
from rewards.functions.pointing import point_in_box_reward


@pytest.fixture
def screen(tmp_path):
    """A folder with one 200 x 100 screenshot; call it with records."""
    Image.new("RGB", (200, 100)).save(tmp_path / "pc.png")

    def write(*records):
        path = tmp_path / "screenspot_desktop.json"
        path.write_text(json.dumps(list(records)))
        return path

    return write


SPOT = {
    "img_filename": "pc.png",
    "bbox": [150, 40, 44, 34],
    "instruction": "close",
    "data_type": "icon",
    "data_source": "windows",
}
PRO = {
    "id": "word_windows_0",
    "img_filename": "pc.png",
    "img_size": [200, 100],
    "bbox": [150, 40, 194, 74],
    "instruction": "close",
    "application": "word",
    "platform": "windows",
    "ui_type": "icon",
}


def test_screenspot_and_pro_write_the_same_box_differently(read_file, screen):
    (spot,) = read_file("screenspot", screen(SPOT)).valid
    (pro,) = read_file("screenspot_pro", screen(PRO)).valid
    assert spot["answer"] == pro["answer"] == {"box": [150, 40, 194, 74], "frame": "pixel"}
    assert (spot["data_type"], pro["application"], pro["image_size"]) == ("icon", "word", [200, 100])
    assert point_in_box_reward("(160, 50)", **spot) == 1.0
    assert "close\nAnswer with the point as (x, y) in pixels." in spot["prompt"][0]["content"][1]["text"]
    wrong = read_file("screenspot", screen(PRO)).invalid  # xyxy taken for xywh
    assert "expected boxes inside the image of 200 x 100" in wrong[0]


def test_every_published_screenspot_box_is_read(read_file, shared_data):
    path = shared_data / "gui_points" / "screenspot_re_gpt-4o.jsonl"
    read = read_file("screenspot", path, validate=False, media=Path("/screens"))
    assert (len(read.rows), read.rejected) == (618, [])
    first = json.loads(path.open().readline())
    x, y, width, height = first["bbox"]
    assert read.rows[0]["answer"]["box"] == [x, y, x + width, y + height]
    assert read.rows[0]["images"] == [f"/screens/{first['image']}"]
    assert FORMATS["screenspot"].looks_like(path, first)
    assert not FORMATS["screenspot_pro"].looks_like(path, first)


def test_published_pro_verdicts_are_reproduced_from_the_rows(read_file, shared_data):
    path = shared_data / "gui_points" / "logs_sspro_omniv2.jsonl"
    read = read_file("screenspot_pro", path, validate=False)
    assert (len(read.rows), read.rejected) == (790, [])
    with path.open() as file:
        logs = [json.loads(line) for line in file]
    for log, row in zip(logs, read.rows, strict=True):
        said = str(tuple(log["pred"])) if log["pred"] else ""
        assert point_in_box_reward(said, **row) == (log["correctness"] == "correct")
    assert FORMATS["screenspot_pro"].looks_like(path, logs[0])


def test_several_boxes_of_one_element(read_file, shared_data):
    path = shared_data / "gui_points" / "mind2web_cross_task_query_gpt-4o.head150.jsonl"
    read = read_file("screenspot", path, validate=False, text="description")
    assert len(read.rows) == 150
    assert sorted({len(row["answer"]["boxes"]) for row in read.rows}) == [1, 2, 3]


def test_hub_copies_with_fractions_and_bytes(read_file, screen, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = {
        **SPOT,
        "bbox": [0.75, 0.4, 0.97, 0.74],
        "image": {"bytes": (tmp_path / "pc.png").read_bytes(), "path": "pc.png"},
    }
    del record["img_filename"]
    screen()
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "test-0.parquet")
    (row,) = read_file("screenspot", tmp_path / "test-0.parquet", boxes="norm1").valid
    assert row["answer"] == {"box": [0.75, 0.4, 0.97, 0.74], "frame": "norm1"}
    assert point_in_box_reward("(160, 50)", **row) == 1.0


@pytest.mark.parametrize(
    ("name", "record", "reason"),
    [
        (
            "screenspot",
            SPOT | {"bbox": [1, 2, 0, 4]},
            "field 'bbox': expected [x, y, width, height] with a positive size",
        ),
        ("screenspot", SPOT | {"bbox": "1 2 3 4"}, "field 'bbox': expected four numbers"),
        ("screenspot", SPOT | {"instruction": "  "}, "field 'instruction': expected what to point at"),
        (
            "screenspot",
            {**SPOT, "img_filename": None},
            "field 'img_filename': expected the screenshot's path",
        ),
        ("screenspot_pro", PRO | {"gt_type": "negative"}, "field 'gt_type': expected positive"),
        (
            "screenspot_pro",
            PRO | {"img_size": [100, 200]},
            "field 'image_size': expected the file's [200, 100]",
        ),
    ],
)
def test_what_is_wrong_is_named(read_file, screen, name, record, reason):
    read = read_file(name, screen(record))
    assert not read.valid
    assert reason in (read.rejected + read.invalid)[0]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_screenagent_steps_with_one_click_become_rows(read_file, shared_data, language):
    folder = shared_data / "screenagent"
    read = read_file("screenagent", folder, language=language, radius=10)
    assert (read.records, len(read.valid), len(read.invalid), len(read.rejected)) == (54, 36, 0, 18)
    assert sum("got click, click" in reason for reason in read.rejected) == 1
    with (folder / "clicks.jsonl").open() as file:
        derived = {entry["image"]: entry for entry in map(json.loads, file)}
    for row in read.valid:
        entry = derived[str(Path(row["images"][0]).relative_to(folder))]
        (click,) = entry["clicks"]
        assert (row["point"], row["action"]) == ([click["x"], click["y"]], click["type"])
        assert point_in_box_reward(f"({click['x']}, {click['y']})", **row) == 1.0
        text = row["prompt"][0]["content"][1]["text"]
        if language == "en":
            assert f"The task is: {entry['task'].strip()}\nThe current step is: {entry['subtask']}\n" in text
        else:
            assert any("一" <= character <= "鿿" for character in text)


def test_the_square_around_a_click_ends_at_the_screens_border(read_file, shared_data):
    rows = {
        tuple(row["point"]): row
        for row in read_file("screenagent", shared_data / "screenagent", radius=20).valid
    }
    assert rows[10, 750]["answer"] == {"box": [0, 730, 30, 768], "frame": "pixel"}


def test_screenagent_folders_are_recognised(shared_data):
    looks_like = FORMATS["screenagent"].looks_like
    assert looks_like(shared_data / "screenagent", None)
    assert not looks_like(shared_data / "bccd", None)

"""AndroidControl's TFRecord files and OS-Atlas's lists: rows whose truths are the published ones."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pytest

from data_recipes.readers import FORMATS
from data_recipes.readers.tfrecord import example
from data_recipes.records import Record, Rejected
from rewards.functions.actions import action_reward
from rewards.functions.grounding import giou_reward
from rewards.functions.pointing import point_in_box_reward


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def feature(values: list, packed: bool = True) -> bytes:
    if isinstance(values[0], int):
        numbers = field(1, b"".join(map(varint, values))) if packed else b"".join(field(1, v) for v in values)
        return field(3, numbers)
    return field(1, b"".join(field(1, v if isinstance(v, bytes) else v.encode()) for v in values))


def tf_example(features: dict[str, list], packed: bool = True) -> bytes:
    entries = (field(1, k.encode()) + field(2, feature(v, packed)) for k, v in features.items())
    return field(1, b"".join(field(1, entry) for entry in entries))


def forest(*nodes: tuple[list[int], bool]) -> bytes:
    def node(box: list[int], visible: bool) -> bytes:
        rect = b"".join(field(i, v) for i, v in enumerate(box, 1) if v)
        return field(1, 3) + field(2, rect) + (field(23, 1) if visible else b"")

    return field(1, field(11, b"".join(field(1, node(*n)) for n in nodes)))


ACTIONS = [
    {"action_type": "open_app", "app_name": "Clock"},
    {"action_type": "click", "x": 50, "y": 60},
    {"action_type": "click", "x": 900, "y": 1900},
    {"action_type": "input_text", "text": "7:30"},
    {"action_type": "scroll", "direction": "down"},
    {"action_type": "navigate_back"},
    {"action_type": "wait"},
    {"action_type": "long_press", "x": 50, "y": 60},
    {"action_type": "click", "x": 5000, "y": 60},
]
TREE = forest(([0, 0, 1080, 2400], False), ([-20, 40, 500, 100], True), ([40, 50, 80, 90], True), ([45, 55, 60, 70], False))  # fmt: skip
EPISODE = {
    "episode_id": [7],
    "goal": ["Set an alarm for 7:30."],
    "screenshots": [b"png%d" % i for i in range(10)],
    "accessibility_trees": [TREE] * 10,
    "screenshot_widths": [1080] * 10,
    "screenshot_heights": [2400] * 10,
    "actions": [json.dumps(action) for action in ACTIONS],
    "step_instructions": [f"step {i}" for i in range(9)],
}


def write(path: Path, *episodes: bytes, packed: bool = True) -> Path:
    content = b"".join(struct.pack("<QI", len(e), 0) + e + b"\0\0\0\0" for e in episodes)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def rows(path: Path, **options) -> list:
    world = FORMATS["android_control"]
    typed = world.options(**options)
    return [row for record in world.read(path, typed) for row in world.rows(record, typed)]


RIGHT = [
    {"action": "open", "app": "clock"},
    {"action": "click", "start_point": [79, 89]},
    {"action": "click", "start_point": [800, 1700]},
    {"action": "input", "text": "7:30"},
    {"action": "scroll", "direction": "down"},
    {"action": "press", "keys": ["back"]},
    {"action": "wait"},
    {"action": "longpress", "start_point": [41, 51]},
]


@pytest.mark.parametrize("packed", [True, False])
def test_each_step_of_an_episode_is_an_action(tmp_path, packed):
    made = rows(
        write(tmp_path / "android_control-00000-of-00020", tf_example(EPISODE, packed), packed=packed)
    )
    *steps, refused, last = made
    for i, (row, right) in enumerate(zip(steps, RIGHT, strict=True)):
        assert action_reward(json.dumps(right), **row) == 1.0, i
        assert row["images"] == [{"bytes": b"png%d" % i}] and row["image_size"] == [1080, 2400]
    assert isinstance(refused, Rejected) and "a point on the screen of 1080 x 2400" in str(refused)
    assert action_reward('{"action": "finished", "status": "success"}', **last) == 1.0
    outside = json.dumps({"action": "click", "start_point": [81, 89]})  # in the larger node alone
    assert action_reward(outside, **steps[1]) == 0.0
    text = steps[1]["prompt"][0]["content"][1]["text"]
    assert "Set an alarm for 7:30." in text and "step 0" in text and "step 1" not in text


def test_low_level_rows_ask_for_the_step_alone(tmp_path):
    made = rows(write(tmp_path / "android_control-00000-of-00020", tf_example(EPISODE)), level="low")
    text = made[1]["prompt"][0]["content"][1]["text"]
    assert len(made) == 9 and "step 1" in text and "step 0" not in text and "alarm" not in text


def test_files_of_a_folder_follow_each_other_and_damage_costs_the_rest_of_its_file(tmp_path):
    whole = tf_example(EPISODE)
    write(tmp_path / "android_control-00000-of-00002", whole, b"\xff\xff\xff", whole)
    cut = write(tmp_path / "android_control-00001-of-00002", whole, whole, packed=False)
    cut.write_bytes(cut.read_bytes()[:-30])
    made = rows(tmp_path)
    good = [row for row in made if isinstance(row, dict)]
    problems = [str(row) for row in made if isinstance(row, Rejected) and "point" not in str(row)]
    assert len(good) == 9 * 3 and len({row["id"] for row in good}) == len(good)
    assert (
        len(problems) == 2 and "tf.train.Example" in problems[0] and "readable TFRecord file" in problems[1]
    )


@pytest.mark.parametrize("content", [b"\x08", b"\x0a\x05ab", b"\xff" * 20, b"\x0b"])
def test_messages_that_are_none_are_refused(content):
    with pytest.raises(ValueError, match="field|number"):
        example(content)


def test_os_atlas_elements_are_points_and_boxes(tmp_path):
    world = FORMATS["os_atlas"]
    options = world.options(rows=["pointing", "grounding"])
    several = {
        "img_filename": "a.png",
        "elements": [
            {"instruction": "Save the file", "bbox": [0.1, 0.2, 0.3, 0.4], "data_type": "button"},
            {"instruction": "", "bbox": [0.1, 0.2, 0.3, 0.4]},
            {"instruction": "Away", "bbox": [0.1, 0.2, 30, 0.4]},
            {"instruction": "At the edge", "bbox": [0.9, 0.9, 1.0004, 1.0]},
        ],
    }
    made = list(world.rows(Record(several, tmp_path / "web.json", 3), options))
    point, box, empty, pixels, edge, _ = made
    size = {"image_size": [1000, 500]}
    assert point_in_box_reward("(200, 150)", **point | size) == 1.0
    assert point_in_box_reward("(200, 250)", **point | size) == 0.0
    assert giou_reward("[100, 100, 300, 200]", **box | size) == pytest.approx(1.0)
    assert "elements[1].instruction" in str(empty) and "fractions of the image" in str(pixels)
    assert edge["answer"]["box"] == [0.9, 0.9, 1.0, 1.0] and point["data_type"] == "button"
    (alone,) = world.rows(
        Record({"img_filename": "b.png", **several["elements"][0]}, tmp_path / "web.json", 4), world.options()
    )
    assert alone["task"] == "pointing" and alone["images"] == [str(tmp_path / "b.png")]

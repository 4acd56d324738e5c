"""Conversations answered by boxes in JSON."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from pydantic import ValidationError

from data_recipes.readers import FORMATS, boxes_json
from rewards.functions.grounding import box_set_reward, giou_reward

QWEN = {
    "image": "a.png",
    "conversations": [
        {
            "from": "human",
            "value": "<image>\nLocate house in this image and output the bbox coordinates in JSON format.",
        },
        {"from": "gpt", "value": '{\n"bbox_2d": [135, 114, 1016, 672]\n}'},
    ],
}
CELLS = '```json\n[{"bbox_2d": [12, 30, 80, 95], "label": "cell"}, {"bbox_2d": [200, 30, 280.5, 95], "label": "cell"}]\n```'


@pytest.fixture
def write(tmp_path):
    Image.new("RGB", (1024, 681)).save(tmp_path / "a.png")

    def one(record):
        path = tmp_path / "boxes.jsonl"
        path.write_text(json.dumps(record))
        return path

    return one


def messages(answer, question="<image>Find all cells."):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": "c1", "images": ["a.png"], "messages": turns}


def test_qwens_own_example(read_file, write):
    (row,) = read_file("boxes_json", write(QWEN), frame="resized").valid
    assert (row["task"], row["answer"]) == (
        "grounding",
        {"boxes": [[135, 114, 1016, 672]], "frame": "resized"},
    )
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["image", "text"]
    assert row["trace"] == [{"role": "assistant", "content": QWEN["conversations"][1]["value"]}]
    assert (
        giou_reward(row["trace"][0]["content"], **{k: v for k, v in row.items() if k != "completion"}) == 1.0
    )


def test_an_image_without_placeholder_goes_to_the_question(read_file, write):
    record = messages("[1, 2, 30, 40]", question="Find the cell.")
    record["messages"].insert(0, {"role": "system", "content": "You see cells."})
    (row,) = read_file("boxes_json", write(record), frame="pixel").valid
    assert row["prompt"][0] == {"role": "system", "content": "You see cells."}
    assert [part["type"] for part in row["prompt"][1]["content"]] == ["image", "text"]


def test_fenced_lists_are_sets_of_boxes_whose_own_text_scores_one(read_file, write):
    (row,) = read_file("boxes_json", write(messages(CELLS)), frame="pixel", trace=True).valid
    assert row["task"] == "detection"
    assert row["labels"] == ["cell", "cell"]
    assert box_set_reward(row["trace"][0]["content"], **row) == 1.0
    assert read_file("boxes_json", write(messages("[]")), frame="pixel").valid[0]["answer"]["boxes"] == []
    assert (
        read_file("boxes_json", write(messages("[1, 2, 30, 40]")), frame="pixel", trace=False).valid[0][
            "trace"
        ]
        is None
    )


@pytest.mark.parametrize(
    ("frame", "box", "inside"),
    [
        ("pixel", [0, 0, 1024, 681], True),
        ("pixel", [0, 0, 1025, 681], False),
        ("resized", [0, 0, 1036, 672], True),
        ("resized", [0, 0, 1024, 681], False),
        ("norm1000", [0, 0, 1000, 1000], True),
        ("norm1000", [0, 0, 1016, 672], False),
        ("norm1", [0, 0, 1, 1], True),
        ("norm1", [0, 0, 12, 12], False),
    ],
)
def test_boxes_are_held_against_the_declared_frame(read_file, write, frame, box, inside):
    read = read_file("boxes_json", write(messages(json.dumps({"bbox_2d": box}))), frame=frame)
    assert len(read.valid) == inside
    if not inside:
        assert f"(frame {frame})" in read.invalid[0]


def test_limits_of_the_resized_frame_come_from_the_options(read_file, write):
    path = write(messages(json.dumps({"bbox_2d": [0, 0, 448, 280]})))
    assert (
        read_file("boxes_json", path, frame="resized", max_pixels=448 * 308).valid[0]["max_pixels"]
        == 448 * 308
    )
    path = write(messages(json.dumps({"bbox_2d": [0, 0, 1036, 672]})))
    assert (
        "got [0.0, 0.0, 1036.0, 672.0]"
        in read_file("boxes_json", path, frame="resized", max_pixels=448 * 308).invalid[0]
    )


def test_the_frame_must_be_said():
    with pytest.raises(ValidationError, match="frame"):
        FORMATS["boxes_json"].options()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (messages("The house is at [1, 2, 3, 4]."), "expected boxes in JSON and nothing else"),
        (messages('[{"bbox_2d": [1, 2, 3]}]'), "field 'answer[0].bbox_2d': expected four numbers"),
        (messages('[{"point_2d": [1, 2]}]'), "field 'answer[0].bbox': expected four numbers, got null"),
        (messages('[{"bbox_2d": [30, 2, 3, 40]}]'), "with x1 < x2 and y1 < y2"),
        (messages('["house"]'), "field 'answer[0]': expected an object with bbox_2d"),
        (messages(CELLS) | {"images": []}, "field 'images': expected one image"),
        (messages(CELLS) | {"messages": []}, "expected one question and one answer, got []"),
        (messages(CELLS, question=None), "expected text or content parts"),
        ([1, 2], "expected a JSON object"),
    ],
)
def test_what_is_wrong_is_named(read_file, write, record, reason):
    read = read_file("boxes_json", write(record), frame="pixel")
    assert not read.rows
    assert reason in read.rejected[0]


def test_other_conversations_are_not_taken_for_boxes(tmp_path):
    assert boxes_json.looks_like(tmp_path, QWEN)
    assert not boxes_json.looks_like(tmp_path, messages("There are three cells."))
    assert not boxes_json.looks_like(tmp_path, {"image": "a.png"})

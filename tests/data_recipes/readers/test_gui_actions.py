"""GUI-R1 and Multimodal-Mind2Web: the next action as rows that the action rewards judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_recipes.readers import FORMATS
from data_recipes.readers.gui_actions import ActionOptions, GUIR1Options, gui_r1, mind2web
from data_recipes.records import Record, Rejected
from rewards.functions.actions import action_reward

STEP = {
    "image": {"bytes": b"png", "path": None},
    "instruction": "Open the settings.",
    "history": "step 1: unlock",
    "gt_action": "click",
    "gt_bbox": [0.1, 0.2, 0.3, 0.4],
    "gt_input_text": "no input text",
    "task_type": "high",
}
ELEMENT = {"tag": "input", "attributes": json.dumps({"bounding_box_rect": "110,607.5,264,78"})}
PAGE = {
    "screenshot": {"bytes": b"png"},
    "confirmed_task": "Find a flight to Oslo.",
    "operation": json.dumps({"original_op": "CLICK", "value": "", "op": "CLICK"}),
    "pos_candidates": [json.dumps(ELEMENT)],
    "action_reprs": ["[link] Flights -> CLICK", "[input] To -> CLICK"],
    "target_action_index": "1",
    "website": "air",
}


def of_gui_r1(**options: Any) -> Any:
    def made(changes: dict) -> dict:
        (row,) = gui_r1(Record(STEP | changes, Path("/d/train.parquet"), 3), GUIR1Options(**options))
        return row

    return made


def of_mind2web(changes: dict) -> dict:
    (row,) = mind2web(Record(PAGE | changes, Path("/d/train.parquet"), 3), ActionOptions())
    return row


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, {"action": "click", "start_point": [200, 300]}),
        ({"gt_bbox": [0.2, 0.3]}, {"action": "click", "start_point": [250, 350]}),
        ({"gt_action": "type", "gt_input_text": "Oslo"}, {"action": "input", "text": "Oslo"}),
        ({"gt_action": "select", "gt_input_text": "Large"}, {"action": "select", "text": "Large"}),
        ({"gt_action": "scroll", "gt_input_text": "DOWN"}, {"action": "scroll", "direction": "down"}),
        ({"gt_action": "complete"}, {"action": "finished", "status": "success"}),
        ({"gt_action": "press_back"}, {"action": "press", "keys": ["back"]}),
    ],
)
def test_actions_of_gui_r1_are_judged_in_pixels(changes, right):
    row = of_gui_r1()(changes)
    assert row["task"] == "action" and row["images"] == [{"bytes": b"png"}]
    action_reward.check_gold(row["answer"], {"image_size": [1000, 1000], "frame_out": "pixel"})
    score = action_reward(
        json.dumps(right), row["answer"], frame_out=row["frame_out"], image_size=[1000, 1000]
    )
    assert score == 1.0
    wrong = '{"action": "click", "start_point": [999, 1]}'
    assert action_reward(wrong, row["answer"], frame_out="pixel", image_size=[1000, 1000]) == 0.0


def test_task_and_history_are_asked():
    (message,) = of_gui_r1()({})["prompt"]
    assert "The task is: Open the settings.\nDone so far: step 1: unlock\n" in message["content"][1]["text"]
    (message,) = of_mind2web({})["prompt"]
    assert "Done so far: [link] Flights -> CLICK\n" in message["content"][1]["text"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gt_action": "close/delete"}, "field 'gt_action': expected click"),
        ({"gt_action": "type"}, "field 'gt_input_text': expected the text of type"),
        ({"gt_bbox": [100, 200, 300, 400]}, "in fractions of the screen"),
        ({"gt_bbox": [0.3, 0.2, 0.1, 0.4]}, "field 'gt_bbox'"),
        ({"gt_bbox": [0.3]}, "field 'gt_bbox': expected four numbers"),
        ({"instruction": " "}, "field 'instruction': expected what is to be done"),
        ({"image": None}, "field 'image': expected the screenshot"),
    ],
)
def test_a_step_that_cannot_be_judged_says_why(changes, expected):
    with pytest.raises(Rejected, match=expected):
        of_gui_r1()(changes)


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ({"op": "CLICK", "value": ""}, {"action": "click", "start_box": [110, 607.5, 374, 685.5], "frame": "pixel"}),
        ({"op": "CLICK", "original_op": "HOVER"}, {"action": "hover", "start_box": [110, 607.5, 374, 685.5], "frame": "pixel"}),
        ({"op": "TYPE", "value": "Oslo"}, {"action": "input", "text": "Oslo", "start_box": [110, 607.5, 374, 685.5], "frame": "pixel"}),
        ({"op": "SELECT", "value": "Two"}, {"action": "select", "text": "Two"}),
    ],
)  # fmt: skip
def test_operations_of_mind2web_become_actions(operation, answer):
    row = of_mind2web({"operation": json.dumps(operation)})
    assert row["answer"] == answer
    action_reward.check_gold(answer, {})
    assert row["website"] == "air"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pos_candidates": []}, "expected an element with bounding_box_rect, got none"),
        ({"pos_candidates": ["{"]}, "field 'pos_candidates.0.': expected JSON of an object"),
        (
            {"pos_candidates": [json.dumps({"attributes": '{"bounding_box_rect": "1,2"}'})]},
            "expected four numbers",
        ),
        ({"operation": "[]"}, "field 'operation': expected an object"),
        ({"operation": '{"op": "FLY"}'}, "expected CLICK, TYPE or SELECT"),
        ({"operation": '{"op": "TYPE", "value": ""}'}, "operation.value': expected a text"),
    ],
)
def test_a_page_without_a_target_says_why(changes, expected):
    with pytest.raises(Rejected, match=expected):
        of_mind2web(changes)


def test_the_formats_are_told_from_their_first_record():
    for name, record in (("gui_r1", STEP), ("mind2web", PAGE)):
        assert [n for n, form in FORMATS.items() if form.looks_like(Path("x.parquet"), record)] == [name]

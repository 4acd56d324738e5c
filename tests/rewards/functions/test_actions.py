"""Actions on a screen: the forms that models write are read, nothing else is, and every field counts for itself."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from rewards.functions.actions import (
    action_direction_reward,
    action_keys_reward,
    action_point_reward,
    action_reward,
    action_text_reward,
    action_type_reward,
)
from rewards.reading.actions import ACTIONS, NoAction, action_of, normal_keys, read_action

BUTTON = {"action": "click", "start_box": [300, 40, 420, 90], "frame": "pixel"}
CLICK = '{"action": "click", "start_point": [350, 60]}'

READ = [
    CLICK,
    f"```json\n{CLICK}\n```",
    f"```\n{CLICK}\n```",
    f"<answer>{CLICK}</answer>",
    f"The save button is at the top. {CLICK}",
    f"{CLICK} opens the dialog.",
    f"Action: {CLICK}",
    f"{CLICK}\n{CLICK}",
    f"not {CLICK[:-1].replace('350', '10')}}} but {CLICK}",
    '{"start_point": [350, 60], "action": "click"}',
    '{"action": "Click", "start_point": [350.5, 60.0]}',
    '{"action": "click", "start_point": [350, 60], "text": null}',
    '{"action": "click", "start_point": [350, 60], "text": "Save {all}"}',
    f'Elements: {{"save": [300, 40]}}. {CLICK}',
    f"【 {CLICK} 】",
]
NOT_READ = [
    "", "click", "(350, 60)", "click(350, 60)", "{}", "[]", "null",
    '{"action": "click"}',
    '{"action": "tap", "start_point": [350, 60]}',
    '{"action": 3, "start_point": [350, 60]}',
    '{"action": ["click"], "start_point": [350, 60]}',
    '{"action": "click", "start_point": [350]}',
    '{"action": "click", "start_point": [350, 60, 1]}',
    '{"action": "click", "start_point": ["350", "60"]}',
    '{"action": "click", "start_point": [true, 60]}',
    '{"action": "click", "start_point": [NaN, 60]}',
    '{"action": "click", "start_point": [350, Infinity]}',
    '{"action": "click", "start_point": [350, 1e999]}',
    '{"action": "click", "start_point": {"x": 350, "y": 60}}',
    '{"action": "click", "start_point": [350, 60], "start_point": [1, 1]}',
    '{"action": "click", "start_point": [350, 60], "end_point": [1, 1]}',
    '{"action": "click", "start_point": [350, 60], "text": 3}',
    '{"action": "click", "point": [350, 60]}',
    "{'action': 'click', 'start_point': [350, 60]}",
    '{"action": "click", "start_point": [350, 60]',
    f"{CLICK} or " + CLICK.replace("350", "10"),
    f"{CLICK} " + CLICK.replace("350", "10"),
    f"not {CLICK}", f"maybe {CLICK}", f"{CLICK}?", f"{CLICK} is wrong",
    f"[{CLICK}, " + CLICK.replace("350", "10") + "]",
    '{"action": ' * 5000, "{" * 20_000, '{"a":' * 4000 + CLICK,
]  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_the_one_action_in_a_text_is_read(text):
    assert action_reward(text, BUTTON) == 1.0


@pytest.mark.parametrize("text", NOT_READ)
def test_anything_else_is_no_action(text):
    assert read_action(text) is None
    assert action_reward(text, BUTTON) == 0.0
    assert action_type_reward(text, BUTTON) == 0.0


RIGHT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"action": "click", "start_box": [0, 0, 9, 9], "text": "OK"}, {"start_point": [3, 3], "text": "ok"}),
    ({"action": "longpress", "start_box": [0, 0, 9, 9]}, {"start_point": [0, 0]}),
    ({"action": "hover", "start_box": [0, 0, 9, 9]}, {"start_point": [8.9, 8.9]}),
    ({"action": "drag", "start_box": [0, 0, 9, 9], "end_box": [20, 20, 29, 29]}, {"start_point": [1, 1], "end_point": [21, 21]}),
    ({"action": "scroll", "direction": "down"}, {"direction": "Down", "scroll_distance": 300}),
    ({"action": "scroll", "direction": "left", "start_box": [0, 0, 9, 9]}, {"direction": "left", "start_point": [2, 2]}),
    ({"action": "input", "text": "Berlin"}, {"text": "Berlin", "start_point": [5, 5]}),
    ({"action": "select", "text": "Large"}, {"text": "large"}),
    ({"action": "press", "keys": ["ctrl", "c"]}, {"keys": "Control+C"}),
    ({"action": "open", "app": "Clock"}, {"app": "clock"}),
    ({"action": "appswitch", "app": "Mail"}, {"app": "Mail"}),
    ({"action": "finished", "status": "success"}, {"status": "success"}),
    ({"action": "wait"}, {}),
]  # fmt: skip


def written(name: str, fields: dict[str, Any]) -> str:
    return json.dumps({"action": name} | fields)


@pytest.mark.parametrize(("answer", "fields"), RIGHT)
def test_every_action_of_the_space_is_judged(answer, fields):
    assert action_reward(written(answer["action"], fields), answer) == 1.0
    action_reward.check_gold(answer, {})
    for name in ACTIONS:
        if name != answer["action"]:
            assert action_reward(written(name, fields), answer) == 0.0


def test_all_actions_are_among_the_cases():
    assert {answer["action"] for answer, _ in RIGHT} == set(ACTIONS)


def test_each_field_has_a_reward_of_its_own():
    answer = {"action": "drag", "start_box": [0, 0, 9, 9], "end_box": [20, 20, 29, 29]}
    half = written("drag", {"start_point": [1, 1], "end_point": [1, 1]})
    assert action_type_reward(half, answer) == 1.0
    assert action_point_reward(half, answer) == 0.5
    assert action_reward(half, answer) == 0.0
    typed = {"action": "input", "text": "Berlin", "start_box": [0, 0, 9, 9]}
    near = written("input", {"text": "Berlim", "start_point": [1, 1]})
    assert action_text_reward(near, typed) == pytest.approx(5 / 6) == action_reward(near, typed)
    assert action_point_reward(near, typed) == 1.0
    assert (
        action_point_reward(written("input", {"text": "Berlin"}), typed) == 0.0
    )  # no point where one is asked for
    assert (
        action_direction_reward(
            written("scroll", {"direction": "up"}), {"action": "scroll", "direction": "up"}
        )
        == 1.0
    )
    assert action_keys_reward(written("press", {"keys": ["c"]}), {"action": "press", "keys": "ctrl c"}) == 0.0


def test_a_field_that_the_truth_lacks_does_not_apply():
    wait = {"action": "wait"}
    for reward in (action_point_reward, action_text_reward, action_direction_reward, action_keys_reward):
        assert reward(written("wait", {}), wait) is None


def test_fields_of_the_wrong_action_are_worth_nothing():
    """A long press on the button is not half a click on it."""
    pressed = CLICK.replace("click", "longpress")
    assert action_point_reward(pressed, BUTTON) == 0.0 == action_reward(pressed, BUTTON)


@pytest.mark.parametrize(
    ("frame_out", "point"), [("norm1000", [437, 100]), ("norm1", [0.4375, 0.1]), ("pixel", [350, 60])]
)
def test_points_are_converted_from_the_frame_that_the_model_writes(frame_out, point):
    row = {"image_size": [800, 600]}
    text = written("click", {"start_point": point})
    assert action_reward(text, BUTTON, frame_out=frame_out, **row) == 1.0
    other = "pixel" if frame_out != "pixel" else "norm1000"
    assert action_reward(text, BUTTON, frame_out=other, **row) == 0.0


def test_a_box_is_half_open_as_for_pointing():
    for x, y in itertools.product([299.9, 420], [50]):
        assert action_reward(written("click", {"start_point": [x, y]}), BUTTON) == 0.0
    assert action_reward(written("click", {"start_point": [300, 40]}), BUTTON) == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({}, "expected a field 'action'"),
        ({"action": "tap"}, "answer.action: expected one of click"),
        ({"action": "wait", "text": "a"}, "answer.text: wait has no such field"),
        ({"action": "click", "end_box": [0, 0, 1, 1]}, "answer.end_box: click has no such field"),
        ({"action": "click", "start_box": [9, 0, 1, 1]}, "answer.start_box: expected .* x1 < x2"),
        ({"action": "click", "start_box": [0, 0, 1]}, "answer.start_box: expected 4 numbers"),
        ({"action": "click", "start_box": [0, 0, 1, 1], "frame": "metres"}, "frame"),
        ({"action": "input", "text": " "}, "answer.text: expected a text"),
        ({"action": "scroll", "direction": "sideways"}, "answer.direction: expected one of up"),
        ({"action": "press", "keys": []}, "answer.keys: expected names of keys"),
        ({"action": "press", "keys": 3}, "answer.keys: expected names of keys"),
    ],
)
def test_a_broken_truth_is_a_data_error(answer, expected):
    with pytest.raises(ValueError, match=expected):
        action_reward.check_gold(answer, {})


@pytest.mark.parametrize("keys", ["Ctrl+C", "ctrl c", ["Ctrl", "c"], ["C", "control"], "control + c"])
def test_keys_are_compared_as_sets_of_names(keys):
    assert normal_keys(keys) == {"ctrl", "c"}


@pytest.mark.parametrize("keys", ["", [], [""], [1], {"a": 1}, None, ["a"] * 99])
def test_what_names_no_keys_is_refused(keys):
    with pytest.raises(NoAction, match="keys: expected"):
        normal_keys(keys)


def test_a_wrong_field_is_named():
    with pytest.raises(NoAction, match="end_point: not a field of click, which has start_point, text"):
        action_of({"action": "click", "start_point": [1, 1], "end_point": [2, 2]})

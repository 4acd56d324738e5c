"""Points: the forms that models write are read, and nothing else is."""

from __future__ import annotations

import pytest

from rewards.functions.pointing import point_in_box_reward, read_points

BUTTON = {"box": [300, 40, 420, 90], "frame": "pixel"}

IN_THE_BUTTON = [
    '(350, 60)', '[350, 60]', '350, 60', '350 60', '350,60', '350;60', '(350; 60)', '(350 60)',
    'tap(350, 60)', 'left_click(350,60)', 'click(350,60)', 'The center is at x=350, y=60',
    'coordinates: 350, 60', 'coordinates: (350, 60)', '[[350, 60]]', '{"coordinate": [350, 60]}',
    '{"point": [350, 60]}', '{"x": 350, "y": 60, "label": "ok"}', '{"action":"click","x":350,"y":60}',
    '{"position": {"x": 350, "y": 60}}', 'x=350,y=60', 'X: 350, Y: 60', r'\boxed{(350, 60)}',
    r'\boxed{350, 60}', '<answer>(350, 60)</answer>', '<point>(350, 60)</point>',
    '<point>[350, 60]</point>', '<point>350,60</point>', '坐标：(350, 60)', '点击 (350, 60)', '点击（350，60）。',
    '(350,60)。', "{'x': 350, 'y': 60}", 'point(350, 60)', '(350px, 60px)', 'The point is 350, 60.',
    'The button is at (350, 60) on the screen.', '(350.5, 60.25)', '**(350, 60)**', '`(350, 60)`',
    '"(350, 60)"', '{"point_2d": ["350", "60"]}', '{"x": "350", "y": "60"}',
    '<point x="350" y="60">OK</point>', '<points x1="350" y1="60">OK</points>',
    '<point x="350.0" y="60.0" alt="OK button">OK button</point>',
    '```json\n{"point_2d": [350, 60], "label": "ok"}\n```', '[{"point_2d": [350, 60], "label": "ok"}]',
    '(350, 60) (350, 60)', '(350, 60), i.e. (350.0, 60.0)', 'Action: click(350, 60)',
    'Action: CLICK [350, 60]', 'pyautogui.click(350, 60)', 'pyautogui.moveTo(x=350, y=60)',
    "click(start_box='(350,60)')", "click(start_box='[350, 60]')", "click(point='<point>350 60</point>')",
    '<tool_call>{"name": "click", "arguments": {"x": 350, "y": 60}}</tool_call>',
    '<click>(350, 60)</click>', '<click>350 60</click>', 'not (10, 10) but (350, 60)', '[350,60].',
    '【350, 60】', '［350，60］', 'x is 350, y is 60',
]  # fmt: skip
NOT_IN_THE_BUTTON = [
    '(350, 60), (0, 0)', '(350, 60) or (10, 10)', 'not (350, 60)', 'maybe (350, 60)', '(350, 60)?',
    '(60, 350)', '(350)', '350', '(350, 60, 1)', '[300, 40, 420, 90]', '(-350, 60)', '(350, -60)',
    '(0.35, 0.06)', '(NaN, 60)', '(350, Infinity)', '[true, 60]', '["350", "60"]', 'x=350', 'y=60', '',
    'none', '(420, 60)', '(350, 90)', '(3500, 600)', '(350 60 10 10)', '<point>350</point>', '{"x": 350}',
    '{"x": 350, "y": null}', '350.60', '35060', '(350, 1e999)', 'click the button',
    'x1=300, y1=40, x2=420, y2=90', '{"x": 300, "y": 40, "width": 120, "height": 50}', '(350, 60) is wrong',
    '<points x1="350" y1="60" x2="1" y2="2">b</points>', '(٣٥٠, ٦٠)', '(350%, 60%)',
]  # fmt: skip


@pytest.mark.parametrize("text", IN_THE_BUTTON)
def test_a_point_is_read_in_the_forms_that_models_write(text: str) -> None:
    assert point_in_box_reward(text, BUTTON) == 1.0


@pytest.mark.parametrize("text", NOT_IN_THE_BUTTON)
def test_anything_else_earns_nothing(text: str) -> None:
    assert point_in_box_reward(text, BUTTON) == 0.0


@pytest.mark.parametrize(
    "text",
    ["pyautogui.click(360,70, button='left')", "The x-coordinate is 360 and the y-coordinate is 70.", "left_double(start_box='(360,70)')", '{"POINT": [360, 70], "duration": 200}', "<coord>360,70</coord>", "click at (360, 70)"]
    + ['{"coordinate": "360, 70"}', "(x: 360, y: 70)", "点击坐标(360,70)", "<|point_start|>(360,70)<|point_end|>", "computer.mouse.move(x=360, y=70)"],
)  # fmt: skip
def test_rarer_forms_of_a_point_are_read(text: str) -> None:
    assert read_points(text) == [(360.0, 70.0)]


def test_several_points_are_read() -> None:
    two = [(1.0, 2.0), (3.0, 4.0)]
    for text in ("(1, 2), (3, 4)", '<points x1="1" y1="2" x2="3" y2="4">ducks</points>', '[{"point_2d": [1, 2]}, {"point_2d": [3, 4]}]'):  # fmt: skip
        assert read_points(text) == two, text
    assert read_points("(1, 2) or (3, 4)") == []
    assert read_points("not (1, 2) but (3, 4)") == two[1:]

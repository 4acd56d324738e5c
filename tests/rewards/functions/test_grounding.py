"""Boxes: the forms that models write are read, nothing else is, and answers that need no looking earn nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from rewards.functions.grounding import (
    box_set_reward,
    centre_baseline,
    giou_reward,
    iou_above_centre_reward,
    iou_reward,
    read_boxes,
)

BOX = (40.0, 30.0, 220.0, 180.0)

READ = [
    '[40, 30, 220, 180]', '[40 30 220 180]', '(40 30 220 180)', '{40, 30, 220, 180}',
    r'\[40, 30, 220, 180\]', '[40、30、220、180]', '【40, 30, 220, 180】', '［40，30，220，180］',
    r'\boxed{(40,30),(220,180)}', r'\boxed{[[40, 30], [220, 180]]}', '((40,30),(220,180))',
    'The box is 40, 30, 220, 180.', 'Box: 40 30 220 180', 'bbox = 40,30,220,180',
    'bbox: [40, 30, 220, 180]', 'The cat is at [40, 30, 220, 180] in the image',
    'left=40, top=30, right=220, bottom=180', 'xmin: 40, ymin: 30, xmax: 220, ymax: 180',
    'from (40,30) to (220,180)', 'top left corner (40, 30) and bottom right corner (220, 180)',
    'top-left: (40, 30), bottom-right: (220, 180)',
    'Top-left corner: (40, 30)\nBottom-right corner: (220, 180)',
    'The top-left corner is at (40, 30) and the bottom-right corner is at (220, 180).',
    '<bbox>[40, 30, 220, 180]</bbox>', "{'bbox_2d': [40, 30, 220, 180]}",
    '{"bbox_2d":[40,30,220,180],"label":"cat"',
    '```json\n[\n  {"bbox_2d": [40, 30, 220, 180], "label": "cat"}\n]\n```',
    '{"x_min": 40, "y_min": 30, "x_max": 220, "y_max": 180}', '{"x1": 40, "x2": 220, "y1": 30, "y2": 180}',
    '{"left": 40, "top": 30, "right": 220, "bottom": 180}', '{"x0": 40, "y0": 30, "x1": 220, "y1": 180}',
    '{"x": 40, "y": 30, "width": 180, "height": 150}',
    '{"bounding_box": {"x1": 40, "y1": 30, "x2": 220, "y2": 180}}', '{"answer": [40, 30, 220, 180]}',
    '{"coordinates": [40, 30, 220, 180]}', '**[40, 30, 220, 180]**', '`[40, 30, 220, 180]`',
    '[40.00, 30.00, 220.00, 180.00]', '[ 40 , 30 , 220 , 180 ]', '[40,30,220,180].',
    'Answer: [40, 30, 220, 180]', '答案：[40, 30, 220, 180]', '框为(40,30),(220,180)', '（40，30，220，180）',
    '（40，30），（220，180）', '[40,30] [220,180]', '[40,30]-[220,180]', '(40, 30) – (220, 180)',
    '(40,30), (220,180)', '(40,30) and (220,180)', '(40,30);(220,180)', '(40,30)→(220,180)',
    '(40,30) -> (220,180)', '<box> 40, 30, 220, 180 </box>', '<box>[40,30,220,180]</box>',
    '<box>40;30;220;180</box>', '<bbox>(40, 30, 220, 180)</bbox>', '40,30,220,180', '40 , 30 , 220 , 180',
    '40;30;220;180', '40 30 220 180.', '[40, 30, 220, 180]\n[40, 30, 220, 180]',
    '[[40, 30, 220, 180], [40, 30, 220, 180]]', '[40, 30, 220, 180] (x1, y1, x2, y2)',
    '(x1, y1, x2, y2) = (40, 30, 220, 180)', '[x1, y1, x2, y2] = [40, 30, 220, 180]',
    'x1: 40, y1: 30, x2: 220, y2: 180', 'x1 = 40\ny1 = 30\nx2 = 220\ny2 = 180',
    '(x1=40, y1=30, x2=220, y2=180)', 'X1=40 Y1=30 X2=220 Y2=180', 'xmin=40 ymin=30 xmax=220 ymax=180',
    '[x1=40, y1=30, x2=220, y2=180]', '{"bbox_2d": ["40", "30", "220", "180"]}',
    '{"x1": "40", "y1": "30", "x2": "220", "y2": "180"}', '[40px,30px,220px,180px]',
    'the cat, not the dog, is at [40, 30, 220, 180]', '[4e1, 30, 220, 180]', '[040, 030, 220, 180]',
    '[+40, 30, 220, 180]', 'I found it: [40, 30, 220, 180]!', '"[40, 30, 220, 180]"',
    '<answer>{"bbox": [40, 30, 220, 180]}</answer>',
    '<answer>[1,2,3,4]</answer><answer>[40, 30, 220, 180]</answer>', 'bbox([40, 30, 220, 180])',
    '[[[40, 30, 220, 180]]]', '$(40, 30, 220, 180)$', r'\(40, 30, 220, 180\)', 'box: (40,30)-(220,180)',
    '[40, 30, 220, 180,]', '(40, 30, 220, 180,)', '<|box_start|>(40,30),(220,180)<|box_end|>',
    '<|object_ref_start|>cat<|object_ref_end|><|box_start|>(40,30),(220,180)<|box_end|>',
]  # fmt: skip
NOT_READ = [
    '[220, 180, 40, 30]', '[40, 180, 220, 30]', '[40, 30, 220, 180] or [0, 0, 10, 10]',
    '[40, 30, 220, 180], [0, 0, 10, 10]', 'not [40, 30, 220, 180]', 'It is not at [40, 30, 220, 180].',
    '[40, 30, 220, 180] is wrong', 'maybe [40, 30, 220, 180]', '[40, 30, 220, 180]?', '[30, 40, 180, 220]',
    '[40, 30, 220]', '[40, 30, 220, 180, 5]', '[40, 30, 220, 180, 0.9]', '[40, 30, 220, NaN]',
    '[40, 30, 220, null]', '[40, 30, 220, "180"]', '["40", "30", "220", "180"]', '[40, 30, 220, 1e999]',
    '40, 30, 220', '(40,30),(220,180),(5,5)', '(40,30)', 'I am not sure', '', 'none', '[]',
    '[-40, 30, 220, 180]', '[40, 30, 22, 180]', '[0.04, 0.03, 0.22, 0.18]', '[400, 300, 2200, 1800]',
    '[40, 30, 220, 180%]', '[40%, 30%, 220%, 180%]', '[true, 30, 220, 180]', '[40, 30, 180, 150]',
    'x1=40, y1=30, x2=220', '{"x1": 40, "y1": 30}', '(40,30),(220,180),(40,30),(10,10)',
    '[40, 30, 220, 180], (0, 0), (10, 10)', 'either [40, 30, 220, 180] or nothing', '[40-30-220-180]',
    '40302 20180', '[40, 30], [220, 180], [1, 2]', '1. [40, 30, 220, 180] 2. [50, 30, 220, 180]',
    '[4 0, 30, 220, 180]', '[40, 30, 220, 180', '[0x28, 30, 220, 180]', '[٤٠, 30, 220, 180]',
    '[40, 30, 220, 180.5]', '[40..220, 30..180]',
]  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_a_box_is_read_in_the_forms_that_models_write(text: str) -> None:
    assert read_boxes(text) == [BOX]


@pytest.mark.parametrize("text", NOT_READ)
def test_anything_else_is_not_that_box(text: str) -> None:
    assert iou_reward(text, {"box": list(BOX)}) < 1.0
    assert box_set_reward(text, {"box": list(BOX)}) < 1.0


@pytest.mark.parametrize(
    "text",
    ['{"top_left": [12, 34], "bottom_right": [156, 278]}', '{"p1": [12, 34], "p2": [156, 278]}', "(12, 34) x (156, 278)", "(12, 34) / (156, 278)", "(12,34)~(156,278)", "(12, 34) through (156, 278)"]
    + ["Top left (12, 34). Bottom right (156, 278).", "The corners are (12, 34) for the top-left and (156, 278) for the bottom-right.", "左上角(12,34)，右下角(156,278)", "[12, 34][156, 278]"]
    + ['{"bbox": {"xmin": 12, "ymin": 34, "xmax": 156, "ymax": 278}}', '{"bbox_2d": "12, 34, 156, 278"}', "<box>x1=12,y1=34,x2=156,y2=278</box>", "1. cat: [12, 34, 156, 278]"],
)  # fmt: skip
def test_rarer_forms_of_a_box_are_read(text: str) -> None:
    assert read_boxes(text) == [(12.0, 34.0, 156.0, 278.0)]


def test_several_boxes_are_read_in_several_forms() -> None:
    two = [(1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)]
    for text in (
        "[1, 2, 3, 4], [5, 6, 7, 8]",
        "(1,2),(3,4) and (5,6),(7,8)",
        '[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]',
        "<box>1,2,3,4</box><box>5,6,7,8</box>",
        '{"x1": 1, "y1": 2, "x2": 3, "y2": 4}, {"x1": 5, "y1": 6, "x2": 7, "y2": 8}',
    ):
        assert read_boxes(text) == two, text
    assert read_boxes("[1, 2, 3, 4] or [5, 6, 7, 8]") == []
    assert read_boxes("not [1, 2, 3, 4] but [5, 6, 7, 8]") == two[1:]


IMAGE: dict[str, Any] = {"box": [400, 100, 500, 200], "frame": "pixel", "image_size": [640, 480]}


def test_a_box_is_cut_at_the_edges_of_the_image_and_is_nothing_outside() -> None:
    whole = iou_reward("[0, 0, 640, 480]", IMAGE)
    assert whole == pytest.approx(100 * 100 / (640 * 480))
    for text in ("[-100, -100, 900, 900]", "[-3000, -2400, 3500, 2900]", "[0, 0, 9000, 9000]"):
        assert iou_reward(text, IMAGE) == pytest.approx(whole)
        assert giou_reward(text, IMAGE) == pytest.approx((1 + whole) / 2)
        assert box_set_reward(text, IMAGE) == pytest.approx(whole)
    for text in ("[700, 100, 800, 200]", "[-90, -90, -10, -10]", "[640, 0, 700, 480]"):
        assert giou_reward(text, IMAGE) == iou_reward(text, IMAGE) == box_set_reward(text, IMAGE) == 0.0
    assert giou_reward("[400, 100, 500, 200]", {**IMAGE, "frame": "norm1000"}) == 1.0
    assert giou_reward("[1100, 100, 1200, 200]", {**IMAGE, "frame": "norm1000"}) == 0.0


def test_where_the_size_is_not_known_a_box_is_cut_at_zero() -> None:
    answer = {"box": [0, 0, 100, 100]}
    assert iou_reward("[-50, -50, 100, 100]", answer) == 1.0
    assert giou_reward("[-50, -50, -10, -10]", answer) == 0.0


def test_a_true_box_that_passes_the_edge_by_rounding_can_still_be_found() -> None:
    answer = {"box": [600.5, 100, 640.6, 481], "image_size": [640, 480]}
    assert (
        iou_reward("[600.5, 100, 640.6, 481]", answer)
        == giou_reward("[600.5, 100, 640.6, 481]", answer)
        == 1.0
    )


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 10.0])
@pytest.mark.parametrize(
    "true", [[400, 100, 500, 200], [0, 0, 300, 480], [100, 80, 560, 400], [10, 10, 30, 20]]
)
def test_centred_boxes_earn_nothing_above_the_centre(true: list[int], share: float) -> None:
    x, y = 320 * (1 - share), 240 * (1 - share)
    text = f"[{x}, {y}, {640 - x}, {480 - y}]"
    assert iou_above_centre_reward(text, {**IMAGE, "box": true}) == 0.0


def test_above_the_centre_the_reward_rises_to_one_at_the_true_box() -> None:
    values = [
        iou_above_centre_reward(f"[{400 + shift}, 100, {500 + shift}, 200]", IMAGE)
        for shift in range(100, -1, -5)
    ]
    assert values[0] == 0.0 and values[-1] == 1.0
    assert all(before <= after for before, after in itertools.pairwise(values))  # type: ignore[operator]
    baseline = centre_baseline((400, 100, 500, 200), (640, 480))
    shifted = iou_reward("[410, 100, 510, 200]", IMAGE)
    assert iou_above_centre_reward("[410, 100, 510, 200]", IMAGE) == pytest.approx(
        (shifted - baseline) / (1 - baseline)
    )


def test_above_the_centre_says_nothing_of_a_true_box_that_is_a_centred_one() -> None:
    for true in ([0, 0, 640, 480], [0, 0, 639, 479], [64, 48, 576, 432]):
        assert iou_above_centre_reward("[0, 0, 640, 480]", {**IMAGE, "box": true}) is None


def test_above_the_centre_needs_the_size_of_the_image_when_data_is_loaded() -> None:
    with pytest.raises(ValueError, match="image_size"):
        iou_above_centre_reward.check_gold({"box": [1, 2, 3, 4]}, {})  # type: ignore[attr-defined]
    iou_above_centre_reward.check_gold({"box": [1, 2, 3, 4], "frame": "norm1000"}, {})  # type: ignore[attr-defined]

"""Boxes and points of a row, wherever they stand, moved as a function says; refused where they cannot be read."""

from __future__ import annotations

import pytest

from core.rows import Row
from rewards.geometry.frames import with_model_limits
from sft.augmentation.coordinates import Refused, rewrite

BOX = {"boxes": [[56, 28, 84, 56]], "frame": "pixel"}


def mirrored(values):
    if len(values) == 4:
        return (1 - values[2], values[1], 1 - values[0], values[3])
    return (1 - values[0], values[1])


def row(reply: object = "It is there.", question: str = "Where is it?", **more) -> Row:
    """About an image of 112 x 84 pixels."""
    trace = [{"role": "assistant", "content": reply}] if isinstance(reply, str) else reply
    start = {
        "id": "r",
        "task": "grounding",
        "images": [],
        "videos": [],
        "image_size": [112, 84],
        "answer": BOX,
    }
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return start | {"prompt": [{"role": "user", "content": content}], "trace": trace} | more


def said(new: Row) -> str:
    return new["trace"][0]["content"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[56, 28, 84, 56]", "[28, 28, 56, 56]"),
        ("It is at [56,28,84.5,56].", "It is at [27.5,28.0,56.0,56.0]."),
        ("56, 28, 84, 56", "28, 28, 56, 56"),
        ("<box>56, 28, 84, 56</box>", "<box>28, 28, 56, 56</box>"),
        ('```json\n[{"bbox_2d": [56, 28, 84, 56], "label": "dog"}]\n```', '```json\n[{"bbox_2d": [28, 28, 56, 56], "label": "dog"}]\n```'),
        ("from (56, 28) to (84, 56)", "from (28, 28) to (56, 56)"),
        ("(56,28),(84,56)", "(28,28),(56,56)"),
        ("[[56, 28], [84, 56]]", "[[28, 28], [56, 56]]"),
        ("[0, 0, 10, 10] and [100, 0, 112, 10]", "[102, 0, 112, 10] and [0, 0, 12, 10]"),
        ("It costs 4,656 and weighs 3.5.", "It costs 4,656 and weighs 3.5."),
    ],
)  # fmt: skip
def test_a_box_in_a_text_keeps_its_form(text, wanted):
    new = rewrite(row(text), mirrored)
    assert said(new) == wanted and new["answer"]["boxes"] == [[28, 28, 56, 56]]
    stages = {"summary": "I look.", "caption": text, "reasoning": text, "conclusion": text}
    assert rewrite(row(stages), mirrored)["trace"] == stages | dict.fromkeys(list(stages)[1:], wanted)
    asked = rewrite(row(question=text), mirrored)["prompt"][0]["content"]
    assert asked == [{"type": "image"}, {"type": "text", "text": wanted}]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("(70, 42)", "(42, 42)"),
        ("<point>70 42</point>", "<point>42 42</point>"),
        ('{"point_2d": [70, 42]}', '{"point_2d": [42, 42]}'),
        ("(70, 42), (84, 56)", "(42, 42), (28, 56)"),
    ],
)
def test_a_point_in_a_text_does_too(text, wanted):
    pointing = row(text, task="pointing", answer={"box": [56, 28, 84, 56], "frame": "pixel"})
    assert said(rewrite(pointing, mirrored)) == wanted
    exact = row(text, answer={"point": [70.0, 42.0], "frame": "pixel"})
    new = rewrite(exact, mirrored)
    assert said(new) == wanted and new["answer"]["point"] == [42.0, 42.0]


@pytest.mark.parametrize(
    ("answer", "more", "text", "wanted", "answered"),
    [
        ({"boxes": [[500, 0, 750, 100]], "frame": "norm1000"}, {}, "[500, 0, 750, 100]", "[250, 0, 500, 100]", [250, 0, 500, 100]),
        ({"boxes": [[0.5, 0, 0.75, 0.1]], "frame": "norm1"}, {}, "[0.5, 0, 0.75, 0.1]", "[0.25, 0.00, 0.50, 0.10]", [0.25, 0, 0.5, 0.1]),
        (BOX, {"frame_out": "norm1000"}, "[500, 333, 750, 667]", "[250, 333, 500, 667]", [28, 28, 56, 56]),
        # the model sees 56 x 28 pixels of it
        (BOX, {"frame_out": "resized"}, "[28, 10, 42, 20]", "[14, 10, 28, 20]", [28, 28, 56, 56]),
    ],
)  # fmt: skip
def test_frames_are_those_that_the_row_declares(answer, more, text, wanted, answered):
    (limited,) = with_model_limits(
        [row(text, answer=answer, **more)], {"min_pixels": 784, "max_pixels": 3200, "factor": 28}
    )
    new = rewrite(limited, mirrored)
    assert said(new) == wanted and new["answer"]["boxes"] == [answered]


def test_columns_move_in_pixels_however_deep_and_other_columns_stay():
    columns = {
        "target_box": [56, 28, 84, 56],
        "boxes": [[0, 0, 10.5, 10]],
        "point": [70, 42],
        "objects": [{"shape": "disc", "box": [56, 28, 84, 56]}],
        "size": [1, 2, 3, 4],
        "box": None,
        "points": [],
    }
    new = rewrite(row(**columns), mirrored)
    assert new["target_box"] == [28, 28, 56, 56] and new["objects"] == [
        {"shape": "disc", "box": [28, 28, 56, 56]}
    ]
    assert new["boxes"] == [[101.5, 0, 112, 10]] and new["point"] == [42, 42]
    assert {name: new[name] for name in ("size", "box", "points")} == {
        "size": [1, 2, 3, 4],
        "box": None,
        "points": [],
    }


def test_calls_of_a_zoom_are_in_fractions_whatever_the_answer_is_in():
    call = '<think>Look at [56, 28, 84, 56].</think><grounding>{"bbox_2d": [0.1, 0.25, 0.5, 0.75], "source": "original_image"}</grounding>'
    wanted = '<think>Look at [28, 28, 56, 56].</think><grounding>{"bbox_2d": [0.50, 0.25, 0.90, 0.75], "source": "original_image"}</grounding>'
    assert said(rewrite(row(call), mirrored)) == wanted
    plain = row(
        '<grounding>{"bbox_2d": [0.1, 0.25, 0.5, 0.75], "source": "observation_1"}</grounding>',
        answer={"value": "7"},
    )
    assert "[0.50, 0.25, 0.90, 0.75]" in said(rewrite(plain, mirrored))


def test_fractions_get_the_places_that_a_crop_needs():
    def third(values):
        return tuple(value / 3 for value in values)

    assert (
        said(rewrite(row("[0.5, 0, 1, 1]", answer={"box": [0.5, 0, 1, 1], "frame": "norm1"}), third))
        == "[0.167, 0.0, 0.333, 0.333]"
    )


def test_moving_twice_is_the_row_itself():
    first = row("It is [56, 28, 84, 56].", "Is it [0, 0, 1, 1]?", target_box=[3, 4, 5, 6])
    assert rewrite(rewrite(first, mirrored), mirrored) == first


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"reply": "x1=56, y1=28, x2=84, y2=56"}, "coordinates by name"),
        ({"reply": '<point x="70" y="42">dog</point>'}, "coordinates by name"),
        ({"reply": "It is at 56, 28 or so."}, "numbers that may be coordinates, in no list"),
        ({"reply": "It is 30 px wide."}, "numbers that may be coordinates, in no list"),
        ({"reply": "[1, 2, 3]"}, "a list that is neither a box nor a point"),
        ({"reply": "[1, 2, 3, 4, 5, 6]"}, "a list that is neither a box nor a point"),
        ({"reply": "[56, 28, 84, 560]"}, "coordinates outside the image"),
        ({"reply": "[84, 28, 56, 56]"}, "a box that is not x1, y1, x2, y2"),
        ({"reply": '<tool_call>{"name": "zoom", "arguments": {"bbox_2d": [1, 2, 3, 4]}}</tool_call>'}, "a <tool_call> with coordinates"),
        ({"reply": "[56, 28, 84, 56]", "answer": {"value": "yes"}}, "in no declared frame"),
        ({"answer": {"value": "[56, 28, 84, 56]"}}, "coordinates in the text of an answer"),
        ({"polygon": [[1, 2], [3, 4]]}, "a column whose layout is not declared"),
        ({"objects": {"bbox": [[1, 2, 3, 4]]}}, "a column whose layout is not declared"),
    ],
)  # fmt: skip
def test_what_cannot_be_moved_with_certainty_is_refused_by_name(broken, why):
    with pytest.raises(Refused, match=why):
        rewrite(row(**broken), mirrored)

"""Boxes of a policy's answer: where their tokens are, and how certain the policy was of them."""

from __future__ import annotations

import pytest

from engines.rollout import Rollout
from evaluation.boxes import answered_boxes, place_of, tokens_of
from vlm.load import load_processor


@pytest.fixture(scope="module")
def tokenizer(bench):
    return load_processor(bench.one).tokenizer


def rollout(tokenizer, text: str) -> Rollout:
    """An answer whose i-th token has log-probability -i."""
    ids = tuple(tokenizer.encode(text)) + (tokenizer.eos_token_id,)
    logprobs = tuple(-float(i) for i in range(len(ids)))
    return Rollout("a", None, ids, (1,) * len(ids), logprobs, text, 0, "stop")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2, 30, 40]", "1, 2, 30, 40"),
        ('[{"bbox_2d": [1, 2, 30, 40], "label": "x"}]', "1, 2, 30, 40"),
        ("(1, 2), (30, 40)", "1, 2), (30, 40"),
        ("is it [1,2,30,40]? yes: [1, 2, 30, 40.0]", "1, 2, 30, 40.0"),
        ('{"x": 1, "y": 2, "width": 29, "height": 38}', '{"x": 1, "y": 2, "width": 29, "height": 38}'),
    ],
)
def test_the_place_of_a_box_is_its_four_numbers(text, expected):
    start, end = place_of(text, (1.0, 2.0, 30.0, 40.0))
    assert text[start:end] == expected


def test_tokens_of_a_place_write_exactly_its_characters_and_no_token_less(tokenizer):
    text = "héé: [12, 34, 560, 780] and [1, 2, 3, 4] 框 [5, 6, 7, 8]"
    ids = tokenizer.encode(text)
    for part in ("12, 34, 560, 780", "1, 2, 3, 4", "5, 6, 7, 8", text):
        start = text.index(part)
        first, last = tokens_of(tokenizer, ids, (start, start + len(part)))
        assert part in tokenizer.decode(ids[first:last])
        assert part not in tokenizer.decode(ids[first + 1 : last])
        assert part not in tokenizer.decode(ids[first : last - 1])


def test_a_box_has_the_mean_log_probability_of_its_tokens_and_pixels_of_the_image(tokenizer):
    row = {"id": "a", "task": "detection", "answer": {"boxes": [[0, 0, 1, 1]], "frame": "norm1"}}
    row |= {"image_size": [200, 100], "frame_out": "norm1000"}
    text = "I think [9, 9, 10, 10].<CONCLUSION>[100, 200, 300, 400], [500, 500, 700, 900]</CONCLUSION>"
    answer = rollout(tokenizer, text)
    found = answered_boxes(tokenizer, row, answer, "[100, 200, 300, 400], [500, 500, 700, 900]")
    assert [box for box, _ in found] == [(20, 20, 60, 40), (100, 50, 140, 90)]
    for (_, score), numbers in zip(found, ("100, 200, 300, 400", "500, 500, 700, 900"), strict=True):
        first, last = tokens_of(
            tokenizer, answer.completion_ids, (text.index(numbers), text.index(numbers) + len(numbers))
        )
        assert score == pytest.approx(-(first + last - 1) / 2)
    assert found[0][1] > found[1][1]


def test_an_answer_without_boxes_has_none(tokenizer):
    row = {"id": "a", "task": "detection", "answer": {"boxes": [], "frame": "pixel"}}
    assert answered_boxes(tokenizer, row, rollout(tokenizer, "none [1, 2]"), "") == []

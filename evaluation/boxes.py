"""The boxes in a policy's answer, in pixels, each with a score: the mean log-probability of its tokens.

A language model says no confidence. The mean log-probability of the tokens that write a box ranks the boxes of all answers, as
mAP needs it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from core.rows import Row
from engines.rollout import Rollout
from evaluation.detection import ScoredBox
from rewards.functions.grounding import read_boxes
from rewards.geometry.frames import convert, frames_of, sizes_of, to_gold_frame
from rewards.geometry.overlap import Box
from rewards.reading.text import NUMBER

_NUMBER = re.compile(NUMBER)


def answered_boxes(tokenizer: Any, row: Row, rollout: Rollout, conclusion: str) -> list[ScoredBox]:
    """The boxes that an answer gives, in its order. conclusion: the part of `rollout.text` that counts as the answer."""
    boxes = read_boxes(conclusion)
    scores = [mean_logprob(tokenizer, rollout, place_of(rollout.text, box)) for box in boxes]
    moved = to_gold_frame(boxes, row["answer"], row, row.get("frame_out"))
    return list(zip(pixel_boxes(moved, row["answer"], row), scores, strict=True))


def pixel_boxes(boxes: Sequence[Sequence[float]], answer: Mapping[str, Any], row: Row) -> list[Box]:
    """Boxes in the frame of the row's answer, in pixels of the original image."""
    frame = frames_of(answer, row)[1]
    if frame == "pixel":
        return [tuple(box) for box in boxes]  # type: ignore[misc]
    size, resized = sizes_of(answer, row)
    return [convert(box, frame, "pixel", size, resized) for box in boxes]  # type: ignore[misc]


def place_of(text: str, box: Box) -> tuple[int, int]:
    """(start, end) of the box's last appearance in a text: its four numbers in a row. The whole text where they do not stand
    so, as in `{"x": 1, "y": 2, "width": 3, "height": 4}`."""
    numbers = list(_NUMBER.finditer(text))
    values = [float(number.group()) for number in numbers]
    for i in range(len(values) - 4, -1, -1):
        if tuple(values[i : i + 4]) == box:
            return numbers[i].start(), numbers[i + 3].end()
    return 0, len(text)


def mean_logprob(tokenizer: Any, rollout: Rollout, place: tuple[int, int]) -> float:
    """Mean log-probability of the sampled tokens that write the characters `place` of the rollout's text."""
    first, last = tokens_of(tokenizer, rollout.completion_ids, place)
    sampled = [
        logprob
        for logprob, mask in zip(rollout.logprobs[first:last], rollout.loss_mask[first:last], strict=True)
        if mask
    ]
    return sum(sampled) / len(sampled) if sampled else float("-inf")


def tokens_of(tokenizer: Any, ids: Sequence[int], place: tuple[int, int]) -> tuple[int, int]:
    """Slice of the tokens that write the characters `place` (start, end) of the ids' text without special tokens."""

    def length(count: int) -> int:
        return len(tokenizer.decode(list(ids[:count]), skip_special_tokens=True))

    start, end = place
    first = (
        bisect_right(range(len(ids) + 1), start, key=length) - 1
    )  # the last count with a text up to `start`
    last = bisect_left(range(len(ids) + 1), end, key=length)
    return first, last

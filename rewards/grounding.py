"""Rewards for boxes: GIoU and IoU of one box, and a set reward for several.

Read from the answer text: `[x1, y1, x2, y2]` anywhere in it (so JSON as `[{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}]`,
fenced or bare, too), `(x1, y1, x2, y2)`, `(x1, y1), (x2, y2)`, or four numbers that are the whole text. Numbers are plain
decimals: a box with NaN, true, a quoted number or another count of numbers is no box. Labels are not judged.

A box is valid if finite, within MAX_COORDINATE, in order and with an area; anything else scores 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rewards.frames import check_frames, to_gold_frame
from rewards.geometry import Box, giou, iou, is_box, matched_iou
from rewards.gold import field, gold_check, numbers, sequence
from rewards.reading import NUMBER, last_boxed, tail

MAX_BOXES = 512
"""More boxes than this in one answer are no answer (and would make optimal matching slow): score 0."""

HUGE = 100.0
"""A box at least this many times as wide *and* as high as the true one is no localisation (typically a frame mistaken, such
as 0-1 for pixels): score 0. Smaller boxes around the truth keep GIoU's value, which is at least 0.5 after mapping."""

_N = rf"\s{{0,40}}({NUMBER})\s{{0,40}}"
_BOX = re.compile(
    rf"\[{_N},{_N},{_N},{_N}\]|\({_N},{_N},{_N},{_N}\)|\({_N},{_N}\)\s{{0,9}},?\s{{0,9}}\({_N},{_N}\)|\A{_N},{_N},{_N},{_N}\.?\s{{0,40}}\Z"
)
_EMPTY = re.compile(r"\s*(?:```(?:json)?)?\s*\[\s*\]\s*(?:```)?\s*", re.ASCII)


def read_boxes(completion: object) -> list[Box]:
    """All boxes in an answer text, as written (not yet checked), in order; equal ones once. At most MAX_BOXES + 1."""
    found: dict[Box, None] = {}
    for match in _BOX.finditer(tail(completion)):
        x1, y1, x2, y2 = (float(group) for group in match.groups() if group is not None)
        found[x1, y1, x2, y2] = None
        if len(found) > MAX_BOXES:
            break
    return list(found)


def gold_boxes(answer: Mapping[str, Any]) -> list[Box]:
    """The true boxes of an answer `{"boxes": [[x1, y1, x2, y2], …]}` or `{"box": […]}`; ValueError if broken."""
    value = field(answer, "boxes", "box")
    items = sequence(value, "answer.boxes") if answer.get("boxes") is not None else [value]
    boxes = []
    for item in items:
        x1, y1, x2, y2 = numbers(item, 4, "answer.boxes")
        if not is_box((x1, y1, x2, y2)):
            raise ValueError(
                f"answer.boxes: expected [x1, y1, x2, y2] with x1 < x2 and y1 < y2, got {item!r:.80}"
            )
        boxes.append((x1, y1, x2, y2))
    return boxes


def check_one_box(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """The answer holds exactly one valid box in a frame that can be converted."""
    boxes = gold_boxes(answer)
    if len(boxes) != 1:
        raise ValueError(
            f"answer.boxes: expected exactly one box (use box_set for several), got {len(boxes)}"
        )
    check_frames(answer, row, row.get("frame_out"))


def check_boxes(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """The answer holds valid boxes (perhaps none) in a frame that can be converted."""
    gold_boxes(answer)
    check_frames(answer, row, row.get("frame_out"))


@gold_check(check_one_box)
def giou_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """(GIoU + 1) / 2 of the one box in the text and the true box, in [0, 1]; 1 only for the true box.

    0.5 is where boxes just touch in a row; disjoint boxes score below it, less the farther away; any valid box scores above 0.
    0 if the text holds no valid box, several different ones, or a box HUGE times too large: not answering never pays.
    A box around the true one scores at least 0.5 however loose it is (GIoU is IoU there, so above 0); where a policy settles
    on that, use `iou`.
    """
    pair = _one_pair(completion, answer, frame_out, row)
    return (giou(*pair) + 1.0) / 2.0 if pair else 0.0


@gold_check(check_one_box)
def iou_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """IoU of the one box in the text and the true box, in [0, 1]; 0 for anything but one valid box."""
    pair = _one_pair(completion, answer, frame_out, row)
    return iou(*pair) if pair else 0.0


@gold_check(check_boxes)
def box_set_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """2 S / (predicted + true), S the sum of IoUs under the optimal one-to-one matching: in [0, 1], 1 only for the true set.

    It is the harmonic mean of precision S / predicted and recall S / true, so missed and invented boxes both cost. An invalid
    box matches nothing but counts as predicted. Where the truth is empty, exactly an empty list (`[]`) scores 1.
    """
    truth = gold_boxes(answer)
    predicted = read_boxes(completion)
    if not truth:
        text = tail(completion)
        return 1.0 if not predicted and _EMPTY.fullmatch(last_boxed(text) or text) else 0.0
    if not predicted or len(predicted) > MAX_BOXES:
        return 0.0
    boxes = [box for box in to_gold_frame(predicted, answer, row, frame_out) if is_box(box)]
    total = matched_iou(boxes, truth)  # type: ignore[arg-type]
    return min(1.0, 2.0 * total / (len(predicted) + len(truth)))


def _one_pair(
    completion: str, answer: Mapping[str, Any], frame_out: str | None, row: Mapping[str, Any]
) -> tuple[Box, Box] | None:
    """(predicted, true) box, or None where the text is no answer."""
    truths = gold_boxes(answer)
    if len(truths) != 1:
        raise ValueError(f"answer.boxes: expected exactly one box, got {len(truths)}")
    boxes = read_boxes(completion)
    if len(boxes) != 1 or not is_box(boxes[0]):
        return None
    box: Box = to_gold_frame(boxes, answer, row, frame_out)[0]  # type: ignore[assignment]
    true = truths[0]
    too_large = box[2] - box[0] >= HUGE * (true[2] - true[0]) and box[3] - box[1] >= HUGE * (
        true[3] - true[1]
    )
    return (box, true) if is_box(box) and not too_large else None

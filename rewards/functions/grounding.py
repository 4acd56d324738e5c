"""Rewards for boxes: GIoU and IoU of one box, IoU above that of a centred box, and a set reward for several.

Accepted forms (`rewards.reading.coordinates`): four numbers in brackets or a tag (`[x1, y1, x2, y2]`, `<box>…</box>`, JSON as
`{"bbox_2d": […]}`, fenced or bare), two corners (`(x1, y1), (x2, y2)`, "top-left (…), bottom-right (…)"), named numbers (`x1=…`,
`{"xmin": …}`), or four numbers that are the whole text or part of a sentence. Lists with NaN, true, a quoted number or another
count of numbers are not boxes. Labels are ignored.

A box is valid if it is finite, within MAX_COORDINATE, in order and not empty. It is clipped to the image (if the size is unknown,
at 0) and scores 0 if nothing is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rewards.geometry.frames import check_frames, extent, frames_of, sizes_of, to_gold_frame
from rewards.geometry.overlap import Box, giou, iou, is_box, matched_iou
from rewards.reading.coordinates import Named, Numbers, answer_with_places, named_values, number_lists
from rewards.reading.final_answer import marked_answer, standing
from rewards.reading.gold import MAX_COORDINATE, field, gold_check, numbers, sequence
from rewards.reading.text import NUMBER, tail

MAX_BOXES = 512
"""An answer with more boxes than this scores 0 (optimal matching would be slow)."""

HUGE = 100.0
"""A box at least this many times as wide *and* as high as the true one scores 0: usually a wrong frame, such as pixels for 0-1."""

CENTRED = tuple(tenth / 10 for tenth in range(1, 11))
"""Sides of the centred boxes that `iou_above_centre` compares with, relative to the image's sides."""

MAX_BASELINE = 0.95
"""`iou_above_centre` does not apply to a true box with a higher IoU than this with a centred box."""

_N = rf"\s{{0,9}}({NUMBER})\s{{0,9}}"
_LIST = rf"\[{_N},{_N},{_N},{_N}\]"
# The two most common forms: only the list, and Qwen's JSON of one object, fenced or bare.
_PLAIN_BOX = re.compile(rf"\s?{_LIST}\s?")
_QWEN_BOX = re.compile(
    rf'\s?(?:```json\s)?\s?\[?\s{{0,9}}\{{"bbox_2d":\s?{_LIST}(?:,\s?"label":\s?"[^"\\\n]{{0,200}}")?\}}\s{{0,9}}\]?\s?(?:```)?\s?'
)
_EMPTY = re.compile(r"\s*(?:```(?:json)?)?\s*\[\s*\]\s*(?:```)?\s*", re.ASCII)
# What may stand between two corners of a box: "],[", " to ", ", bottom-right ", …
_BETWEEN_CORNERS = re.compile(
    r"(?:[\s,;:|/~.…–—>→\])}({\[\"'=_-]|\b(?:to|and|until|through|x|the|is|at|of|for|top|bottom|upper|lower|left|right|corner|point|p2|br)(?![a-z])"
    r"|(?<=_)(?:left|right)|到|至|和|左上|右下|角){0,40}",
    re.IGNORECASE,
)
_SLOTS = {
    **dict.fromkeys(("x1", "xmin", "x_min", "left", "x_1", "x0"), 0),
    **dict.fromkeys(("y1", "ymin", "y_min", "top", "y_1", "y0"), 1),
    **dict.fromkeys(("x2", "xmax", "x_max", "right", "x_2"), 2),
    **dict.fromkeys(("y2", "ymax", "y_max", "bottom", "y_2"), 3),
    "x": 0,
    "y": 1,
    "w": 4,
    "width": 4,
    "h": 5,
    "height": 5,
}


def read_boxes(completion: object) -> list[Box]:
    """The boxes in an answer as written (not validated), in order, without duplicates; at most MAX_BOXES + 1.

    Empty if the answer leaves one of them open ("maybe …", "… or …").
    """
    text = tail(completion)
    plain = _PLAIN_BOX.fullmatch(text) or _QWEN_BOX.fullmatch(text)
    if plain:
        x1, y1, x2, y2 = (float(value) for value in plain.groups())
        return [(x1, y1, x2, y2)]
    text = answer_with_places(completion)
    lists = number_lists(text)
    if lists is None:
        return []
    found = dict.fromkeys([*_listed_boxes(lists, text), *_named_boxes(text)])
    return list(found)[: MAX_BOXES + 1]


def _listed_boxes(lists: list[Numbers], text: str) -> list[Box]:
    """Boxes from lists of four numbers, and from adjacent pairs of corners."""
    boxes: list[Box] = []
    corners: list[Numbers] = []

    def close() -> None:
        if len(corners) % 2 == 0:
            boxes.extend((*a.values, *b.values) for a, b in zip(corners[::2], corners[1::2], strict=True))  # type: ignore[misc]
        corners.clear()

    for item in lists:
        if corners and not (
            len(item.values) == 2 and _BETWEEN_CORNERS.fullmatch(text[corners[-1].end : item.start][:80])
        ):
            close()
        if len(item.values) == 2:
            corners.append(item)
        elif len(item.values) == 4:
            boxes.append(item.values)
    close()
    return boxes


def _named_boxes(text: str) -> list[Box]:
    """Boxes from adjacent named numbers: x1, y1, x2, y2 (xmin, left, …) in any order, or x, y, width, height."""
    boxes: list[Box] = []
    group: dict[str, Named] = {}
    for item in named_values(text):
        slot = _SLOTS.get(item.name)
        if slot is None:
            continue
        last = next(reversed(group.values()), None)
        if item.name in group or (last and item.start - last.end > 60):
            group = {}
        group[item.name] = item
        if len(group) == 4:
            box = _box_of(group)
            first = next(iter(group.values()))
            if box and standing(text[: first.start][-100:], text[item.end :][:40]) == "stated":
                boxes.append(box)
            group = {}
    return boxes


def _box_of(group: Mapping[str, Named]) -> Box | None:
    """The box of four named numbers, or None if the names do not form one. With x0, y0 the other corner is x1, y1."""
    zero_based = "x0" in group
    slots = {
        _SLOTS[name] + (2 if zero_based and name in ("x1", "y1") else 0): item.value
        for name, item in group.items()
    }
    if set(slots) == {0, 1, 2, 3}:
        return slots[0], slots[1], slots[2], slots[3]
    if set(slots) == {0, 1, 4, 5}:
        return slots[0], slots[1], slots[0] + slots[4], slots[1] + slots[5]
    return None


def gold_boxes(answer: Mapping[str, Any]) -> list[Box]:
    """The true boxes of an answer `{"boxes": [[x1, y1, x2, y2], …]}` or `{"box": […]}`. Raises ValueError if broken."""
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
    """Raise ValueError unless the answer holds exactly one valid box in a frame that can be converted."""
    boxes = gold_boxes(answer)
    if len(boxes) != 1:
        raise ValueError(
            f"answer.boxes: expected exactly one box (use box_set for several), got {len(boxes)}"
        )
    check_frames(answer, row, row.get("frame_out"))


def check_boxes(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Raise ValueError unless all boxes of the answer (possibly none) are valid, in a frame that can be converted."""
    gold_boxes(answer)
    check_frames(answer, row, row.get("frame_out"))


def check_box_in_image(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """As `check_one_box`; also raises ValueError if the size of the image in the answer's frame is unknown."""
    check_one_box(answer, row)
    if _image_extent(answer, row) is None:
        raise ValueError("image_size: needed to score centred boxes, but unknown")


@gold_check(check_one_box)
def giou_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """(GIoU + 1) / 2 of the one box in the text and the true box, in [0, 1] (as in MiMo-VL); 1 only for the true box.

    0 if the text has no valid box, several different ones, a box outside the image, or one that is HUGE times too large, so
    not answering never pays. A box around the true one scores at least 0.5 however loose it is (GIoU equals IoU there), so
    the whole image scores (1 + the true box's share of it) / 2. If a policy settles on that, use `iou_above_centre`;
    docs/rewards.md has the figures.
    """
    pair = _one_pair(completion, answer, frame_out, row)
    return (giou(*pair) + 1.0) / 2.0 if pair else 0.0


@gold_check(check_one_box)
def iou_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """IoU of the one box in the text and the true box, in [0, 1]; 0 unless there is exactly one valid box."""
    pair = _one_pair(completion, answer, frame_out, row)
    return iou(*pair) if pair else 0.0


@gold_check(check_box_in_image)
def iou_above_centre_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float | None:
    """max(0, (IoU - b) / (1 - b)), where b is the best IoU of any centred box with the true box: in [0, 1], 1 only for the true box.

    A skill score: on each row, a box that can be guessed without looking scores 0. The centred boxes have the image's shape
    and 10 % to 100 % of its sides (CENTRED). Below b the reward is flat, so that a group of poor answers gives no signal
    instead of rewarding the centre. None (does not apply) if b > MAX_BASELINE.
    """
    true = gold_boxes(answer)[0]
    size = _image_extent(answer, row)
    if size is None:
        raise ValueError("image_size: needed to score centred boxes, but unknown")
    baseline = centre_baseline(true, size)
    if baseline > MAX_BASELINE:
        return None
    pair = _one_pair(completion, answer, frame_out, row)
    return max(0.0, (iou(*pair) - baseline) / (1.0 - baseline)) if pair else 0.0


def centre_baseline(true: Box, size: tuple[float, float]) -> float:
    """Best IoU with the true box of boxes centred in an image of this (width, height), with its shape and CENTRED sizes."""
    width, height = size
    return max(
        iou(true, ((1 - s) / 2 * width, (1 - s) / 2 * height, (1 + s) / 2 * width, (1 + s) / 2 * height))
        for s in CENTRED
    )


@gold_check(check_boxes)
def box_set_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """2 S / (predicted + true), where S is the sum of IoUs under the optimal one-to-one matching: in [0, 1], 1 only for the true set.

    This is the harmonic mean of precision S / predicted and recall S / true, so missed and extra boxes both cost. An invalid
    box matches nothing but counts as predicted. If there are no true boxes, only an empty list (`[]`) scores 1.
    """
    truth = gold_boxes(answer)
    predicted = read_boxes(completion)
    if not truth:
        return 1.0 if not predicted and _EMPTY.fullmatch(marked_answer(completion)) else 0.0
    if not predicted or len(predicted) > MAX_BOXES:
        return 0.0
    moved = to_gold_frame(predicted, answer, row, frame_out)
    boxes = [cut for box in moved if is_box(box) and (cut := _cut(box, truth, answer, row))]  # type: ignore[arg-type]
    total = matched_iou(boxes, truth)
    return min(1.0, 2.0 * total / (len(predicted) + len(truth)))


def _one_pair(
    completion: str, answer: Mapping[str, Any], frame_out: str | None, row: Mapping[str, Any]
) -> tuple[Box, Box] | None:
    """(predicted, true) box, or None if the text does not answer with one valid box."""
    truths = gold_boxes(answer)
    if len(truths) != 1:
        raise ValueError(f"answer.boxes: expected exactly one box, got {len(truths)}")
    boxes = read_boxes(completion)
    if len(boxes) != 1 or not is_box(boxes[0]):
        return None
    box: Box = to_gold_frame(boxes, answer, row, frame_out)[0]  # type: ignore[assignment]
    true = truths[0]
    if not is_box(box):
        return None
    too_large = box[2] - box[0] >= HUGE * (true[2] - true[0]) and box[3] - box[1] >= HUGE * (
        true[3] - true[1]
    )
    cut = None if too_large else _cut(box, truths, answer, row)
    return (cut, true) if cut else None


def _cut(box: Box, truths: list[Box], answer: Mapping[str, Any], row: Mapping[str, Any]) -> Box | None:
    """A valid box clipped to the image, or None if nothing is left. Where a true box extends past an edge (annotations are
    rounded), that edge is moved."""
    try:
        size = _image_extent(answer, row)
    except ValueError:  # the image cannot be read; its size is only needed to convert frames
        size = None
    right, bottom = size or (MAX_COORDINATE, MAX_COORDINATE)
    left = top = 0.0
    for true in truths:
        left, top, right, bottom = (
            min(left, true[0]),
            min(top, true[1]),
            max(right, true[2]),
            max(bottom, true[3]),
        )
    if left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom:
        return box
    cut = max(box[0], left), max(box[1], top), min(box[2], right), min(box[3], bottom)
    return cut if is_box(cut) else None


def _image_extent(answer: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, float] | None:
    """(width, height) of the image in the answer's frame; None if unknown. Raises ValueError if they are broken."""
    _, frame = frames_of(answer, row)
    if frame in ("norm1", "norm1000"):
        return extent(frame, None)
    size, resized = sizes_of(answer, row)
    return size if frame == "pixel" else resized

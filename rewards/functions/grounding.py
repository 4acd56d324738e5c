"""Rewards for boxes: GIoU and IoU of one box, IoU above that of a centred box, and a set reward for several.

Read from the answer (`rewards.reading.coordinates`): four numbers in brackets or a tag (`[x1, y1, x2, y2]`, `<box>…</box>`, JSON as
`{"bbox_2d": […]}`, fenced or bare), two corners (`(x1, y1), (x2, y2)`, "top-left (…), bottom-right (…)"), named numbers (`x1=…`,
`{"xmin": …}`), or four numbers that are the whole text or stand in a sentence. A box with NaN, true, a quoted number in a bare
list or another count of numbers is no box. Labels are not judged.

A box is valid if finite, within MAX_COORDINATE, in order and with an area. It is cut at the edges of the image (where the size
is not known, at 0), and scores 0 if nothing of it is left.
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
"""More boxes than this in one answer are no answer (and would make optimal matching slow): score 0."""

HUGE = 100.0
"""A box at least this many times as wide *and* as high as the true one is no localisation (typically a frame mistaken, such
as 0-1 for pixels): score 0."""

CENTRED = tuple(tenth / 10 for tenth in range(1, 11))
"""Sides of the centred boxes that `iou_above_centre` measures against, as shares of the image's sides."""

MAX_BASELINE = 0.95
"""A true box that equals a centred one to this IoU can be found without looking: `iou_above_centre` does not apply."""

_N = rf"\s{{0,9}}({NUMBER})\s{{0,9}}"
_LIST = rf"\[{_N},{_N},{_N},{_N}\]"
# The two forms that most answers have: the list alone, and Qwen's JSON of one object, fenced or bare.
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
    """All boxes in an answer, as written (not yet checked), in order; equal ones once. At most MAX_BOXES + 1.

    None at all if one of them is left open ("maybe …", "… or …").
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
    """Boxes of lists of four numbers, and of pairs of corners that stand together."""
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
    """Boxes of named numbers that stand together: x1, y1, x2, y2 (xmin, left, …) in any order, or x, y, width, height."""
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
    """The box of four named numbers, or None if the names don't make one. With x0, y0 the other corner is x1, y1."""
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


def check_box_in_image(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """As `check_one_box`, and the size of the image is known in the answer's frame."""
    check_one_box(answer, row)
    if _image_extent(answer, row) is None:
        raise ValueError("image_size: needed to know what a centred box gets, but not known")


@gold_check(check_one_box)
def giou_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """(GIoU + 1) / 2 of the one box in the text and the true box, in [0, 1] (MiMo-VL's map); 1 only for the true box.

    0 if the text holds no valid box, several different ones, a box outside the image, or one HUGE times too large: not
    answering never pays. The map has a floor: 0.5 is where boxes just touch in a row, and a box around the true one scores at
    least 0.5 however loose it is (GIoU is IoU there), so the whole image earns (1 + the true box's share of it) / 2. Where a
    policy settles on that, use `iou_above_centre`; docs/rewards.md has the figures.
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


@gold_check(check_box_in_image)
def iou_above_centre_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float | None:
    """max(0, (IoU - b) / (1 - b)), b the best IoU of a box centred in the image with the true box: in [0, 1], 1 only for it.

    A skill score: what can be had without looking is worth 0, for each row. The centred boxes have the image's shape and
    10 % to 100 % of its sides (CENTRED). Below b there is no slope, so that a group of poor answers teaches nothing instead of
    teaching the centre. None (does not apply) where b > MAX_BASELINE: such a true box says nothing about the answer.
    """
    true = gold_boxes(answer)[0]
    size = _image_extent(answer, row)
    if size is None:
        raise ValueError("image_size: needed to know what a centred box gets, but not known")
    baseline = centre_baseline(true, size)
    if baseline > MAX_BASELINE:
        return None
    pair = _one_pair(completion, answer, frame_out, row)
    return max(0.0, (iou(*pair) - baseline) / (1.0 - baseline)) if pair else 0.0


def centre_baseline(true: Box, size: tuple[float, float]) -> float:
    """Best IoU of a box centred in an image of this (width, height), of its shape and CENTRED sizes, with the true box."""
    width, height = size
    return max(
        iou(true, ((1 - s) / 2 * width, (1 - s) / 2 * height, (1 + s) / 2 * width, (1 + s) / 2 * height))
        for s in CENTRED
    )


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
    """(predicted, true) box, or None where the text is no answer."""
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
    """The part of a valid box that lies in the image, or None if there is none. A true box that passes an edge (by the rounding
    of an annotation) moves the edge."""
    try:
        size = _image_extent(answer, row)
    except ValueError:  # an image that cannot be read: its size is not needed where the frames are the same
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
    """(width, height) of the image in the answer's frame; None if they are not known, ValueError if they are broken."""
    _, frame = frames_of(answer, row)
    if frame in ("norm1", "norm1000"):
        return extent(frame, None)
    size, resized = sizes_of(answer, row)
    return size if frame == "pixel" else resized

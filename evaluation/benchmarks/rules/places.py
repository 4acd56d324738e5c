"""Points and boxes on images: the click is inside the true box, the box has an IoU of at least 0.5.

| function | source |
|---|---|
| `in_box` | likaixin2000/ScreenSpot-Pro-GUI-Grounding, `eval_screenspot_pro.py` (`eval_sample_positive_gt`); njucckevin/SeeClick, `pretrain/screenspot_test.py`: edges belong to the box |
| `in_region` | EvolvingLMMs-Lab/lmms-eval at 75571cf, `tasks/osworld_g/utils.py` (boxes, polygons, refusals) |
| `overlap` | RefCOCO/+/g: accuracy at IoU 0.5 (Yu et al., arXiv 1608.00272) |

Answers are read by the project's own readers, boxes and points in any form that they know; a box given for a point counts by its
centre, as in SeeClick. The record's `frame` says what the model's numbers mean: a frame of `rewards.geometry.frames`, or
`norm1_or_pixel` (fractions if both lie in [0, 1]).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.functions.grounding import read_boxes
from rewards.functions.pointing import read_points
from rewards.geometry.frames import convert
from rewards.geometry.overlap import iou, is_box

Point = tuple[float, float]
MATCHED = 0.5


def point(answer: Any, record: Mapping[str, Any]) -> Point | None:
    """The point that an answer gives, in pixels of the image; None without exactly one."""
    if isinstance(answer, str):
        boxes = read_boxes(answer)
        points = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in boxes] or read_points(answer)
    else:
        points = [tuple(answer)] if _are_numbers(answer, 2) else []
    return _in_pixels(points[0], record) if len(points) == 1 else None


def box(answer: Any, record: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The box that an answer gives, in pixels of the image; None without exactly one."""
    boxes = (
        read_boxes(answer) if isinstance(answer, str) else [tuple(answer)] if _are_numbers(answer, 4) else []
    )
    if len(boxes) != 1:
        return None
    x1, y1, x2, y2 = boxes[0]
    return (*_in_pixels((x1, y1), record), *_in_pixels((x2, y2), record))


def in_box(prediction: Point | None, record: Mapping[str, Any]) -> float:
    """1 if the point lies in the true box (x1, y1, x2, y2 in pixels), edges included."""
    return float(prediction is not None and _inside(prediction, record["box"]))


def in_half_open_box(prediction: Point | None, record: Mapping[str, Any]) -> float:
    """1 if the point lies in the true box without its right and lower edge, as OmniParser's log of ScreenSpot-Pro has it."""
    if prediction is None:
        return 0.0
    x1, y1, x2, y2 = record["box"]
    return float(x1 <= prediction[0] < x2 and y1 <= prediction[1] < y2)


def in_region(prediction: Point | None, record: Mapping[str, Any]) -> float:
    """1 if the point lies in the box (x, y, width, height) or polygon; for a refusal, if both numbers are negative."""
    if prediction is None:
        return 0.0
    x, y = prediction
    kind, shape = str(record["box_type"]).lower(), record["box_coordinates"]
    if kind == "refusal":
        return float(x < 0 and y < 0)
    if kind == "bbox":
        left, top, width, height = shape
        return float(_inside(prediction, (left, top, left + width, top + height)))
    if len(shape) == 4:
        return float(_inside(prediction, (*map(min, shape[:2], shape[2:]), *map(max, shape[:2], shape[2:]))))
    return float(_in_polygon(prediction, list(zip(shape[::2], shape[1::2], strict=False))))


def overlap(prediction: Sequence[float] | None, record: Mapping[str, Any]) -> dict[str, float]:
    """`correct`: the IoU with the true box is at least 0.5; and the `IoU` itself."""
    valid = prediction is not None and is_box(prediction)
    found = iou(prediction, record["box"]) if valid else 0.0  # type: ignore[arg-type]
    return {"correct": float(found >= MATCHED), "IoU": found}


def _in_pixels(given: Sequence[float], record: Mapping[str, Any]) -> Point:
    frame = record.get("frame", "pixel")
    if frame == "norm1_or_pixel":
        frame = "norm1" if all(0 <= v <= 1 for v in given) else "pixel"
    if min(given) < 0:  # `[-1, -1]`: there is nothing to click
        return given[0], given[1]
    size = record.get("image_size") or record.get("img_size")
    x, y = convert(given, frame, "pixel", tuple(size) if size else None, record.get("resized_size"))
    return x, y


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def _inside(at: Point, within: Sequence[float]) -> bool:
    return within[0] <= at[0] <= within[2] and within[1] <= at[1] <= within[3]


def _in_polygon(at: Point, corners: Sequence[Point]) -> bool:
    """By the number of edges that a ray to the right crosses."""
    if len(corners) < 3:
        return False
    (x, y), inside = at, False
    for (ax, ay), (bx, by) in zip(corners, [corners[-1], *corners[:-1]], strict=True):
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            inside = not inside
    return inside

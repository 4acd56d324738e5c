"""Rewards for points: point in box (half-open), distance to a point, and a set of points against a set of boxes.

Accepted forms (`rewards.reading.coordinates`): two numbers in brackets or a tag (`(x, y)`, `click(x, y)`, `<point>x y</point>`, JSON
as `{"point_2d": [x, y]}`, fenced or bare), a named pair (`x=1, y=2`, `{"x": 1, "y": 2}`, `<point x="1" y="2">`, `<points x1="1"
y1="2">`), or two numbers that are the whole text or part of a sentence. A box is not a point.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rewards.functions.grounding import gold_boxes
from rewards.geometry.frames import check_frames, extent, frames_of, sizes_of, to_gold_frame
from rewards.geometry.overlap import Box, Point, best_matching
from rewards.reading.coordinates import Named, answer_with_places, named_values, number_lists
from rewards.reading.final_answer import standing
from rewards.reading.gold import MAX_COORDINATE, field, gold_check, number, numbers
from rewards.reading.text import NUMBER, tail

MAX_POINTS = 512
"""An answer with more points than this scores 0."""

_N = rf"\s{{0,9}}({NUMBER})\s{{0,9}}"
_PLAIN_POINT = re.compile(rf"\s?[\[(]{_N},{_N}[\])]\s?")
_MOLMO = re.compile(r"<points?\s[^<>]{0,4000}>", re.IGNORECASE)
_X_OR_Y = re.compile(r"(x|y)([0-9]{0,3})")


def read_points(completion: object) -> list[Point]:
    """The points in an answer as written, in order, without duplicates; at most MAX_POINTS + 1.

    Empty if the answer leaves one of them open ("maybe …", "… or …").
    """
    plain = _PLAIN_POINT.fullmatch(tail(completion))
    if plain:  # the usual form, read quickly
        return [(float(plain.group(1)), float(plain.group(2)))]
    text = answer_with_places(completion)
    lists = number_lists(text)
    if lists is None:
        return []
    listed = [item.values for item in lists if len(item.values) == 2]
    found: dict[Any, None] = dict.fromkeys([*listed, *_named_points(text)])
    return list(found)[: MAX_POINTS + 1]


def _named_points(text: str) -> list[Point]:
    """Points from adjacent named pairs x, y; x1, y1, x2, y2, … only in a `<points …>` tag (elsewhere they are a box)."""
    tags = [match.span() for match in _MOLMO.finditer(text)]
    points: list[Point] = []
    x: Named | None = None
    end = 0  # of the last point
    for item in named_values(text):
        name = _X_OR_Y.fullmatch(item.name)
        if item.name in ("w", "h", "width", "height") and points and item.start - end <= 40:
            points.pop()  # it was the corner of a box
            end = 0
        if not name or (name.group(2) and not any(start <= item.start < stop for start, stop in tags)):
            continue
        if name.group(1) == "x":
            x = item
        elif x and x.name[1:] == name.group(2) and item.start - x.end <= 40:
            if standing(text[: x.start][-100:], text[item.end :][:40]) == "stated":
                points.append((x.value, item.value))
                end = item.end
            x = None
    return points


def inside(point: Point, box: Box) -> bool:
    """x1 <= x < x2 and y1 <= y < y2 (half-open), which reproduces all 1,581 results in ScreenSpot-Pro's published log."""
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


def _check_boxes(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    if not gold_boxes(answer):
        raise ValueError("answer.boxes: expected at least one box to point at, got none")
    check_frames(answer, row, row.get("frame_out"))


def _check_point(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    numbers(field(answer, "point"), 2, "answer.point")
    check_frames(answer, row, row.get("frame_out"))
    _radius(answer, row, row.get("radius"))


@gold_check(_check_boxes)
def point_in_box_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """1 if the one point in the text lies in the true box (in any, if there are several), else 0."""
    boxes = gold_boxes(answer)
    point = _one_point(completion, answer, frame_out, row)
    return 1.0 if point and any(inside(point, box) for box in boxes) else 0.0


@gold_check(_check_point)
def point_distance_reward(
    completion: str,
    answer: Mapping[str, Any],
    *,
    frame_out: str | None = None,
    radius: float | None = None,
    **row: Any,
) -> float:
    """exp(-distance / radius) to the true point `{"point": [x, y]}`, in [0, 1]: 1 only at the point, 0.37 one radius away.

    `radius` (the option, else `answer.radius`, in units of the answer's frame) defaults to 5 % of the frame's diagonal.
    0 if the text has no point or several different ones.
    """
    x, y = numbers(field(answer, "point"), 2, "answer.point")
    scale = _radius(answer, row, radius)
    point = _one_point(completion, answer, frame_out, row)
    if point is None:
        return 0.0
    if point == (x, y):
        return 1.0
    return min(math.exp(-math.hypot(point[0] - x, point[1] - y) / scale), math.nextafter(1.0, 0.0))


@gold_check(_check_boxes)
def point_set_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float:
    """F1 of pointing at several boxes: 2 hits / (points + boxes), with hits counted under the best one-to-one matching."""
    boxes = gold_boxes(answer)
    points = read_points(completion)
    if not points or not boxes or len(points) > MAX_POINTS:
        return 0.0
    moved = [(x, y) for x, y in to_gold_frame(points, answer, row, frame_out)]
    hits = np.array([[float(inside(point, box)) for box in boxes] for point in moved])
    return 2.0 * sum(float(hits[i, j]) for i, j in best_matching(hits)) / (len(points) + len(boxes))


def _one_point(
    completion: str, answer: Mapping[str, Any], frame_out: str | None, row: Mapping[str, Any]
) -> Point | None:
    points = read_points(completion)
    if len(points) != 1 or not all(abs(value) <= MAX_COORDINATE for value in points[0]):
        return None
    x, y = to_gold_frame(points, answer, row, frame_out)[0]
    return x, y


def _radius(answer: Mapping[str, Any], row: Mapping[str, Any], radius: float | None) -> float:
    given = radius if radius is not None else answer.get("radius")
    if given is None:
        _, frame = frames_of(answer, row)
        size, resized = sizes_of(answer, row) if frame in ("pixel", "resized") else (None, None)
        return 0.05 * math.hypot(*extent(frame, size, resized))
    value = number(given, "radius")
    if value <= 0:
        raise ValueError(f"radius: expected a positive number, got {given!r:.80}")
    return value

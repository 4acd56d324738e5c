"""Boxes, points and spans of an answer for drawing, read by the rewards' own parsers, in pixels and seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.page.pictures import Marks
from rewards.functions.grounding import gold_boxes, read_boxes
from rewards.functions.pointing import read_points
from rewards.functions.temporal import gold_spans, read_spans
from rewards.geometry.frames import convert, frames_of, from_model, sizes_of
from rewards.geometry.overlap import is_box

MAX_MARKS = 32  # drawn for one answer


def gold_marks(record: Mapping[str, Any]) -> Marks:
    """The true boxes, points or spans of a rollout's row; empty for other kinds of answer."""
    answer = record.get("answer") or {}
    if _is_temporal(answer):
        return Marks(spans=tuple(gold_spans(answer)))
    _, frame = frames_of(answer, record) if _is_spatial(answer) else (None, None)
    boxes = gold_boxes(answer) if "boxes" in answer or "box" in answer else []
    points = [tuple(answer["point"])] if answer.get("point") else []
    return Marks(
        boxes=tuple(_to_pixels(box, frame, record) for box in boxes[:MAX_MARKS]),
        points=tuple(_to_pixels(point, frame, record) for point in points),
    )


def model_marks(record: Mapping[str, Any], conclusion: str | None) -> Marks:
    """The marks in the model's conclusion, read as its reward reads it; empty if it is not a valid answer.

    Points are read for tasks answered by a point (`pointing`, or a true point), boxes otherwise.
    """
    answer = record.get("answer") or {}
    if conclusion is None:
        return Marks()
    if _is_temporal(answer):
        return Marks(spans=tuple((read_spans(conclusion) or [])[:MAX_MARKS]))
    if not _is_spatial(answer):
        return Marks()
    frame, _ = frames_of(answer, record)
    if record.get("task") == "pointing" or answer.get("point"):
        points = read_points(conclusion)[:MAX_MARKS]
        return Marks(points=tuple(from_model(p, frame, "pixel", answer, record) for p in points))  # type: ignore[misc]
    boxes = [box for box in read_boxes(conclusion)[:MAX_MARKS] if is_box(box)]
    return Marks(boxes=tuple(from_model(box, frame, "pixel", answer, record) for box in boxes))  # type: ignore[misc]


def answer_text(answer: Mapping[str, Any] | None) -> str:
    """The true answer as text."""
    if not answer:
        return "none given"
    if "letter" in answer:
        index = ord(str(answer["letter"])[:1].upper() or "?") - ord("A")
        options = answer.get("options") or []
        return (
            f"{answer['letter']} ({options[index]})" if 0 <= index < len(options) else str(answer["letter"])
        )
    parts = []
    for key, value in answer.items():
        if key in ("frame", "options", "image") or value is None:
            continue
        shown = _numbers(value)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            key = {"boxes": "box", "spans": "span"}.get(key, key)
        parts.append(shown if key == "value" else f"{key} {shown}{' s' if key.startswith('span') else ''}")
    frame = f" ({answer['frame']})" if answer.get("frame") not in (None, "pixel") else ""
    return ", ".join(parts) + frame


def _is_temporal(answer: Mapping[str, Any]) -> bool:
    return bool(answer.get("spans") or answer.get("span"))


def _is_spatial(answer: Mapping[str, Any]) -> bool:
    return any(answer.get(key) is not None for key in ("boxes", "box", "point"))


def _to_pixels(values: Any, frame: str | None, record: Mapping[str, Any]) -> Any:
    size, resized = sizes_of(record.get("answer") or {}, record) if frame != "pixel" else (None, None)
    return convert(values, frame or "pixel", "pixel", size, resized)


def _numbers(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        inner = ", ".join(_numbers(v) for v in value)
        return inner if value and isinstance(value[0], (list, tuple)) else f"[{inner}]"
    return f"{value:g}" if isinstance(value, float) else str(value)

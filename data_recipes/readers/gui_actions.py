"""The next action on a screen: GUI-R1 and Multimodal-Mind2Web. All rows are of task `action` (rewards/functions/actions.py).

| format | record |
|---|---|
| gui_r1 | {"image", "instruction", "history", "gt_action", "gt_bbox", "gt_input_text", "task_type"}, places as fractions |
| mind2web | {"screenshot", "confirmed_task", "operation", "pos_candidates", "action_uid", …}, boxes in pixels |

GUI-R1: ritzzai/GUI-R1 (MIT), Parquet; `gt_bbox` has four numbers, or two where the source had a point (AndroidControl), around which
a square is put. Its actions become those of MiMo-VL's space: complete is finished, press_home, press_back and enter are keys;
close/delete has no counterpart and is rejected.
Multimodal-Mind2Web: osunlp/Multimodal-Mind2Web (OpenRAIL), Parquet. A step whose element is not on the page (no positive candidate
with a box) is rejected.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from core.rows import Row
from data_recipes.readers.chat import source
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.places import PlaceOptions, ask, fill, four, media_path, plain, xywh
from data_recipes.records import Format, Record, Rejected

KEYS = {"press_home": "home", "press_back": "back", "enter": "enter"}
NO_TEXT = ("", "no input text")


class ActionOptions(PlaceOptions):
    """Options of the formats gui_r1 and mind2web."""

    prompt: str = (
        "The task is: {task}\nDone so far: {history}\nWhat is the next action on this screen? Answer with one JSON object, such as"
        ' {"action": "click", "start_point": [x, y]}, {"action": "input", "text": "…"}, {"action": "select", "text": "…"},'
        ' {"action": "scroll", "direction": "down"}, {"action": "press", "keys": ["enter"]} or {"action": "finished", "status":'
        ' "success"}; points are in {unit}.'
    )
    """Question; {task} is what is to be done, {history} what has been, {unit} names the frame of points."""


class GUIR1Options(ActionOptions):
    """Options of the format gui_r1."""

    radius: float = Field(default=0.14, gt=0.0, le=1.0)
    """Half the side of the square around a point that counts as a hit, in fractions of the screen; 0.14 as in AndroidControl's
    usual evaluation."""


def read(path: Path, options: ActionOptions) -> Iterator[Record]:
    """Records in file order."""
    return records(path, options.split)


# -------------------------------------------------------------------------------------------------------------- GUI-R1


def gui_r1(record: Record, options: GUIR1Options) -> Iterable[Row]:
    """One row."""
    data = record.data
    name = need(data, "gt_action", str, "an action's name").strip().lower()
    text = data.get("gt_input_text")
    text = text.strip() if isinstance(text, str) and text.strip().lower() not in NO_TEXT else None
    answer: dict[str, Any]
    if name == "click":
        answer = {
            "action": "click",
            "start_box": _fractions(data.get("gt_bbox"), options.radius),
            "frame": "norm1",
        }
    elif name == "type":
        answer = {"action": "input", "text": text}
    elif name == "select":
        answer = {"action": "select", "text": text}
    elif name == "scroll":
        answer = {"action": "scroll", "direction": None if text is None else text.lower()}
    elif name == "complete":
        answer = {"action": "finished"}
    elif name in KEYS:
        answer = {"action": "press", "keys": [KEYS[name]]}
    else:
        raise Rejected(
            f"field 'gt_action': expected click, type, select, scroll, complete or a key, got {show(name)}"
        )
    if None in answer.values():
        raise Rejected(
            f"field 'gt_input_text': expected the text of {name}, got {show(data.get('gt_input_text'))}"
        )
    kept = {key: data[key] for key in ("task_type", "history") if isinstance(data.get(key), str)}
    return [
        _row(record, options, answer, "instruction", data.get("history"), "image", ("GUI-R1", "MIT")) | kept
    ]


def _fractions(value: Any, radius: float) -> list[float]:
    """[x1, y1, x2, y2] of a box, or around a point, in fractions of the screen."""
    if isinstance(value, list) and len(value) == 2:
        x, y, _, _ = four([*value, 0, 0], "gt_bbox")
        box = [max(0.0, x - radius), max(0.0, y - radius), min(1.0, x + radius), min(1.0, y + radius)]
        box = [round(v, 6) for v in box]
    else:
        box = list(four(value, "gt_bbox"))
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise Rejected(
            f"field 'gt_bbox': expected a box or a point in fractions of the screen, got {show(value)}"
        )
    return [plain(v) for v in box]


# ------------------------------------------------------------------------------------------------------------ Mind2Web


def mind2web(record: Record, options: ActionOptions) -> Iterable[Row]:
    """One row."""
    data = record.data
    operation = json_object(need(data, "operation", (str, dict), "JSON of the operation"), "operation")
    name = need(operation, "op", str, "CLICK, TYPE or SELECT").upper()
    box = _target(data)
    if name == "CLICK":
        hover = operation.get("original_op") == "HOVER"
        answer: dict[str, Any] = {"action": "hover" if hover else "click", "start_box": box, "frame": "pixel"}
    elif name in ("TYPE", "SELECT"):
        value = need(operation, "value", str, "a text").strip()
        if not value:
            raise Rejected("field 'operation.value': expected a text, got an empty one")
        answer = {"action": "select", "text": value}
        if name == "TYPE":
            answer = {"action": "input", "text": value, "start_box": box, "frame": "pixel"}
    else:
        raise Rejected(f"field 'operation.op': expected CLICK, TYPE or SELECT, got {show(name)}")
    steps, index = data.get("action_reprs"), data.get("target_action_index")
    done = (
        [str(step) for step in steps[: int(index)]]
        if isinstance(steps, list) and str(index).isdecimal()
        else []
    )
    kept = {
        key: data[key]
        for key in ("website", "domain", "subdomain", "annotation_id")
        if isinstance(data.get(key), str)
    }
    licence = ("Multimodal-Mind2Web", "OpenRAIL")
    return [_row(record, options, answer, "confirmed_task", "; ".join(done), "screenshot", licence) | kept]


def _target(data: dict[str, Any]) -> list[float]:
    """The box of the first positive candidate that has one."""
    for i, text in enumerate(need(data, "pos_candidates", list, "a list of elements")):
        candidate = json_object(text, f"pos_candidates[{i}]")
        attributes = candidate.get("attributes")
        attributes = json_object(attributes, f"pos_candidates[{i}].attributes") if attributes else {}
        rect = attributes.get("bounding_box_rect")
        if isinstance(rect, str):
            try:
                values = [float(part) for part in rect.split(",")]
            except ValueError:
                values = []
            return xywh(values, f"pos_candidates[{i}].bounding_box_rect")
    raise Rejected("field 'pos_candidates': expected an element with bounding_box_rect, got none")


def json_object(value: Any, field: str) -> dict[str, Any]:
    """An object, or JSON text of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Rejected(f"field '{field}': expected JSON of an object, got {show(value)}") from None
    if not isinstance(value, dict):
        raise Rejected(f"field '{field}': expected an object, got {show(value)}")
    return value


# ----------------------------------------------------------------------------------------------------------------- rows


def _row(
    record: Record,
    options: ActionOptions,
    answer: dict[str, Any],
    task_field: str,
    history: Any,
    image_field: str,
    published: tuple[str, str],
) -> Row:
    data = record.data
    task = need(data, task_field, str, "what is to be done").strip()
    if not task:
        raise Rejected(f"field '{task_field}': expected what is to be done, got an empty text")
    done = history.strip() if isinstance(history, str) and history.strip() else "nothing"
    image = data.get(image_field)
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        image = {"bytes": image["bytes"]}
    else:
        path = image.get("path") if isinstance(image, dict) else image
        if not isinstance(path, str) or not path:
            raise Rejected(
                f"field '{image_field}': expected the screenshot's path or bytes, got {show(image)}"
            )
        image = media_path(path, image_field, record, options.media)
    frame_out = options.frame_out or "pixel"
    return {
        "id": str(record.at),
        "task": "action",
        "prompt": ask(fill(options.prompt, task=task, history=done, unit=options.unit())),
        "images": [image],
        "answer": answer,
        "source": source(options, *published),
        "frame_out": frame_out,
    }


def looks_like_gui_r1(path: Path, first: Any) -> bool:
    """True for records with an action as truth."""
    return isinstance(first, dict) and {"gt_action", "gt_bbox", "instruction"} <= set(first)


def looks_like_mind2web(path: Path, first: Any) -> bool:
    """True for steps of a task on the web."""
    return isinstance(first, dict) and {"confirmed_task", "operation", "pos_candidates"} <= set(first)


FORMATS = (
    Format("gui_r1", "GUI-R1: the next action on a screen", read, gui_r1, looks_like_gui_r1, GUIR1Options),
    Format(
        "mind2web",
        "Multimodal-Mind2Web: the next action on a page",
        read,
        mind2web,
        looks_like_mind2web,
        ActionOptions,
    ),
)

"""Clicks on screenshots: ScreenSpot, ScreenSpot-v2, ScreenSpot-Pro and ScreenAgent. All rows are of task pointing.

| format | record | box |
|---|---|---|
| screenspot | {"img_filename", "bbox", "instruction", "data_type", "data_source"} (v1 and v2) | x, y, width, height in pixels |
| screenspot_pro | {"id", "img_filename", "img_size", "bbox", "instruction", "application", "platform", "ui_type"} | xyxy pixels |
| screenagent | a folder of sessions, one JSON per step, screenshots in images/ | around the point clicked, of a given radius |

ScreenSpot: njucckevin/SeeClick, pretrain/screenspot_test.py (v2, OS-Copilot/ScreenSpot-v2, corrects v1 in the same format).
Derived files are also read: with a field `image` instead of `img_filename`, a list of several boxes (each of them is correct),
and ScreenSpot-Pro's published logs (`img_path`, `prompt_to_evaluate`).
ScreenSpot-Pro: likaixin2000/ScreenSpot-Pro-GUI-Grounding, eval_screenspot_pro.py.
ScreenAgent: niuzaisheng/ScreenAgent, data/ScreenAgent/train/<session>/*.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from core.rows import Row
from data_recipes.files.json_text import parse_json
from data_recipes.readers.chat import source
from data_recipes.readers.files import file_record, need, show
from data_recipes.readers.folders import records
from data_recipes.readers.places import (
    PlaceOptions,
    ask,
    fill,
    four,
    image_size,
    media_path,
    plain,
    xywh,
    xyxy,
)
from data_recipes.records import Format, Record, Rejected

KEPT = ("data_type", "data_source", "platform", "application", "group", "ui_type", "instruction_cn", "scale")


class ScreenSpotOptions(PlaceOptions):
    """Options of the formats screenspot and screenspot_pro."""

    boxes: Literal["xywh", "xyxy", "norm1"] | None = None
    """Layout of `bbox`: x, y, width, height; corners; or corners as fractions (Parquet copies on model hubs). Default: xywh for
    ScreenSpot and its v2, xyxy for Pro."""
    text: str = "instruction"
    """Field with the text of what to point at; `description` in files that describe each element."""
    prompt: str = "Where on this screen do you click to do the following? {instruction}\nAnswer with the point as (x, y) in {unit}."
    """Question; {instruction} is the text, {unit} names the frame."""


class ScreenAgentOptions(PlaceOptions):
    """Options of the format screenagent."""

    radius: float = Field(default=14.0, gt=0.0, allow_inf_nan=False)
    """Half the side, in pixels, of the square around the annotated point that counts as a hit, clipped to the screen. 14 is
    about half a toolbar button."""
    language: Literal["en", "zh"] = "en"
    """Language of task and subtask."""
    prompt: str = (
        "The task is: {task}\nThe current step is: {subtask}\nWhere on this screen do you click? Answer with the point as (x, y) in"
        " {unit}."
    )
    """Question; {task} is the whole task, {subtask} the step, {unit} names the frame."""


# --------------------------------------------------------------------------------------------------------- ScreenSpot


def read_screenspot(path: Path, options: ScreenSpotOptions) -> Iterator[Record]:
    """Records of a file, or of all .json, .jsonl and .parquet files of a folder in the order of names."""
    return records(path, options.split)


def convert_screenspot(record: Record, options: ScreenSpotOptions) -> Iterator[Row | Rejected]:
    """ScreenSpot and its v2."""
    yield _screenspot(record, options, options.boxes or "xywh", "ScreenSpot", "Apache-2.0")


def convert_pro(record: Record, options: ScreenSpotOptions) -> Iterator[Row | Rejected]:
    """ScreenSpot-Pro."""
    if isinstance(record.data, dict) and record.data.get("gt_type", "positive") != "positive":
        raise Rejected(
            f"field 'gt_type': expected positive (an element that is there), got {show(record.data['gt_type'])}"
        )
    yield _screenspot(record, options, options.boxes or "xyxy", "ScreenSpot-Pro", "unknown")


def _screenspot(record: Record, options: ScreenSpotOptions, layout: str, dataset: str, licence: str) -> Row:
    data = record.data
    given = need(data, "bbox", list, "four numbers")
    several = bool(given) and isinstance(given[0], list)
    boxes = [
        _box(box, f"bbox[{i}]" if several else "bbox", layout)
        for i, box in enumerate(given if several else [given])
    ]
    field = (
        "prompt_to_evaluate" if "prompt_to_evaluate" in data and options.text not in data else options.text
    )
    text = need(data, field, str, "what to point at").strip()
    if not text:
        raise Rejected(f"field '{field}': expected what to point at, got an empty text")
    frame = "norm1" if layout == "norm1" else "pixel"
    own = data.get("id")
    place = f"{record.file.stem}-{record.at}"
    size = data.get("img_size")
    width, height = size if isinstance(size, list) and len(size) == 2 else (None, None)
    return {
        "id": f"{own}@{place}" if isinstance(own, str | int) else place,
        "task": "pointing",
        "prompt": ask(fill(options.prompt, instruction=text, unit=options.unit())),
        "images": [_screenshot(record, options)],
        "answer": {"boxes": boxes, "frame": frame} if several else {"box": boxes[0], "frame": frame},
        "source": source(options, dataset, licence),
        **image_size(width, height),
        **{key: data[key] for key in KEPT if data.get(key) is not None},
        **({"frame_out": "pixel"} if frame == "norm1" else {}),
        **options.extra(),
    }


def _box(value: Any, field: str, layout: str) -> list[float]:
    return xywh(value, field) if layout == "xywh" else xyxy(value, field)


def _screenshot(record: Record, options: PlaceOptions) -> Any:
    """Path of the record's screenshot, or its bytes (Parquet copies on model hubs)."""
    data = record.data
    field = next((key for key in ("img_filename", "image", "img_path") if data.get(key)), "img_filename")
    value = data.get(field)
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return {"bytes": value["bytes"]}
    return media_path(need(data, field, str, "the screenshot's path"), field, record, options.media)


def looks_like_screenspot(path: Path, first: Any) -> bool:
    """True for records with the fields of ScreenSpot and none of Pro."""
    return isinstance(first, dict) and {"bbox", "instruction", "data_type"} <= set(first)


def looks_like_pro(path: Path, first: Any) -> bool:
    """True for records with the fields of ScreenSpot-Pro or its logs."""
    if not isinstance(first, dict):
        return False
    return {"bbox", "ui_type", "application"} <= set(first) and bool(
        {"instruction", "prompt_to_evaluate"} & set(first)
    )


# -------------------------------------------------------------------------------------------------------- ScreenAgent

CLICKS = ("click", "double_click")
_SUBTASK = {
    "en": re.compile(r"The current sub ?task is \"(.*)\"?\. Please give", re.DOTALL),
    "zh": re.compile(r"现在的子任务是\s?[“\"](.*)[”\"][，。,]", re.DOTALL),
}


def read_screenagent(path: Path, options: ScreenAgentOptions) -> Iterator[Record]:
    """One record per step file of all sessions in a folder, sorted by name; or one file."""
    for file in [path] if path.is_file() else sorted(path.rglob("*.json")):
        yield file_record(file, 1, parse_json, "JSON")


def convert_screenagent(record: Record, options: ScreenAgentOptions) -> Iterator[Row | Rejected]:
    """One row for a step whose first action is its only click; otherwise the screenshot may not show what is clicked."""
    data = record.data
    actions = need(data, "actions", list, "the step's actions")
    kinds = [
        a.get("mouse_action_type") or a.get("action_type") if isinstance(a, dict) else None for a in actions
    ]
    if not actions or kinds[0] not in CLICKS:
        raise Rejected(f"field 'actions': expected a click first, got {', '.join(map(str, kinds)) or 'none'}")
    if sum(kind in CLICKS for kind in kinds) > 1:
        raise Rejected(
            f"field 'actions': expected one click on the screen shown, got {', '.join(map(str, kinds))}"
        )
    width = need(data, "video_width", int, "the screen's width in pixels")
    height = need(data, "video_height", int, "the screen's height in pixels")
    x, y = _point(actions[0])
    if not (0 <= x < width and 0 <= y < height):
        raise Rejected(
            f"field 'mouse_position': expected a point on the screen of {width} x {height}, got ({x:g}, {y:g})"
        )
    r = options.radius
    box = [plain(v) for v in (max(0, x - r), max(0, y - r), min(width, x + r), min(height, y + r))]
    task = need(data, f"task_prompt_{options.language}", str, "the task")
    subtask = _subtask(need(data, f"send_prompt_{options.language}", str, "the prompt"), options.language)
    picture = need(data, "saved_image_name", str, "the screenshot's name")
    folder = options.media / record.file.parent.name if options.media else record.file.parent
    yield {
        "id": f"{record.file.parent.name}-{record.file.stem}",
        "task": "pointing",
        "prompt": ask(fill(options.prompt, task=task.strip(), subtask=subtask, unit=options.unit())),
        "images": [media_path(f"images/{picture}", "saved_image_name", record, folder)],
        "answer": {"box": box, "frame": "pixel"},
        "source": source(options, "ScreenAgent", "Apache-2.0"),
        "point": [plain(x), plain(y)],
        "action": kinds[0],
        "button": actions[0].get("mouse_button"),
        "session": data.get("session_id") or record.file.parent.name,
        **image_size(width, height),
        **options.extra(),
    }


def _point(action: dict[str, Any]) -> tuple[float, float]:
    """(x, y) of a click; ScreenAgent writes x as width and y as height."""
    position = need(action, "mouse_position", dict, "{'width': x, 'height': y}")
    x, y, _, _ = four([position.get("width"), position.get("height"), 0, 0], "mouse_position")
    return x, y


def _subtask(prompt: str, language: str) -> str:
    """The current step, from the last sentence of the prompt that names it."""
    marks = {"en": "The current sub", "zh": "现在的子任务是"}
    start = prompt.rfind(marks[language])
    match = _SUBTASK[language].match(prompt, max(start, 0))
    if not match or not match.group(1).strip(' "'):
        raise Rejected(
            f"field 'send_prompt_{language}': expected the current subtask in it, got {show(prompt[-60:])}"
        )
    return match.group(1).strip().strip('"“”').strip()


def looks_like_screenagent(path: Path, first: Any) -> bool:
    """True for a step file, or a folder of session folders with step files."""
    if path.is_dir():
        file = next((f for f in sorted(path.rglob("*.json"))[:50]), None)
        if file is None or file.stat().st_size > 1_000_000:
            return False
        try:
            first = json.loads(file.read_bytes())
        except ValueError:
            return False
    return isinstance(first, dict) and {"actions", "saved_image_name", "send_prompt"} <= set(first)


FORMATS = (
    Format(
        "screenspot",
        "ScreenSpot and ScreenSpot-v2: elements of screenshots",
        read_screenspot,
        convert_screenspot,
        looks_like_screenspot,
        ScreenSpotOptions,
    ),
    Format(
        "screenspot_pro",
        "ScreenSpot-Pro: elements of professional software",
        read_screenspot,
        convert_pro,
        looks_like_pro,
        ScreenSpotOptions,
    ),
    Format(
        "screenagent",
        "ScreenAgent: clicks in recorded desktop sessions",
        read_screenagent,
        convert_screenagent,
        looks_like_screenagent,
        ScreenAgentOptions,
    ),
)

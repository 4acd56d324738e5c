"""Conversations whose answer is boxes in JSON, as Qwen2.5-VL, MiMo-VL and related tools write them.

    {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\nLocate the house … in JSON format."},
                                         {"from": "gpt", "value": "{\\"bbox_2d\\": [135, 114, 1016, 672]}"}]}
    {"images": ["a.jpg"], "messages": [{"role": "user", "content": "<image>Find all cells."}, {"role": "assistant",
     "content": "```json\\n[{\\"bbox_2d\\": [12, 30, 80, 95], \\"label\\": \\"cell\\"}]\\n```"}]}

The answer is one object with `bbox_2d`, a list of them, or a bare [x1, y1, x2, y2] (VLM-R1), fenced or not. Such files do not
say what the numbers mean, so the option `frame` must: Qwen2.5-VL's fine-tuning code expects `resized` pixels, files converted
from other data often have `pixel`, and Qwen3-VL's and Qwen2-VL's have `norm1000`.
Format: QwenLM/Qwen2.5-VL, qwen-vl-finetune/README.md ("Grounding Example") and cookbooks/spatial_understanding.ipynb.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.readers.chat import SourceOptions, dialogue, front_placeholders, media_list, own_id, source
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.places import Frame, xyxy
from data_recipes.records import Format, Record, Rejected

ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_FENCE = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)


class BoxesJsonOptions(SourceOptions):
    """Options of the format boxes_json."""

    frame: Frame
    """Coordinate frame of the file's boxes (docs/data_format.md). There is no default, because a wrong frame silently ruins
    the data."""
    frame_out: Frame | None = None
    """Frame in which the model is asked to answer; default: the file's own, since the questions are kept unchanged."""
    min_pixels: int | None = None
    """For frame `resized`: minimum image area in pixels when the boxes were made; default: the processor's."""
    max_pixels: int | None = None
    """For frame `resized`: maximum image area in pixels; default: the processor's."""
    trace: bool = True
    """Keep the answer's text as the trace for SFT."""


def read(path: Path, options: BoxesJsonOptions) -> Iterator[Record]:
    """Records of a .jsonl, .json or .parquet file."""
    return records(path, options.split)


def convert(record: Record, options: BoxesJsonOptions) -> Iterator[Row | Rejected]:
    """One row: `grounding` for one box, `detection` for several or none."""
    data = record.data
    turns = _turns(data)
    if [role for role, _ in turns if role != "system"] != ["user", "assistant"]:
        raise Rejected(
            f"field 'conversations': expected one question and one answer, got {[role for role, _ in turns]}"
        )
    folder = (options.media or record.file.parent).absolute()
    images = media_list(data.get("images", data.get("image")), "images", folder)
    if len(images) != 1:
        raise Rejected(f"field 'images': expected one image that the boxes lie in, got {len(images)}")
    row = dialogue(front_placeholders(turns, images, []), images, [], "conversations")
    boxes, labels = read_answer(turns[-1][1])
    limits = {"min_pixels": options.min_pixels, "max_pixels": options.max_pixels}
    yield row | {
        "id": own_id(record, "id"),
        "task": "grounding" if len(boxes) == 1 else "detection",
        "answer": {"boxes": boxes, "frame": options.frame},
        "trace": row["trace"] if options.trace else None,
        "labels": labels,
        "source": source(options, "boxes in JSON", "unknown"),
        **({"frame_out": options.frame_out} if options.frame_out else {}),
        **{name: value for name, value in limits.items() if value is not None},
    }


def _turns(data: Any) -> list[tuple[str, str]]:
    """(role, text) of the record's messages."""
    field = "messages" if isinstance(data, dict) and "messages" in data else "conversations"
    turns = []
    for i, message in enumerate(need(data, field, list, "a list of messages")):
        at = f"{field}[{i}]"
        if not isinstance(message, dict):
            raise Rejected(f"field '{at}': expected a message, got {show(message)}")
        role, text = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or role not in ROLES:
            raise Rejected(f"field '{at}': expected a role of {', '.join(ROLES)}, got {show(role)}")
        turns.append((ROLES[role], _text(text, at)))
    return turns


def _text(content: Any, at: str) -> str:
    """A message's text; parts of type image become <image>."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise Rejected(f"field '{at}': expected text or content parts, got {show(content)}")
    parts = ["<image>" if part.get("type") == "image" else str(part.get("text") or "") for part in content]
    return "".join(parts)


def read_answer(text: str) -> tuple[list[list[float]], list[str | None]]:
    """(boxes, labels) of an answer's JSON; Rejected names what is wrong with it."""
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except ValueError:
        raise Rejected(f"field 'answer': expected boxes in JSON and nothing else, got {show(text)}") from None
    if isinstance(value, list) and len(value) == 4 and not any(isinstance(v, list | dict) for v in value):
        return [xyxy(value, "answer")], [None]
    boxes, labels = [], []
    for i, item in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(item, dict):
            raise Rejected(f"field 'answer[{i}]': expected an object with bbox_2d, got {show(item)}")
        key = "bbox_2d" if "bbox_2d" in item else "bbox"
        boxes.append(xyxy(item.get(key), f"answer[{i}].{key}"))
        label = item.get("label")
        labels.append(label if isinstance(label, str) else None)
    return boxes, labels


def looks_like(path: Path, first: Any) -> bool:
    """True for a conversation whose last message is boxes in JSON."""
    try:
        turns = _turns(first)
        read_answer(turns[-1][1])
    except (Rejected, IndexError):
        return False
    return True


FORMATS = (
    Format(
        "boxes_json",
        "Conversations answered by boxes in JSON (Qwen2.5-VL, MiMo-VL, VLM-R1)",
        read,
        convert,
        looks_like,
        BoxesJsonOptions,
    ),
)

"""ms-swift's files: messages, query and response, or Alpaca, with `images`, `videos` and `objects`.

    {"messages": [{"role": "user", "content": "<image>Find the <ref-object>"}, {"role": "assistant", "content": "<bbox><bbox>"}],
     "images": ["a.jpg"], "objects": {"ref": ["sheep"], "bbox": [[90.9, 160.8, 135, 212.8], [360.9, 480.8, 495, 532.8]]}}

As in github.com/modelscope/ms-swift (docs/source_en/Customization/Custom-dataset.md, swift/llm/template/base.py and
swift/llm/dataset/preprocessor/core.py): `<ref-object>` and `<bbox>` stand for the entries of `objects.ref` and `objects.bbox` in
reading order; `bbox_type` is `real` (pixels, the default) or `norm1` (fractions), `image_id` is the index of the image a box is
in (default 0); a box of two numbers is a point. Missing `<image>` tags are prepended to the first message. Boxes are written
`[x1, y1, x2, y2]`: whole pixels, or fractions with four decimals. Tool calls (`tool_call`, `tool_response`) get Qwen's form.
Audio and preference data (`audios`, `rejected_response`, `label`) are Rejected.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.readers.chat import (
    ChatOptions,
    dialogue,
    front_placeholders,
    inline_media,
    media_list,
    own_id,
    refuse_preference,
    source,
    tool_calls,
    with_gold,
)
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.records import Format, Record, Rejected
from rewards.reading.gold import numbers

_TAG = re.compile(r"<ref-object>|<bbox>")
FRAMES = {"real": "pixel", "norm1": "norm1"}


class MsSwiftOptions(ChatOptions):
    """Options of `ms_swift`. `media`: where relative paths start from; null: the file's folder."""

    gold: str | None = None
    """Where the gold answer is: a column (`solution`), `last` for the last assistant turn, or `objects` for the boxes or the
    point in the only answer (`task: grounding`, `pointing`). null: rows for SFT, without an answer."""


def read(path: Path, options: MsSwiftOptions) -> Iterator[Record]:
    """Records of a .jsonl, .json or .parquet file."""
    return records(path, options.split)


def convert(record: Record, options: MsSwiftOptions) -> Iterable[Row]:
    """One row; boxes and names are inserted into the text, and `objects` is kept with its frame."""
    data = record.data
    if not isinstance(data, dict):
        raise Rejected(f"expected a JSON object, got {show(data)}")
    for field, kind in (("audios", "audio"), ("rejected_response", "preference data"), ("label", "labels")):
        if data.get(field) not in (None, []):
            raise Rejected(f"field '{field}': expected none, got some ({kind} is not for SFT or RLVR rows)")
    refuse_preference(data)
    field, turns = _turns(data)
    folder = options.media or record.file.parent
    images = media_list(data.get("images") or data.get("image"), "images", folder)
    videos = media_list(data.get("videos") or data.get("video"), "videos", folder)
    turns, images, videos = inline_media(turns, images, videos, folder)
    turns = front_placeholders(turns, images, videos)
    objects = _objects(data.get("objects"), len(images))
    texts, named = _substituted([text for _, text in turns], objects)
    turns = [(role, text) for (role, _), text in zip(turns, texts, strict=True)]
    row: Row = {"id": own_id(record, "id"), "task": options.task} | dialogue(turns, images, videos, field)
    if options.gold == "objects":
        row |= {"answer": _gold_boxes(row, objects, named), "trace": None}
    else:
        row |= with_gold(row, data, options)
    kept = {key: data[key] for key in ("tools", "channel", "data_source") if data.get(key) is not None}
    if objects:
        kept["objects"] = objects
    return [row | kept | {"source": source(options, record.file.stem, "unknown")}]


# -------------------------------------------------------------------------------------------------------------- turns


def _turns(data: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """(field, turns) of a dialogue in any of ms-swift's four forms."""
    system = data.get("system") or data.get("system_prompt")
    turns: list[tuple[str, str]] = [("system", system)] if system else []
    if "messages" in data:
        field = "messages"
        messages = need(data, field, (list, str), "a list of messages")
        for i, message in enumerate(_literal(messages, field)):
            _append(turns, *_message(message, f"{field}[{i}]"))
        return field, turns
    if isinstance(data.get("conversation"), list):  # [{"human": …, "assistant": …}]
        field = "conversation"
        for pair in data[field]:
            turns += [
                ("user", need(pair, "human", str, "a text")),
                ("assistant", need(pair, "assistant", str, "a text")),
            ]
        return field, turns
    alpaca = "instruction" in data
    field, answer = ("instruction", "output") if alpaca else ("query", "response")
    query = need(data, field, str, "a text")
    if alpaca and data.get("input"):
        query = f"{query}\n{data['input']}"
    for pair in _literal(data.get("history") or [], "history"):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(t, str) for t in pair):
            raise Rejected(f"field 'history': expected pairs [query, response], got {show(pair)}")
        turns += [("user", pair[0]), ("assistant", pair[1])]
    turns.append(("user", query))
    if data.get(answer) is not None:
        turns.append(("assistant", need(data, answer, str, "a text")))
    return field, turns


def _literal(value: Any, field: str) -> list[Any]:
    """A list, possibly written as text; text is parsed as JSON or as a Python literal, never evaluated."""
    if isinstance(value, str):
        value = literal(value, field)
    if not isinstance(value, list):
        raise Rejected(f"field '{field}': expected a list, got {show(value)}")
    return value


def literal(text: str, field: str, limit: int = 10_000_000) -> Any:
    """Parse a text as JSON or a Python literal, without evaluating it. Rejected if it is neither, or longer than `limit`."""
    if len(text) <= limit:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    raise Rejected(f"field '{field}': expected JSON or a Python literal, got {show(text)}")


def _message(message: Any, field: str) -> tuple[str, str]:
    role, content = need(message, "role", str, "a role"), message.get("content")
    if isinstance(content, (dict, list)) and role in ("tool_call", "tool_response", "tool"):
        content = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise Rejected(f"field '{field}.content': expected a text, got {show(content)}")
    if role == "tool_call":
        return "assistant", tool_calls(content, f"{field}.content")
    role = "tool" if role == "tool_response" else role
    if role not in ("system", "user", "assistant", "tool"):
        raise Rejected(
            f"field '{field}.role': expected system, user, assistant, tool_call or tool_response, got {role!r}"
        )
    return role, content


def _append(turns: list[tuple[str, str]], role: str, text: str) -> None:
    """Append a turn; consecutive assistant turns (text, then a tool call) are joined."""
    if turns and turns[-1][0] == role == "assistant":
        turns[-1] = (role, f"{turns[-1][1].rstrip()}\n{text}")
    else:
        turns.append((role, text))


# ------------------------------------------------------------------------------------------------------------ objects


def _objects(value: Any, images: int) -> dict[str, Any] | None:
    """The checked `objects`: ref, bbox, image_id (one per box) and the boxes' frame."""
    if value is None:
        return None
    value = literal(value, "objects") if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        raise Rejected(f"field 'objects': expected {{'ref': […], 'bbox': […]}}, got {show(value)}")
    refs, boxes = value.get("ref") or [], value.get("bbox") or []
    kind = value.get("bbox_type") or "real"
    if not isinstance(kind, str) or kind not in FRAMES:
        raise Rejected(f"field 'objects.bbox_type': expected real or norm1, got {show(kind)}")
    if not isinstance(refs, list) or not all(isinstance(ref, str) for ref in refs):
        raise Rejected(f"field 'objects.ref': expected a list of texts, got {show(refs)}")
    if not isinstance(boxes, list) or not isinstance(value.get("image_id") or [], list):
        raise Rejected(f"field 'objects': expected lists bbox and image_id, got {show(value)}")
    for i, box in enumerate(boxes):
        try:
            numbers(box, 2 if isinstance(box, list) and len(box) == 2 else 4, f"field 'objects.bbox[{i}]'")
        except ValueError as error:
            raise Rejected(str(error)) from None
    ids = list(value.get("image_id") or [])
    ids += [0] * (len(boxes) - len(ids))
    for i, image in enumerate(ids[: len(boxes)]):
        if type(image) is not int or not 0 <= image < max(images, 1):
            raise Rejected(
                f"field 'objects.image_id[{i}]': expected one of {images} images, got {show(image)}"
            )
    return {"ref": refs, "bbox": boxes, "image_id": ids[: len(boxes)], "frame": FRAMES[kind]}


def _substituted(texts: list[str], objects: dict[str, Any] | None) -> tuple[list[str], list[list[int]]]:
    """The texts with tags replaced by names and boxes, and the indices of each text's boxes."""
    used = {"<ref-object>": 0, "<bbox>": 0}
    named: list[list[int]] = [[] for _ in texts]
    whole = sum(len(_TAG.findall(text)) for text in texts)
    if objects is None:
        if whole:
            raise Rejected(
                f"field 'objects': expected one entry for each of {whole} <ref-object> and <bbox>, got nothing"
            )
        return texts, named

    def put(at: int, match: re.Match[str]) -> str:
        tag = match.group()
        i, used[tag] = used[tag], used[tag] + 1
        entries = objects["ref" if tag == "<ref-object>" else "bbox"]
        if i >= len(entries):
            return tag  # the mismatch is reported below
        if tag == "<ref-object>":
            return entries[i]
        named[at].append(i)
        return box_text(entries[i], objects["frame"])

    result = [_TAG.sub(partial(put, at), text) for at, text in enumerate(texts)]
    for tag, field in (("<ref-object>", "ref"), ("<bbox>", "bbox")):
        if used[tag] != len(objects[field]):
            raise Rejected(
                f"field 'objects.{field}': expected {used[tag]}, one per {tag}, got {len(objects[field])}"
            )
    return result, named


def box_text(box: list[float], frame: str) -> str:
    """A box or point as text: whole pixels, or fractions with at most four decimals."""
    numbers = [str(round(v)) if frame == "pixel" else f"{v:.4f}".rstrip("0").rstrip(".") for v in box]
    return f"[{', '.join(numbers)}]"


def _gold_boxes(row: Row, objects: dict[str, Any] | None, named: list[list[int]]) -> dict[str, Any]:
    """The boxes (or the point) in the only answer, as the gold answer of a grounding (or pointing) row."""
    if objects is None or not isinstance(row["trace"], list) or len(row["trace"]) != 1 or not named[-1]:
        raise Rejected("field 'objects': expected one answer with a <bbox>, got none (gold: objects)")
    boxes = [objects["bbox"][i] for i in named[-1]]
    points = [box for box in boxes if len(box) == 2]
    if points and len(boxes) > 1:
        raise Rejected(
            f"field 'objects.bbox': expected boxes or one point, got {len(boxes)} with points (gold: objects)"
        )
    if len({objects["image_id"][i] for i in named[-1]}) > 1 or len(row["images"]) != 1:
        raise Rejected(f"field 'images': expected one image that all boxes are in, got {len(row['images'])}")
    frame = {"frame": objects["frame"]}
    return {"point": points[0]} | frame if points else {"boxes": boxes} | frame


def looks_like(path: Path, first: Any) -> bool:
    """True for records with `objects`, tool calls as messages, or a query and its response."""
    if not isinstance(first, dict):
        return False
    messages = first.get("messages")
    roles = {m.get("role") for m in messages if isinstance(m, dict)} if isinstance(messages, list) else set()
    inline = bool(roles) and re.search(r"<(img|video)>[^<>]+</\1>", str(messages)[:20_000]) is not None
    return (
        (bool(roles) and "objects" in first)
        or "tool_call" in roles
        or {"query", "response"} <= set(first)
        or inline
    )


FORMATS = (Format("ms_swift", "ms-swift json, jsonl or Parquet", read, convert, looks_like, MsSwiftOptions),)

"""LLaMA-Factory's newer files: messages whose content is a list of typed parts.

    {"messages": [{"role": "user", "content": [{"type": "image_url", "value": "a.jpg"}, {"type": "text", "value": "…"}]},
                  {"role": "assistant", "content": [{"type": "reasoning", "value": "…"}, {"type": "text", "value": "…"}]}],
     "tools": "[…]"}

As in github.com/hiyouga/LLaMA-Factory (data/v1_multimodal_demo.jsonl, data/v1_sft_demo.jsonl, data/reason_tool_use_demo_50.jsonl;
src/llamafactory/v1). Reasoning becomes `<think>…</think>`, tool calls Qwen's form. All answers are trained on, so a
`loss_weight` other than 1 is Rejected; so are `audio_url` parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.rows import ROLES, Row
from data_recipes.readers.chat import (
    ChatOptions,
    dialogue,
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


def read(path: Path, options: ChatOptions) -> Iterator[Record]:
    """Records of a .jsonl, .json or .parquet file."""
    return records(path, options.split)


def convert(record: Record, options: ChatOptions) -> Iterable[Row]:
    """One row: everything before the first answer as the prompt, the rest as the trace; a tools column is kept."""
    data = record.data
    if isinstance(data, dict):
        refuse_preference(data)
    folder = options.media or record.file.parent
    images: list[Any] = []
    videos: list[Any] = []
    turns = []
    for i, message in enumerate(need(data, "messages", list, "a list of messages")):
        field = f"messages[{i}]"
        role = need(message, "role", str, "a role")
        if role not in ROLES:
            raise Rejected(f"field '{field}.role': expected one of {', '.join(ROLES)}, got {show(role)}")
        if role == "assistant" and message.get("loss_weight") not in (None, 1, 1.0):
            raise Rejected(f"field '{field}.loss_weight': expected 1, got {show(message['loss_weight'])}")
        parts = need(message, "content", list, "a list of parts")
        turns.append((role, _text(parts, f"{field}.content", folder, images, videos)))
    row = {"id": own_id(record, "id"), "task": options.task}
    row |= with_gold(dialogue(turns, images, videos, "messages"), data, options)
    kept = {"tools": data["tools"]} if data.get("tools") else {}
    return [row | kept | {"source": source(options, record.file.stem, "unknown")}]


def _text(parts: list[Any], field: str, folder: Path, images: list[Any], videos: list[Any]) -> str:
    """The parts as one text with placeholders; appends their media to `images` and `videos`."""
    texts = []
    for j, part in enumerate(parts):
        at = f"{field}[{j}]"
        if not isinstance(part, Mapping):
            raise Rejected(f"field '{at}': expected {{'type': …, 'value': …}}, got {show(part)}")
        kind, value = part.get("type"), part.get("value")
        if kind in ("image_url", "video_url"):
            (images if kind == "image_url" else videos).extend(media_list(value, f"{at}.value", folder))
            texts.append("<image>" if kind == "image_url" else "<video>")
        elif kind not in ("text", "reasoning", "tool_call"):
            raise Rejected(
                f"field '{at}.type': expected text, reasoning, tool_call, image_url or video_url, got {show(kind)}"
            )
        elif not isinstance(value, str):
            raise Rejected(f"field '{at}.value': expected a text, got {show(value)}")
        elif kind == "reasoning":
            texts.append(f"<think>\n{value.strip()}\n</think>\n\n")
        else:
            texts.append(value if kind == "text" else tool_calls(value, f"{at}.value") + "\n")
    return "".join(texts).rstrip("\n") if parts and parts[-1].get("type") == "tool_call" else "".join(texts)


def looks_like(path: Path, first: Any) -> bool:
    """True for messages whose parts have a type and a value."""
    messages = first.get("messages") if isinstance(first, dict) else None
    if not isinstance(messages, list) or not messages or not isinstance(messages[0], dict):
        return False
    parts = messages[0].get("content")
    return (
        isinstance(parts, list)
        and bool(parts)
        and isinstance(parts[0], dict)
        and {"type", "value"} <= set(parts[0])
    )


FORMATS = (Format("llamafactory_v1", "LLaMA-Factory v1 messages", read, convert, looks_like, ChatOptions),)

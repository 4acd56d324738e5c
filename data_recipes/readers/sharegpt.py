"""LLaMA-Factory's ShareGPT files, described as in its dataset_info.json.

    [{"conversations": [{"from": "human", "value": "<image>…"}, {"from": "gpt", "value": "…"}], "images": ["a.jpg"]}]
    [{"messages": [{"role": "user", "content": "<video>…"}, {"role": "assistant", "content": "…"}], "videos": ["a.mp4"]}]

As in github.com/hiyouga/LLaMA-Factory (data/README.md, data/mllm_demo.json, src/llamafactory/data/{parser,converter}.py):
columns and tags have the names and defaults of dataset_info.json, user and observation turns alternate with answers and
calls, and there must be as many placeholders as media. Calls (`function_call`) are written as in its Qwen templates. Records
that LLaMA-Factory skips with a warning are Rejected, and so are preference, KTO and audio data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import model_validator

from core.rows import Row
from data_recipes.readers.chat import (
    ChatOptions,
    dialogue,
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
from data_recipes.records import Format, Record, Rejected, SourceError

COLUMNS = {"messages": "conversations", "system": None, "tools": None, "images": None, "videos": None}
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
OPENAI_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
_KNOWN_COLUMNS = {
    *COLUMNS,
    "audios",
    "prompt",
    "query",
    "response",
    "history",
    "chosen",
    "rejected",
    "kto_tag",
}


class ShareGPTOptions(ChatOptions):
    """Options of `sharegpt`. `media`: LLaMA-Factory's `media_dir`; null: the file's folder."""

    dataset_info: Path | None = None
    """A dataset_info.json whose entry `entry` gives columns and tags; null: they are recognised from the record."""
    entry: str | None = None
    """Name of the entry in `dataset_info`; null: the entry with this file's `file_name`."""
    columns: dict[str, str] | None = None
    """Columns as in dataset_info.json: messages, system, tools, images, videos. null: these names, `conversations` or
    `messages` for the turns, whichever the record has."""
    tags: dict[str, str] | None = None
    """Tags as in dataset_info.json: role_tag, content_tag, user_tag, assistant_tag, observation_tag, function_tag,
    system_tag. null: from/value with human and gpt, or role/content with user and assistant, whichever the turns have."""

    @model_validator(mode="after")
    def _names(self) -> ShareGPTOptions:
        for name, given, known in (("columns", self.columns, _KNOWN_COLUMNS), ("tags", self.tags, set(TAGS))):
            if given and not set(given) <= known:
                raise ValueError(
                    f"{name}: expected some of {sorted(known)}, got {sorted(set(given) - known)}"
                )
        return self


def read(path: Path, options: ShareGPTOptions) -> Iterator[Record]:
    """Records of a .json, .jsonl or .parquet file."""
    return records(path, options.split)


def convert(record: Record, options: ShareGPTOptions) -> Iterable[Row]:
    """One row: everything before the first answer as the prompt, the rest as the trace; a tools column is kept."""
    data = record.data
    if not isinstance(data, dict):
        raise Rejected(f"expected a JSON object, got {show(data)}")
    columns, tags = _layout(record, options)
    refuse_preference(data)
    for key in ("chosen", "rejected", "kto_tag"):
        if data.get(columns.get(key) or key) is not None:
            raise Rejected(
                f"field '{columns.get(key) or key}': expected no preference data, got some (not for SFT or RLVR)"
            )
    if data.get(columns.get("audios") or "audios"):
        raise Rejected(
            f"field '{columns.get('audios') or 'audios'}': expected only images and videos, got audio"
        )
    name = columns["messages"]
    turns = _turns(need(data, name, list, "a list of turns"), name, tags)
    if options.gold is None and turns and turns[-1][0] != "assistant":
        raise Rejected(
            f"field '{name}': expected an answer as the last turn (or `gold` to name its column), got none"
        )
    system = data.get(columns.get("system") or "")
    if system is not None and not isinstance(system, str):
        raise Rejected(f"field '{columns['system']}': expected a text, got {show(system)}")
    if system and turns[:1] and turns[0][0] != "system":
        turns.insert(0, ("system", system))
    folder = options.media or record.file.parent
    images = media_list(data.get(columns.get("images") or ""), columns.get("images") or "images", folder)
    videos = media_list(data.get(columns.get("videos") or ""), columns.get("videos") or "videos", folder)
    turns, images, videos = inline_media(turns, images, videos, folder)
    row = {"id": own_id(record, "id"), "task": options.task}
    row |= with_gold(dialogue(turns, images, videos, name), data, options)
    if data.get(columns.get("tools") or ""):
        row["tools"] = data[columns["tools"]]
    return [row | {"source": source(options, record.file.stem, "unknown")}]


def _layout(record: Record, options: ShareGPTOptions) -> tuple[dict[str, Any], dict[str, str]]:
    """(columns, tags) from the options, dataset_info.json, or the record itself."""
    columns: Mapping[str, str | None] | None = options.columns
    tags = options.tags
    if options.dataset_info:
        entry = _entry(options.dataset_info, options.entry, record.file.name)
        return COLUMNS | entry.get("columns", {}), TAGS | entry.get("tags", {})
    if columns is None:
        turns = "conversations" if "conversations" in record.data else "messages"
        columns = {
            "messages": turns,
            "system": "system",
            "tools": "tools",
            "images": "images",
            "videos": "videos",
        }
    columns = COLUMNS | dict(columns)
    if tags is None:
        turns = record.data.get(columns["messages"])
        first = turns[0] if isinstance(turns, list) and turns else None
        tags = OPENAI_TAGS if isinstance(first, Mapping) and "role" in first else {}
    return columns, TAGS | tags


@lru_cache(maxsize=16)
def _entry(path: Path, name: str | None, file_name: str) -> dict[str, Any]:
    """An entry of dataset_info.json, by its name or file name."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"option 'dataset_info': expected a JSON file, got: {error}") from None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise SourceError(f"{path}: expected an object of data sets, got {show(entries)}")
    if name is None:
        name = next(
            (key for key, e in entries.items() if Path(str(e.get("file_name"))).name == file_name), None
        )
    if name not in entries:
        raise SourceError(
            f"{path}: expected an entry {name or f'for the file {file_name}'!r}, got {', '.join(entries)}"
        )
    if entries[name].get("formatting") not in ("sharegpt", "openai"):
        raise SourceError(
            f"{path}: {name}: expected formatting sharegpt, got {entries[name].get('formatting', 'alpaca')}"
        )
    return entries[name]


def _turns(messages: list[Any], name: str, tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """(role, text) of each turn; Rejected if they do not alternate as LLaMA-Factory requires."""
    questions = {tags["user_tag"]: "user", tags["observation_tag"]: "tool"}
    answers = {tags["assistant_tag"]: "assistant", tags["function_tag"]: "assistant"}
    turns: list[tuple[str, str]] = []
    asked = 0
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise Rejected(
                f"field '{name}[{i}]': expected an object with '{tags['role_tag']}', got {show(message)}"
            )
        role, text = message.get(tags["role_tag"]), message.get(tags["content_tag"])
        if not isinstance(text, str):
            raise Rejected(f"field '{name}[{i}].{tags['content_tag']}': expected a text, got {show(text)}")
        if i == 0 and role == tags["system_tag"]:
            turns.append(("system", text))
            continue
        allowed = answers if asked % 2 else questions
        if not isinstance(role, str) or role not in allowed:
            expected = " or ".join(allowed)
            raise Rejected(f"field '{name}[{i}].{tags['role_tag']}': expected {expected}, got {show(role)}")
        if role == tags["function_tag"]:
            text = tool_calls(text, f"{name}[{i}].{tags['content_tag']}")
        turns.append((allowed[role], text))
        asked += 1
    return turns


def looks_like(path: Path, first: Any) -> bool:
    """True for turns in `messages`, or in `conversations` without a single `image` (which means LLaVA)."""
    if not isinstance(first, dict) or "objects" in first or "image" in first or "video" in first:
        return False
    turns = first.get("conversations", first.get("messages"))
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return False
    return ("from" in turns[0] and "value" in turns[0]) or (
        "role" in turns[0] and isinstance(turns[0].get("content"), str)
    )


FORMATS = (Format("sharegpt", "LLaMA-Factory ShareGPT", read, convert, looks_like, ShareGPTOptions),)

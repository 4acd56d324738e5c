"""LLaVA instruction files: llava_v1_5_mix665k.json, LLaVA-Instruct-150K, and files of the same format (.json, .jsonl).

    [{"id": "…", "image": "coco/train2017/1.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat …?"},
                                                                    {"from": "gpt", "value": "…"}]}]

As in github.com/haotian-liu/LLaVA (docs/Finetune_Custom_Data.md, llava/train/train.py). `image` may be missing (text only) or
a list; `video` is as in LLaVA-NeXT. If a record has an image but no `<image>`, the image comes first, as in LLaVA's own
training code. Ids repeat in the published files, so the row's id also contains the record's position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    with_gold,
)
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.records import Format, Record, Rejected

ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}


def read(path: Path, options: ChatOptions) -> Iterator[Record]:
    """Records of a .json array or a .jsonl file."""
    return records(path, options.split)


def convert(record: Record, options: ChatOptions) -> Iterable[Row]:
    """One row: the first question as the prompt, everything from the first answer as the trace (or an answer, see `gold`)."""
    data = record.data
    turns = from_value(need(data, "conversations", list, "a list of turns"), "conversations")
    folder = options.media or record.file.parent
    images = media_list(data.get("image"), "image", folder)
    videos = media_list(data.get("video"), "video", folder)
    refuse_preference(data)
    turns, images, videos = inline_media(turns, images, videos, folder)
    turns = front_placeholders(turns, images, videos)
    row = {"id": own_id(record, "id", "question_id"), "task": options.task}
    row |= with_gold(dialogue(turns, images, videos, "conversations"), data, options)
    return [row | {"source": source(options, record.file.stem, "unknown")}]


def from_value(conversation: list[Any], field: str) -> list[tuple[str, str]]:
    """(role, text) of each turn {"from": human | gpt | system, "value": text}."""
    turns = []
    for i, turn in enumerate(conversation):
        if not isinstance(turn, Mapping):
            raise Rejected(f"field '{field}[{i}]': expected {{'from': …, 'value': …}}, got {show(turn)}")
        role = ROLES.get(str(turn.get("from")))
        if role is None:
            raise Rejected(
                f"field '{field}[{i}].from': expected human, gpt or system, got {show(turn.get('from'))}"
            )
        if not isinstance(turn.get("value"), str):
            raise Rejected(f"field '{field}[{i}].value': expected a text, got {show(turn.get('value'))}")
        turns.append((role, turn["value"]))
    return turns


def looks_like(path: Path, first: Any) -> bool:
    """True for `conversations` of from and value with one `image` or none (a list `images` means ShareGPT)."""
    if not isinstance(first, dict) or "images" in first or "videos" in first:
        return False
    turns = first.get("conversations")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "from" in turns[0]


FORMATS = (Format("llava", "LLaVA json or jsonl", read, convert, looks_like, ChatOptions),)

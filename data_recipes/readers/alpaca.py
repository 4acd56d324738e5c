"""LLaMA-Factory's Alpaca files: an instruction, its input and the expected output, with images or videos.

    [{"instruction": "<image>Name it.", "input": "", "output": "A cat.", "system": "…", "history": [["…", "…"]], "images": ["a.jpg"]}]

As in github.com/hiyouga/LLaMA-Factory (data/README.md, src/llamafactory/data/converter.py): the question is the instruction and,
below it, the input; earlier turns are in `history`; there must be as many placeholders as media. Preference data (`chosen`
and `rejected`, `kto_tag`, or an output that is a list of two) are Rejected with a message that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.readers.chat import (
    ChatOptions,
    dialogue,
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

NAMES = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
    "images": "images",
    "videos": "videos",
}


class AlpacaOptions(ChatOptions):
    """Options of `alpaca`. `media`: LLaMA-Factory's `media_dir`; null: the file's folder."""

    columns: dict[str, str] = {}
    """Column names, keyed as in dataset_info.json: prompt, query, response, system, history, images, videos."""


def read(path: Path, options: AlpacaOptions) -> Iterator[Record]:
    """Records of a .json, .jsonl or .parquet file."""
    return records(path, options.split)


def convert(record: Record, options: AlpacaOptions) -> Iterable[Row]:
    """One row: the question (after earlier turns) as the prompt, the output as the trace."""
    data = record.data
    names = NAMES | options.columns
    question = need(data, names["prompt"], str, "a text")
    refuse_preference(data)
    if isinstance(data.get(names["response"]), list):
        raise Rejected(
            f"field '{names['response']}': expected one text, got a list: preference data, not for SFT or RL rows"
        )
    if data.get(names["query"]):
        question = f"{question}\n{need(data, names['query'], str, 'a text')}"
    turns = [("system", need(data, names["system"], str, "a text"))] if data.get(names["system"]) else []
    history = need(data, names["history"], list, "a list of pairs") if data.get(names["history"]) else []
    for i, pair in enumerate(history):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise Rejected(f"field '{names['history']}[{i}]': expected [question, answer], got {show(pair)}")
        turns += [("user", pair[0]), ("assistant", pair[1])]
    turns += [("user", question), ("assistant", need(data, names["response"], str, "a text"))]
    folder = options.media or record.file.parent
    images = media_list(data.get(names["images"]), names["images"], folder)
    videos = media_list(data.get(names["videos"]), names["videos"], folder)
    turns, images, videos = inline_media(turns, images, videos, folder)
    row: Row = {"id": own_id(record, "id"), "task": options.task}
    row |= with_gold(dialogue(turns, images, videos, names["prompt"]), data, options)
    return [row | {"source": source(options, record.file.stem, "unknown")}]


def looks_like(path: Path, first: Any) -> bool:
    """True for records with an instruction and an output."""
    return isinstance(first, dict) and {"instruction", "output"} <= set(first)


FORMATS = (
    Format(
        "alpaca", "LLaMA-Factory Alpaca: instruction, input, output", read, convert, looks_like, AlpacaOptions
    ),
)

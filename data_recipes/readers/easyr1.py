"""Data of EasyR1 and verl users, unchanged.

EasyR1 (github.com/hiyouga/EasyR1, verl/utils/dataset.py, examples/config.yaml): columns `problem` with `<image>` or
`<video>` placeholders, `answer`, `images` or `videos` (Parquet of `datasets`: {"bytes", "path"}; JSON: paths from
`image_dir`); the columns' names are options there and here.

verl (github.com/volcengine/verl, examples/data_preprocess/geo3k.py, verl/utils/dataset/rl_dataset.py): `prompt` is a list of
messages with the placeholders in their text, `reward_model.ground_truth` the gold, `data_source` names the data set,
`images` and `videos` are lists of {"bytes"|"path"|"image"|"video": …}, `extra_info` has split, index and more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.rows import ROLES, Row
from data_recipes.readers.chat import SourceOptions, dialogue, media_list, own_id, source, typed_answer
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.records import Format, Record, Rejected


class EasyR1Options(SourceOptions):
    """Options of `easyr1`. `media` is EasyR1's `image_dir`; null: the file's folder."""

    task: str = "math"
    """The rows' task, which also determines the form of `answer`."""
    prompt_key: str = "problem"
    """Column of the question."""
    answer_key: str = "answer"
    """Column of the gold."""
    image_key: str = "images"
    """Column of the images."""
    video_key: str = "videos"
    """Column of the videos."""
    frame: str = "pixel"
    """Coordinate frame of gold boxes and points."""


def read(path: Path, options: SourceOptions) -> Iterator[Record]:
    """Rows of a .parquet, .jsonl or .json file."""
    return records(path, options.split)


def convert(record: Record, options: EasyR1Options) -> Iterable[Row]:
    """One row; all other columns are kept."""
    data = record.data
    text = need(data, options.prompt_key, str, "a text")
    folder = options.media or record.file.parent
    images = media_list(data.get(options.image_key), options.image_key, folder)
    videos = media_list(data.get(options.video_key), options.video_key, folder)
    answer = typed_answer(options.task, data.get(options.answer_key), options.answer_key, frame=options.frame)
    used = {options.prompt_key, options.answer_key, options.image_key, options.video_key, "id"}
    return [
        _others(data, used)
        | {"id": own_id(record, "id"), "task": options.task, "answer": answer}
        | dialogue([("user", text)], images, videos, options.prompt_key)
        | {"source": source(options, record.file.stem, "unknown")}
    ]


def looks_like(path: Path, first: Any) -> bool:
    """True for records with text `problem` and `answer` and no `solution` (which VisualProbe has)."""
    return (
        isinstance(first, dict)
        and isinstance(first.get("problem"), str)
        and isinstance(first.get("answer"), str)
    )


class VerlOptions(SourceOptions):
    """Options of `verl`. `media`: where relative paths start from; null: the file's folder."""

    task: str = "math"
    """Task of rows whose `data_source` is not in `tasks`; it also determines the form of `answer`."""
    tasks: dict[str, str] = {}
    """`data_source` -> task."""
    prompt_key: str = "prompt"
    """Column of the messages."""
    frame: str = "pixel"
    """Coordinate frame of gold boxes and points."""


def convert_verl(record: Record, options: VerlOptions) -> Iterable[Row]:
    """One row; `data_source`, `ability`, `extra_info` and all other columns are kept."""
    data = record.data
    key = options.prompt_key
    messages = need(data, key, list, "a list of messages")
    folder = options.media or record.file.parent
    images = media_list(data.get("images"), "images", folder)
    videos = media_list(data.get("videos"), "videos", folder)
    model = need(data, "reward_model", dict, "an object with 'ground_truth'")
    name = need(data, "data_source", str, "a text")
    task = options.tasks.get(name, options.task)
    answer = typed_answer(task, model.get("ground_truth"), "reward_model.ground_truth", frame=options.frame)
    turns = [_message(message, f"{key}[{i}]") for i, message in enumerate(messages)]
    row = dialogue(turns, images, videos, key)
    if row["trace"]:
        raise Rejected(f"field '{key}': expected the last message to be the user's, got the assistant's")
    extra = need(data, "extra_info", dict, "an object") if data.get("extra_info") else {}
    index = f"{extra.get('split') or name}-{extra['index']}" if extra.get("index") is not None else None
    return [
        _others(data, {key, "images", "videos", "reward_model"})
        | {"id": f"{index}@{record.at}" if index else str(record.at), "task": task, "answer": answer}
        | row
        | {"source": source(options, name, "unknown")}
    ]


def _message(message: Any, field: str) -> tuple[str, str]:
    role = need(message, "role", str, "a role")
    if role not in ROLES:
        raise Rejected(f"field '{field}.role': expected one of {', '.join(ROLES)}, got {show(role)}")
    return role, need(message, "content", str, "a text")


def _others(data: dict[str, Any], used: set[str]) -> Row:
    """The remaining columns; names that clash with a row's own fields get the prefix `original_`."""
    fields = {"id", "task", "prompt", "images", "videos", "answer", "trace", "source"}
    return {
        f"original_{k}" if k in fields else k: v for k, v in data.items() if k not in used and v is not None
    }


def looks_like_verl(path: Path, first: Any) -> bool:
    """True for records with messages in `prompt` and a `reward_model`."""
    return isinstance(first, dict) and isinstance(first.get("prompt"), list) and "reward_model" in first


FORMATS = (
    Format("easyr1", "EasyR1: problem, answer, images", read, convert, looks_like, EasyR1Options),
    Format(
        "verl",
        "verl: prompt messages and reward_model.ground_truth",
        read,
        convert_verl,
        looks_like_verl,
        VerlOptions,
    ),
)

"""Shared code of conversation readers: placeholders, media paths, prompt and trace of a dialogue, typed gold answers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.rows import Row, count_placeholders
from data_recipes.readers.files import show
from data_recipes.records import Options, Record, Rejected
from rewards.stages import STAGES, parse

_PLACEHOLDER = re.compile(r"\n*(?<!\\)<(image|video)>\n*")
_ESCAPED = re.compile(r"\\(<(?:image|video)>)")  # literal text, as in a text about HTML


class SourceOptions(Options):
    """Options of every reader of questions and conversations."""

    media: Path | None = None
    """Folder that relative image and video paths start from; null: as in the data set's published layout."""
    dataset: str | None = None
    """Name of the data set in the rows' `source`; null: the format's default."""
    split: str | None = None
    """The split to read from a folder with several (`train-00000-of-00004.parquet`, `test-…`)."""
    licence: str | None = None
    """Licence in the rows' `source`; null: that of the published data set, "unknown" for users' own files."""


class ChatOptions(SourceOptions):
    """Options of conversations in other tools' formats."""

    task: str = "chat"
    """The rows' task, which also determines the form of `answer` if a gold answer is read."""
    gold: str | None = None
    """Where the gold answer is: the name of a column (`solution`), or `last` for the last assistant turn, which is then not
    trained on. null: rows for SFT, without an answer."""
    frame: str = "pixel"
    """Coordinate frame of gold boxes and points (`task: grounding` or `pointing`)."""


def source(options: SourceOptions, dataset: str, licence: str) -> dict[str, str]:
    """A row's `source`, from the options, else the given defaults."""
    return {"dataset": options.dataset or dataset, "licence": options.licence or licence}


def own_id(record: Record, *keys: str, unique: bool = False) -> str:
    """The record's own id from the first of `keys` it has; unless ids are `unique`, with its position appended."""
    own = next((record.data[key] for key in keys if record.data.get(key) not in (None, "")), None)
    if own is None:
        return str(record.at)
    if not isinstance(own, str | int) or isinstance(own, bool):
        raise Rejected(f"field 'id': expected a text or a whole number, got {show(own)}")
    return str(own) if unique else f"{own}@{record.at}"


def options_text(choices: Sequence[str]) -> str:
    """The options of a multiple-choice question as lettered lines."""
    return "\n".join(f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(choices))


# -------------------------------------------------------------------------------------------------------------- media


def split_media(text: str) -> str | list[dict[str, Any]]:
    """Message content of a text with `<image>` and `<video>`: parts in reading order, a string if there are none.

    Line breaks that only separate a placeholder from the text are dropped. `\\<image>` stands for the literal text `<image>`.
    """
    parts: list[dict[str, Any]] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        if text[at : match.start()]:
            parts.append({"type": "text", "text": _unescaped(text[at : match.start()])})
        parts.append({"type": match.group(1)})
        at = match.end()
    if not parts:
        return _unescaped(text)
    if text[at:]:
        parts.append({"type": "text", "text": _unescaped(text[at:])})
    return parts


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def media_list(value: Any, field: str, folder: Path) -> list[Any]:
    """A row's images or videos from a record's: one or several paths, `{"bytes"|"path"|"image"|"video": …}` or bytes.

    Paths are made absolute, starting from `folder`. Clip options of qwen-vl-utils (`video_start`, `video_end`, `fps`) are kept.
    """
    if value is None or value == "":
        return []
    items = value if isinstance(value, list) else [value]
    return [
        _medium(item, field if items is not value else f"{field}[{i}]", folder)
        for i, item in enumerate(items)
    ]


def _medium(item: Any, field: str, folder: Path) -> Any:
    if isinstance(item, bytes) and item:
        return {"bytes": item}
    if isinstance(item, str) and item:
        return locate(item, field, folder)
    if isinstance(item, Mapping):
        if isinstance(item.get("bytes"), bytes) and item["bytes"]:
            return {"bytes": item["bytes"]}
        for key in ("path", "image", "video"):
            if isinstance(item.get(key), bytes) and item[key]:
                return {"bytes": item[key]}
            if isinstance(item.get(key), str) and item[key]:
                path = locate(item[key], f"{field}.{key}", folder)
                clip = {
                    "start": item.get("video_start"),
                    "end": item.get("video_end"),
                    "fps": item.get("fps"),
                }
                clip = {name: number for name, number in clip.items() if number is not None}
                return {"path": path} | clip if clip else path
    raise Rejected(f"field '{field}': expected a path, bytes or a dict with one of them, got {show(item)}")


def locate(path: str, field: str, folder: Path) -> str:
    """The absolute path; relative ones start from `folder`. `file://` is removed, other URLs are Rejected."""
    if re.match(r"(?!file:)[a-z][a-z0-9+.-]+:", path, re.IGNORECASE):
        raise Rejected(f"field '{field}': expected a file, got a URL: {path[:60]!r} (download it first)")
    path = re.sub(r"^file:(//)?", "", path)
    return os.path.abspath(os.path.join(folder, path))


_INLINE = re.compile(r"(?<!\\)(?:<(img|image|video|audio)>([^<>\n]*?)</\1>|<(image|video)>)")


def inline_media(
    turns: Sequence[tuple[str, str]], images: list[Any], videos: list[Any], folder: Path
) -> tuple[list[tuple[str, str]], list[Any], list[Any]]:
    """Replace media written in the text as `<img>a.jpg</img>` (Qwen-VL, ms-swift) by placeholders.

    Returns the turns and all media in reading order; media of the record without a placeholder come first.
    """
    if not any(match.group(1) for _, text in turns for match in _INLINE.finditer(text)):
        return list(turns), images, videos
    given = {"image": list(images), "video": list(videos)}
    found: dict[str, list[Any]] = {"image": [], "video": []}

    def put(match: re.Match[str]) -> str:
        if match.group(1) == "audio":
            raise Rejected("field 'messages': expected only images and videos, got <audio>")
        kind = match.group(3) or ("video" if match.group(1) == "video" else "image")
        if match.group(3):
            found[kind] += [given[kind].pop(0)] if given[kind] else []
        else:
            found[kind].append(locate(match.group(2).strip(), f"<{match.group(1)}>", folder))
        return f"<{kind}>"

    changed = [(role, _INLINE.sub(put, text)) for role, text in turns]
    return changed, given["image"] + found["image"], given["video"] + found["video"]


PREFERENCE = ("chosen", "rejected", "kto_tag", "rejected_response", "rejected_messages", "rejected_images")


def preference_field(data: Mapping[str, Any]) -> str | None:
    """The field that marks a record as preference data (a pair of answers, or KTO's label); None if there is none."""
    if any(isinstance(data.get(key), bool) for key in ("label", "kto_tag")):
        return "label" if isinstance(data.get("label"), bool) else "kto_tag"
    return next((key for key in PREFERENCE if data.get(key) not in (None, [], "")), None)


def refuse_preference(data: Mapping[str, Any]) -> None:
    """Raise Rejected for preference data, because some of its answers are not to be imitated."""
    field = preference_field(data)
    if field is not None:
        raise Rejected(
            f"field '{field}': expected no preference data, got {show(data[field])} (not for SFT or RLVR: an answer may be a"
            " rejected one; the format `preference` makes pairs of it for reward models)"
        )


def front_placeholders(
    turns: list[tuple[str, str]], images: Sequence[Any], videos: Sequence[Any]
) -> list[tuple[str, str]]:
    """The (role, text) turns, with missing placeholders prepended to the first turn that is not a system prompt."""
    first = next((i for i, (role, _) in enumerate(turns) if role != "system"), None)
    for tag, media in (("<image>", images), ("<video>", videos)):
        missing = len(media) - sum(len(re.findall(rf"(?<!\\){tag}", text)) for _, text in turns)
        if missing > 0 and first is not None:
            role, text = turns[first]
            turns = [*turns[:first], (role, f"{tag * missing}\n{text}"), *turns[first + 1 :]]
    return turns


# ---------------------------------------------------------------------------------------------------- prompt and trace


def dialogue(turns: Sequence[tuple[str, str]], images: list[Any], videos: list[Any], field: str) -> Row:
    """`prompt`, `trace`, `images` and `videos` of a row from (role, text) turns.

    If the dialogue ends with the assistant, the prompt is everything before the first assistant turn and the trace is the
    rest; a single answer in the four stages becomes a trace of stages. Otherwise the dialogue ends with a question: all of
    it is the prompt, and there is no trace.
    """
    if not turns:
        raise Rejected(f"field '{field}': expected at least one turn, got an empty list")
    messages = [{"role": role, "content": split_media(text)} for role, text in turns]
    first = next((i for i, m in enumerate(messages) if m["role"] == "assistant"), len(messages))
    if first == 0:
        raise Rejected(f"field '{field}': expected a question before the first answer, got an answer first")
    trains = messages[-1]["role"] == "assistant"
    prompt, trace = (messages[:first], messages[first:]) if trains else (messages, None)
    for kind, media in (("image", images), ("video", videos)):
        wanted = count_placeholders(messages, kind)
        if wanted != len(media):
            raise Rejected(
                f"field '{kind}s': expected {wanted} {kind}(s), one per <{kind}> in '{field}', got {len(media)} (\\<{kind}> is"
                " the text itself)"
            )
    return {"prompt": prompt, "trace": staged(trace), "images": images, "videos": videos}


def staged(trace: list[dict[str, Any]] | None) -> list[dict[str, Any]] | dict[str, str] | None:
    """The stages of a trace that is one answer in the four stages; any other trace unchanged."""
    if trace and len(trace) == 1 and isinstance(trace[0]["content"], str):
        stages = parse(trace[0]["content"]).stages
        if stages:
            return {name.lower(): stages[name] for name in STAGES}
    return trace


def with_gold(row: Row, data: Mapping[str, Any], options: ChatOptions) -> Row:
    """The row with the gold answer named by `options.gold` (see ChatOptions)."""
    if options.gold is None:
        return row | {"answer": None}
    if options.gold != "last":
        value = data.get(options.gold)
        return row | {"answer": typed_answer(options.task, value, options.gold, frame=options.frame)}
    trace = row["trace"]
    if not isinstance(trace, list) or len(trace) != 1 or not isinstance(trace[0]["content"], str):
        got = "no answer" if trace is None else "stages" if isinstance(trace, dict) else f"{len(trace)} turns"
        raise Rejected(f"gold 'last': expected one question and one answer of plain text, got {got}")
    answer = typed_answer(options.task, trace[0]["content"].strip(), "the last turn", frame=options.frame)
    return row | {"answer": answer, "trace": None}


def typed_answer(task: str, value: Any, field: str, *, frame: str = "pixel") -> dict[str, Any]:
    """The gold answer in the form that the task's built-in reward reads. A dict is used unchanged.

    choice: letter; counting: number; grounding, pointing, temporal: lists of numbers, also as JSON text; others: text.
    """
    if isinstance(value, Mapping) and value:
        return {k: v for k, v in value.items() if v is not None}
    if value is None or value == "" or value == []:
        raise Rejected(f"field '{field}': expected the true answer, got {show(value)}")
    if task in ("grounding", "pointing", "temporal"):
        numbers = _numbers(value, field)
        nested = numbers if isinstance(numbers[0], list) else [numbers]
        if task == "temporal":
            return {"spans": nested}
        return (
            {"boxes": nested, "frame": frame} if task == "grounding" else {"box": nested[0], "frame": frame}
        )
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise Rejected(f"field '{field}': expected a text or a number, got {show(value)}")
    if task == "choice":
        return {"letter": str(value).strip()}
    return {"value": value.strip() if isinstance(value, str) else value}


def _numbers(value: Any, field: str) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Rejected(f"field '{field}': expected a list of numbers, got {show(value)}") from None
    if not isinstance(value, list) or not value:
        raise Rejected(f"field '{field}': expected a list of numbers, got {show(value)}")
    return value


def tool_calls(text: str, field: str) -> str:
    """Convert a JSON tool call (or a list of them) to Qwen's form: a sequence of `<tool_call>…</tool_call>`."""
    try:
        calls = json.loads(text)
    except ValueError:
        raise Rejected(f"field '{field}': expected a tool call in JSON, got {show(text)}") from None
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, Mapping) and "name" in call for call in calls):
        raise Rejected(f"field '{field}': expected calls with a name and arguments, got {show(text)}")
    return "\n".join(f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls)

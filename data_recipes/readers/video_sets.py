"""Questions about videos: LLaVA-Video-178K, VideoChat2-IT and Video-R1.

| format | record | published at |
|---|---|---|
| llava_video | {"id", "video", "data_source", "conversations": [{"from": "human", "value": "<image>\\nWhat …?"}, …]} | lmms-lab/LLaVA-Video-178K |
| videochat | {"video" or "image", "QA": [{"i": instruction, "q": question, "a": answer}], "start", "end"} | OpenGVLab/VideoChat2-IT |
| video_r1 | {"problem_id", "problem", "problem_type", "data_type", "options", "solution": "<answer>A</answer>", "path", "process"} | Video-R1/Video-R1-data |

Read as the sets' own code does: LLaVA-NeXT (llava/train/train.py), Ask-Anything (video_chat2/dataset/it_dataset.py) and Video-R1
(src/r1-v/src/open_r1/grpo.py). The videos are third-party footage; the annotations' licences do not cover them.

LLaVA-Video writes `<image>` where the video stands, which the format `llava` rejects. VideoChat2 shows the first instruction of a
record above its questions; a question without text, as in sets of captions, is asked by the instruction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.readers.chat import (
    SourceOptions,
    dialogue,
    front_placeholders,
    locate,
    media_list,
    options_text,
    own_id,
    source,
    typed_answer,
)
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.llava import from_value
from data_recipes.readers.llava_cot import MAX_WORDS, gold
from data_recipes.records import Format, Record, Rejected

Turn = tuple[str, str]
_PLACE = re.compile(r"(?<!\\)<(?:image|video)>\n?")


class VideoChatOptions(SourceOptions):
    """Options of `llava_video` and `videochat`. `media`: where the videos were unpacked; null: the annotation file's folder."""

    turns: Literal["dialogue", "rows"] = "dialogue"
    """`dialogue`: one row of task `chat` per record, whose trace is all messages from the first answer on. `rows`: one row per
    question, without the others: choice, math or text with the answer as gold where it is a listed option, a number or at most
    five words, else chat with the answer as the trace."""


class VideoR1Options(SourceOptions):
    """Options of `video_r1`. `media`: where the sets were unpacked; null: the annotation file's folder."""

    tasks: dict[str, str] = {}
    """Task by `problem_type`, in place of: multiple choice → choice, numerical → math, OCR → ocr, regression → regression, free-form
    → text for answers of at most five words, else chat with the answer as the trace and no gold."""


def read(path: Path, options: SourceOptions) -> Iterator[Record]:
    """Records of a .json array, a .jsonl or .parquet file, or a folder of shards."""
    return records(path, options.split)


# --------------------------------------------------------------------------------------------------- LLaVA-Video-178K


def convert_llava_video(record: Record, options: VideoChatOptions) -> Iterator[Row | Rejected]:
    """One row, or one per question."""
    data = record.data
    turns = from_value(need(data, "conversations", list, "a list of turns"), "conversations")
    videos = media_list(
        need(data, "video", str, "the video's path"), "video", options.media or record.file.parent
    )
    places = sum(len(_PLACE.findall(text)) for _, text in turns)
    if places > 1:
        raise Rejected(f"field 'conversations': expected one <image> at most, for the video, got {places}")
    turns = [(role, _PLACE.sub("", text) if role == "user" else text) for role, text in turns]
    pairs = _pairs(turns, "conversations")
    columns = {"source": source(options, "LLaVA-Video-178K", "unknown")}
    if isinstance(data.get("data_source"), str):
        columns["subset"] = data["data_source"]
    yield from _rows(own_id(record, "id"), (), pairs, [], videos, options, "conversations", columns)


def looks_like_llava_video(path: Path, first: Any) -> bool:
    """True for conversations about a video whose place is written `<image>`, or that name their subset."""
    if not isinstance(first, dict) or not isinstance(first.get("video"), str) or "image" in first:
        return False
    turns = first.get("conversations")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict) or "from" not in turns[0]:
        return False
    return "<image>" in str(turns[0].get("value")) or isinstance(first.get("data_source"), str)


def _pairs(turns: Sequence[Turn], field: str) -> list[Turn]:
    """(question, answer) of turns that alternate."""
    if not turns or len(turns) % 2:
        raise Rejected(f"field '{field}': expected questions with answers, got {len(turns)} turns")
    for i, (role, _) in enumerate(turns):
        if role != ("user", "assistant")[i % 2]:
            raise Rejected(f"field '{field}[{i}].from': expected human and gpt in turn, got {role}")
    return [(turns[i][1], turns[i + 1][1]) for i in range(0, len(turns), 2)]


# ------------------------------------------------------------------------------------------------------ VideoChat2-IT


def convert_videochat(record: Record, options: VideoChatOptions) -> Iterator[Row | Rejected]:
    """One row, or one per question."""
    data = record.data
    kind = "image" if isinstance(data, dict) and data.get("video") is None and "image" in data else "video"
    medium: Any = _located(need(data, kind, str, f"the {kind}'s path"), kind, record, options)
    if kind == "video" and data.get("start") is not None and data.get("end") is not None:
        clip = {name: need(data, name, (int, float), "seconds") for name in ("start", "end")}
        medium = {"path": medium} | clip
    asked = need(data, "QA", list, "a list of {'i', 'q', 'a'}")
    if not asked:
        raise Rejected("field 'QA': expected at least one question, got an empty list")
    instructions, pairs = [], []
    for i, one in enumerate(asked):
        at = f"QA[{i}]"
        if not isinstance(one, dict) or not all(isinstance(one.get(k), str) for k in ("q", "a")):
            raise Rejected(f"field '{at}': expected {{'i': …, 'q': …, 'a': …}} of texts, got {show(one)}")
        if not one["a"].strip():
            raise Rejected(f"field '{at}.a': expected an answer, got an empty text")
        if one.get("i") is not None and not isinstance(one["i"], str):
            raise Rejected(f"field '{at}.i': expected an instruction, got {show(one['i'])}")
        instruction = (one.get("i") or "").strip()
        question = one["q"].strip() or instruction
        if not question:
            raise Rejected(f"field '{at}.q': expected a question or an instruction, got empty texts")
        instructions.append(instruction if question != instruction else "")
        pairs.append((question, one["a"].strip()))
    images, videos = ([medium], []) if kind == "image" else ([], [medium])
    columns = {"source": source(options, "VideoChat2-IT", "MIT")}
    yield from _rows(own_id(record, "id"), instructions, pairs, images, videos, options, "QA", columns)


def looks_like_videochat(path: Path, first: Any) -> bool:
    """True for records with QA of q and a."""
    asked = first.get("QA") if isinstance(first, dict) else None
    return (
        isinstance(asked, list) and bool(asked) and isinstance(asked[0], dict) and {"q", "a"} <= set(asked[0])
    )


def _located(path: str, field: str, record: Record, options: SourceOptions) -> str:
    if not path.strip():
        raise Rejected(f"field '{field}': expected a path, got an empty text")
    return locate(path, field, options.media or record.file.parent)


def _rows(
    name: str,
    instructions: Sequence[str],
    pairs: Sequence[Turn],
    images: list[Any],
    videos: list[Any],
    options: VideoChatOptions,
    field: str,
    columns: dict[str, Any],
) -> Iterator[Row | Rejected]:
    """A record's questions and answers as one dialogue, or a row each. instructions: above each question, or none at all."""

    def asked(turns: list[Turn], instruction: str) -> Row:
        head = [("system", instruction)] if instruction else []
        return dialogue(front_placeholders([*head, *turns], images, videos), images, videos, field)

    if options.turns == "dialogue":
        turns = [turn for question, answer in pairs for turn in (("user", question), ("assistant", answer))]
        row = asked(turns, next(iter(instructions), ""))
        yield {"id": name, "task": "chat", "answer": None} | row | columns
        return
    for i, (question, answer) in enumerate(pairs):
        task, truth = gold(question, answer)
        turns = [("user", question)] + ([("assistant", answer)] if truth is None else [])
        own = name if len(pairs) == 1 else f"{name}-{i + 1}"
        row = asked(turns, instructions[i] if instructions else "")
        yield {"id": own, "task": task, "answer": truth} | row | columns


# ----------------------------------------------------------------------------------------------------------- Video-R1

TASKS = {"multiple choice": "choice", "numerical": "math", "OCR": "ocr", "regression": "regression"}
_ANSWER = re.compile(r"\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_LETTER = re.compile(r"\s*\(?([A-Z])[.):]\s*(.+)", re.DOTALL)


def convert_video_r1(record: Record, options: VideoR1Options) -> Iterator[Row | Rejected]:
    """One row; `process`, the thought of Video-R1-COT-165k, becomes the trace with the solution behind it."""
    data = record.data
    problem = need(data, "problem", str, "a question")
    kind = need(data, "data_type", str, "image or video")
    if kind not in ("image", "video"):
        raise Rejected(f"field 'data_type': expected image or video, got {show(kind)}")
    path = need(data, "path", str, f"the {kind}'s path").lstrip("/")  # as in the sets made after it
    medium = _located(path, "path", record, options)
    problem_type = need(data, "problem_type", str, "multiple choice, numerical, OCR, free-form or regression")
    solution = need(data, "solution", str, "a text with <answer>…</answer>")
    match = _ANSWER.fullmatch(solution)
    if not match or not match.group(1).strip():
        raise Rejected(f"field 'solution': expected <answer>…</answer>, got {show(solution)}")
    value = match.group(1).strip()
    listed = _options(data) if problem_type == "multiple choice" else []
    question = f"{problem}\nOptions:\n{options_text(listed)}" if listed else problem
    task = (TASKS | options.tasks).get(problem_type)
    if task is None and problem_type != "free-form":
        raise Rejected(
            f"field 'problem_type': expected {', '.join(TASKS)} or free-form (or one named in `tasks`), got {show(problem_type)}"
        )
    if task is None:
        task = "text" if len(value.split()) <= MAX_WORDS and "\n" not in value else "chat"
    answer = None if task == "chat" else _gold(task, value, listed)
    thought = data.get("process")
    turns = [("user", question)]
    if isinstance(thought, str) and thought.strip():
        turns.append(("assistant", f"{thought.strip()}\n{solution.strip()}"))
    elif answer is None:
        turns.append(("assistant", value))
    images, videos = ([medium], []) if kind == "image" else ([], [medium])
    row = dialogue(front_placeholders(turns, images, videos), images, videos, "problem")
    columns = {"problem_type": problem_type, "source": source(options, "Video-R1-data", "unknown")}
    if isinstance(data.get("data_source"), str):
        columns["subset"] = data["data_source"]
    yield {"id": own_id(record, "problem_id"), "task": task, "answer": answer} | row | columns


def _options(data: dict[str, Any]) -> list[str]:
    """The options' texts, without the letters in front of them."""
    options = need(data, "options", list, "the options")
    if len(options) < 2 or not all(isinstance(option, str) and option.strip() for option in options):
        raise Rejected(f"field 'options': expected two texts or more, got {show(options)}")
    texts = []
    for i, option in enumerate(options):
        match = _LETTER.fullmatch(option)
        lettered = match is not None and match.group(1) == chr(ord("A") + i)
        texts.append(match.group(2).strip() if match is not None and lettered else option.strip())
    return texts


def _gold(task: str, value: str, options: list[str]) -> dict[str, Any]:
    if task != "choice":
        return typed_answer(task, value, "solution")
    letter = value.strip(" .()")
    if len(letter) != 1 or not 0 <= ord(letter) - ord("A") < len(options):
        raise Rejected(
            f"field 'solution': expected the letter of one of {len(options)} options, got {show(value)}"
        )
    return {"letter": letter, "options": options}


def looks_like_video_r1(path: Path, first: Any) -> bool:
    """True for records with a problem of a type, a path, and a solution."""
    fields = {"problem", "problem_type", "data_type", "solution", "path"}
    return isinstance(first, dict) and fields <= set(first)


FORMATS = (
    Format(
        "llava_video",
        "LLaVA-Video-178K: captions, open and multiple-choice questions",
        read,
        convert_llava_video,
        looks_like_llava_video,
        VideoChatOptions,
    ),
    Format(
        "videochat",
        "VideoChat2-IT: instruction, question, answer about a video or image",
        read,
        convert_videochat,
        looks_like_videochat,
        VideoChatOptions,
    ),
    Format(
        "video_r1",
        "Video-R1: problems of five types about videos and images",
        read,
        convert_video_r1,
        looks_like_video_r1,
        VideoR1Options,
    ),
)

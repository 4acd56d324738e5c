"""Moments in videos: Charades-STA, ActivityNet Captions, QVHighlights, TimeRFT (Time-R1) and TimeChat's annotations.

| format | file | published by |
|---|---|---|
| charades_sta | "3MSZA 24.3 30.4##person turn a light on." per line | jiyanggao/TALL; lengths: Charades_v1_{train,test}.csv |
| activitynet_captions | {"v_ID": {"duration", "timestamps": [[s, e]], "sentences": […]}} | ActivityNet Captions; microsoft/2D-TAN |
| qvhighlights | {"qid", "query", "vid", "duration", "relevant_windows": [[s, e]]} per line | jayleicn/moment_detr |
| timerft | [{"video", "duration", "timestamp": [s, e], "sentence", "qid"}] | xiaomi-research/time-r1 |
| tvgbench | [{"path", "question", "answer": "s-e", "duration"}] | xiaomi-research/time-r1 |
| timechat_tvg | {"annotations": [{"image_id", "caption", "timestamp": [s, e], "id"}]} | RenShuhuai-Andy/TimeChat |

Times are seconds from the start of the video file. All rows are of task temporal; impossible annotations (an end before the
start, or after the length stated in the file) are rejected. Validation, which opens the videos, checks their real lengths.
The annotations' licences do not cover the videos, which are third-party footage.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.readers.chat import source
from data_recipes.readers.coco import first_fields
from data_recipes.readers.files import json_items, json_pairs, need, show, text_lines
from data_recipes.readers.folders import records
from data_recipes.readers.moments import MomentOptions, moment, stated_duration
from data_recipes.records import Format, Record, Rejected, SourceError


class CharadesOptions(MomentOptions):
    """Options of the format charades_sta."""

    lengths: Path | None = None
    """CSV with columns id and length (seconds), e.g. Charades_v1_train.csv; the annotations themselves have no lengths."""


class HighlightsOptions(MomentOptions):
    """Options of the format qvhighlights."""

    prompt: str = (
        "When does this happen in the video: “{query}”? Answer with the start and the end of each time it happens, as"
        " [mm:ss,mm:ss]."
    )
    """Question; {query} is the annotation's sentence, which may apply to several windows."""


class TimeRftOptions(MomentOptions):
    """Options of the format timerft."""

    cut: Literal["by_name", "always", "never"] = "by_name"
    """Entries with `video_start` and `video_end` refer to that part of a video. `by_name`: files with the part in their name
    (ID_00:07:21:000_00:08:00:200.mp4) contain only that part; from other files it is cut when the row is used. `always` and
    `never` cut it from all files or none. With a wrong choice, rows are rejected for their duration."""


class TvgBenchOptions(MomentOptions):
    """Options of the format tvgbench."""

    video: str = "{id}.*"
    """The video file's path in `media`: {id} is the video's name, * matches anything (the set has .mp4 and .mkv)."""


# ------------------------------------------------------------------------------------------------------- Charades-STA

_CHARADES = re.compile(r"(\S+) ([0-9.]+) ([0-9.]+)##(.*)")


def read_charades(path: Path, options: CharadesOptions) -> Iterator[Record]:
    """One record per line."""
    return text_lines(path)


def convert_charades(record: Record, options: CharadesOptions) -> Iterator[Row | Rejected]:
    """One row per line."""
    match = _CHARADES.fullmatch(record.data.strip())
    if not match:
        raise Rejected(f"expected 'VIDEO START END##SENTENCE', got {show(record.data)}")
    video, start, end, sentence = match.groups()
    try:
        window = [float(start), float(end)]
    except ValueError:
        raise Rejected(f"expected START and END in seconds, got {start} and {end}") from None
    duration = None
    if options.lengths is not None:
        duration = _lengths(options.lengths.absolute()).get(video)
        if duration is None:
            raise Rejected(f"expected a video listed in {options.lengths.name}, got {video}")
    told = {"source": source(options, "Charades-STA", "Charades: non-commercial research")}
    yield moment(
        record,
        options,
        name=f"{video}-{record.at}",
        video=video,
        query=sentence,
        windows=[window],
        field="START END",
        duration=duration,
        columns=told,
    )


@lru_cache(maxsize=4)
def _lengths(path: Path) -> dict[str, float]:
    """Seconds by video."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if not {"id", "length"} <= set(table.fieldnames or ()):
                raise ValueError(f"{path} with the columns {table.fieldnames}")
            return {row["id"]: float(row["length"]) for row in table}
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(f"option 'lengths': expected columns id and length, got {error}") from None


def looks_like_charades(path: Path, first: Any) -> bool:
    """True for a text file of such lines; `first` is its first line if known, else the file is read."""
    if not isinstance(first, str) and path.is_file() and path.suffix == ".txt":
        first = next((record.data for record in text_lines(path)), "")
    return isinstance(first, str) and _CHARADES.fullmatch(first.strip()) is not None


# ----------------------------------------------------------------------------------------------- ActivityNet Captions


def read_activitynet(path: Path, options: MomentOptions) -> Iterator[Record]:
    """One record per video; `at` is its name."""
    return json_pairs(path)


def convert_activitynet(record: Record, options: MomentOptions) -> Iterator[Row | Rejected]:
    """One row per event; an impossible event is rejected without affecting the others."""
    windows = need(record.data, "timestamps", list, "[start, end] of each event")
    sentences = need(record.data, "sentences", list, "a sentence for each event")
    duration = stated_duration(record.data)
    if len(windows) != len(sentences) or not windows:
        raise Rejected(
            f"field 'sentences': expected one per timestamp ({len(windows)}, at least 1), got {len(sentences)}"
        )
    told = {"source": source(options, "ActivityNet Captions", "unknown")}
    for i, (window, sentence) in enumerate(zip(windows, sentences, strict=True)):
        try:
            if not isinstance(sentence, str):
                raise Rejected(f"field 'sentences[{i}]': expected a sentence, got {show(sentence)}")
            yield moment(
                record,
                options,
                name=f"{record.at}-{i}",
                video=str(record.at),
                query=sentence,
                windows=[window],
                field=f"timestamps[{i}]",
                duration=duration,
                columns=told,
            )
        except Rejected as error:
            yield error


def looks_like_activitynet(path: Path, first: Any) -> bool:
    """True for records with timestamps and sentences."""
    return isinstance(first, dict) and {"duration", "timestamps", "sentences"} <= set(first)


# ------------------------------------------------------------------------------------------------------- QVHighlights


def read_lines(path: Path, options: MomentOptions) -> Iterator[Record]:
    """One record per line."""
    return records(path, options.split)


def convert_qvhighlights(record: Record, options: HighlightsOptions) -> Iterator[Row | Rejected]:
    """One row per query, with all its windows. `vid` is the name of a published 150 s clip."""
    data = record.data
    video = need(data, "vid", str, "the clip's name")
    qid = need(data, "qid", (int, str), "the query's number")
    yield moment(
        record,
        options,
        name=str(qid),
        video=video,
        query=need(data, "query", str, "a sentence"),
        windows=need(data, "relevant_windows", list, "[[start, end], …] (test splits have none)"),
        field="relevant_windows",
        duration=stated_duration(data),
        columns={"source": source(options, "QVHighlights", "CC BY-NC-SA 4.0")},
    )


def looks_like_qvhighlights(path: Path, first: Any) -> bool:
    """Records with windows."""
    return isinstance(first, dict) and {"qid", "vid", "relevant_windows"} <= set(first)


# ---------------------------------------------------------------------------------------------------- TimeRFT, TimeChat


_CUT_NAME = re.compile(r"_\d\d:\d\d:\d\d:\d{3}_\d\d:\d\d:\d\d:\d{3}\.")


def read_timerft(path: Path, options: TimeRftOptions) -> Iterator[Record]:
    """Entries of the array."""
    return records(path, options.split)


def convert_timerft(record: Record, options: TimeRftOptions) -> Iterator[Row | Rejected]:
    """One row per entry; keeps `difficulty` (IoU of the authors' model, in percent)."""
    data = record.data
    video = need(data, "video", str, "the video's path")
    clip = None
    if data.get("video_start") is not None and (
        options.cut == "always" or (options.cut == "by_name" and not _CUT_NAME.search(video))
    ):
        start = need(data, "video_start", (int, float), "the part's start in seconds")
        clip = {"start": start, "end": need(data, "video_end", (int, float), "the part's end in seconds")}
    yield moment(
        record,
        options,
        name=str(record.at),
        video=video,
        query=need(data, "sentence", str, "a sentence"),
        windows=[data.get("timestamp")],
        field="timestamp",
        duration=stated_duration(data),
        columns={
            "source": source(options, "TimeRFT", "Apache-2.0"),
            **{key: data[key] for key in ("qid", "difficulty") if data.get(key) is not None},
        },
        clip=clip,
    )


def looks_like_timerft(path: Path, first: Any) -> bool:
    """Records of Time-R1."""
    return isinstance(first, dict) and {"video", "timestamp", "sentence", "duration"} <= set(first)


# ----------------------------------------------------------------------------------------------------------- TVGBench

_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*")


def convert_tvgbench(record: Record, options: MomentOptions) -> Iterator[Row | Rejected]:
    """One row per entry. The answer is "START-END" in seconds of the part from `start` to `end`, or of the whole video."""
    data = record.data
    text = need(data, "answer", str, "START-END in seconds")
    match = _SPAN.fullmatch(text)
    if not match:
        raise Rejected(f"field 'answer': expected START-END in seconds, got {show(text)}")
    clip = None
    if data.get("start") is not None or data.get("end") is not None:
        start, end = (
            need(data, name, (int, float), "the part's time in seconds") for name in ("start", "end")
        )
        clip = {"start": start, "end": end}
    kept = ("dataset_name", "qsemtype")
    yield moment(
        record,
        options,
        name=str(record.at),
        video=need(data, "path", str, "the video's path"),
        query=need(data, "question", str, "a sentence"),
        windows=[[float(match.group(1)), float(match.group(2))]],
        field="answer",
        duration=stated_duration(data),
        columns={
            "source": source(options, "TVGBench", "unknown"),
            **{key: data[key] for key in kept if isinstance(data.get(key), str)},
        },
        clip=clip,
    )


def looks_like_tvgbench(path: Path, first: Any) -> bool:
    """True for entries of Time-R1's benchmark."""
    return (
        isinstance(first, dict)
        and {"path", "question", "answer", "duration"} <= set(first)
        and first.get("question_type", "video temporal grounding") == "video temporal grounding"
    )


def read_timechat(path: Path, options: MomentOptions) -> Iterator[Record]:
    """Entries of the file's `annotations`."""
    return json_items(path, "annotations")


def convert_timechat(record: Record, options: MomentOptions) -> Iterator[Row | Rejected]:
    """One row per annotation; the file has no video lengths."""
    data = record.data
    yield moment(
        record,
        options,
        name=f"{need(data, 'id', (int, str), 'a number')}@{record.at}",
        video=need(data, "image_id", str, "the video's name"),
        query=need(data, "caption", str, "a sentence"),
        windows=[data.get("timestamp")],
        field="timestamp",
        duration=None,
        columns={"source": source(options, "TimeChat temporal grounding", "unknown")},
    )


def looks_like_timechat(path: Path, first: Any) -> bool:
    """True for a .json file whose annotations have captions and times."""
    fields = first_fields(path)
    return {f"annotations.item.{name}" for name in ("image_id", "caption", "timestamp")} <= fields


FORMATS = (
    Format(
        "charades_sta",
        "Charades-STA: one moment per line",
        read_charades,
        convert_charades,
        looks_like_charades,
        CharadesOptions,
    ),
    Format(
        "activitynet_captions",
        "ActivityNet Captions: events of each video",
        read_activitynet,
        convert_activitynet,
        looks_like_activitynet,
        MomentOptions,
    ),
    Format(
        "qvhighlights",
        "QVHighlights: all windows of a query",
        read_lines,
        convert_qvhighlights,
        looks_like_qvhighlights,
        HighlightsOptions,
    ),
    Format(
        "timerft",
        "TimeRFT of Time-R1: moments with difficulty",
        read_timerft,
        convert_timerft,
        looks_like_timerft,
        TimeRftOptions,
    ),
    Format(
        "tvgbench", "TVGBench of Time-R1", read_lines, convert_tvgbench, looks_like_tvgbench, TvgBenchOptions
    ),
    Format(
        "timechat_tvg",
        "TimeChat's temporal grounding annotations",
        read_timechat,
        convert_timechat,
        looks_like_timechat,
        MomentOptions,
    ),
)

"""Shared code of readers of moments in videos: options, the row of one moment, and checks of the annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from core.rows import Row
from data_recipes.readers.chat import SourceOptions
from data_recipes.readers.files import need, show
from data_recipes.readers.places import ask, fill, find_media, plain
from data_recipes.records import Record, Rejected
from rewards.reading.gold import number

ROUNDING = 1e-6  # seconds; the files have lengths such as 78.28999999999999 with ends such as 78.29


class MomentOptions(SourceOptions):
    """Options of all formats of moments. `media`: folder of the videos; null: the annotation file's folder."""

    video: str = "{id}.mp4"
    """The video file's path in `media`: {id} is the video's name in the annotations, without folders and extension. * matches
    anything, for sets with mixed extensions: "{id}.*"."""
    prompt: str = (
        "When does this happen in the video: “{query}”? Answer with the start and the end as [mm:ss,mm:ss]."
    )
    """Question; {query} is the annotation's sentence. The reward also reads fractions of seconds and plain seconds."""
    overshoot: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Ends at most this many seconds after the stated length of the video are clipped to it; others are rejected. In
    Charades-STA one end in seven is up to 1.5 s too late."""


def moment(
    record: Record,
    options: MomentOptions,
    *,
    name: str,
    video: str,
    query: str,
    windows: list[Any],
    field: str,
    duration: float | None,
    columns: Mapping[str, Any],
    clip: Mapping[str, float] | None = None,
) -> Row:
    """One row; raises Rejected for an impossible window."""
    if not query.strip():
        raise Rejected("field 'sentence': expected a description of what happens, got an empty text")
    if not windows:
        raise Rejected(f"field '{field}': expected at least one [start, end], got an empty list")
    spans = [
        _span(w, f"{field}[{i}]" if len(windows) > 1 else field, duration, options.overshoot)
        for i, w in enumerate(windows)
    ]
    stem = re.sub(r"\.(mp4|mkv|webm|avi|mov)$", "", video.replace("\\", "/").rsplit("/", 1)[-1])
    path = find_media(fill(options.video, id=stem), "video", record, options.media)
    return {
        "id": name,
        "task": "temporal",
        "prompt": ask(fill(options.prompt, query=query.strip()), "video"),
        "videos": [{"path": path, **clip} if clip else path],
        "answer": {"spans": spans},
        "query": query.strip(),
        **({"duration": duration} if duration is not None else {}),
        **columns,
    }


def _span(window: Any, field: str, duration: float | None, overshoot: float) -> list[float]:
    """[start, end] in seconds with 0 <= start < end <= duration."""
    if not isinstance(window, list) or len(window) != 2:
        raise Rejected(f"field '{field}': expected [start, end] in seconds, got {show(window)}")
    try:
        start, end = (number(value, field) for value in window)
    except ValueError:
        raise Rejected(f"field '{field}': expected [start, end] in seconds, got {show(window)}") from None
    if not 0.0 <= start < end:
        raise Rejected(f"field '{field}': expected 0 <= start < end, got {show(window)}")
    if duration is not None and end > duration + ROUNDING:
        if end > duration + overshoot or start >= duration:
            raise Rejected(
                f"field '{field}': expected an end within the video's {duration:g} s, got {show(window)}"
            )
        end = duration
    return [plain(start), plain(end)]


def stated_duration(data: Any) -> float:
    """The record's `duration` in seconds."""
    value = need(data, "duration", (int, float), "the video's length in seconds")
    if not 0 < value < 1e6:
        raise Rejected(f"field 'duration': expected the video's length in seconds, got {show(value)}")
    return plain(value)

"""Dense captions of videos by a teacher: what happens from when to when, window by window.

A video is cut into windows, and the teacher sees frames of one with their times. Its events must lie in the window, in order, without
overlap, and cover it; a refused reply goes back with what was wrong. An event that goes on across a border between windows is told
to the teacher with the next one, and becomes one event.

The row gets the columns `dense_captions` (`{"start", "end", "label", "caption"}` in seconds of the row's video), `captioned` (the
parts of it that were shown) and `duration`. `moment_questions` asks about them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from core.rows import Row
from data_recipes.checks.probes import part_shown
from data_recipes.operations.languages import group
from data_recipes.records import Context, Options, Removed, RowOperation
from data_recipes.teacher.attempts import Attempt, Verdict, attempt
from data_recipes.teacher.client import Client
from data_recipes.teacher.dense_events import Event, joined, read_events, times_fault
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import Message, media_fields, media_parts, text_part
from data_recipes.teacher.ordered import in_order
from data_recipes.teacher.reply_text import language_fault, repetition_fault, token_fault, unseen_fault
from vlm.media import MediaError

INSTRUCTION = """Describe what happens in this video clip as a list of events, one after the other, that together cover the clip \
from its beginning to its end. Describe only what can be seen. Reply with a JSON array and nothing else, one object for each event:

[{"start": 0.0, "end": 4.5, "label": "a man opens a door", "caption": "A man in a grey coat walks up to a green door, tries the \
handle twice and pulls it open."}, …]

start, end: seconds from the beginning of the clip, of {length} seconds.
label: what happens, in a few words; the same words each time the same thing happens again, other words for everything else.
caption: this one time in one to three sentences{language}."""

LABELS = """Labels used so far in this video: {labels}."""
BEFORE = """The clip follows directly on one whose last event is: {caption} If that event goes on in this clip, let it be your first \
event, with "start": 0 and "continues": true beside the others, and describe the whole of it in its caption."""


class DenseCaptions(Options):
    """What happens in videos from when to when, described by a teacher."""

    teacher: Endpoint
    """Who writes. Its `video_fps` and `max_frames` say which frames of a window it sees."""
    tasks: list[str] | None = None
    """Rows of other tasks pass unchanged, and so do rows without exactly one video. Not given: all tasks."""
    window_s: float = Field(default=30.0, ge=2.0, allow_inf_nan=False)
    """Length of a window in seconds; a shorter rest joins the last one if it is below half of that."""
    max_windows: int | None = Field(default=None, ge=1)
    """Of a longer video so many windows are shown, spread evenly over it. Not given: all windows, so that the whole video is
    captioned; questions are asked about such videos alone."""
    min_coverage: float = Field(default=0.7, ge=0.0, le=1.0)
    """Share of each window that its events must cover."""
    max_overlap_s: float = Field(default=0.5, ge=0.0, allow_inf_nan=False)
    """Seconds by which an event may start before those before it end."""
    tolerance_s: float = Field(default=0.5, ge=0.0, allow_inf_nan=False)
    """Seconds by which an event may end after its window; it is cut there, and counted."""
    min_chars: int = Field(default=20, ge=1)
    """Replies with a shorter caption are refused."""
    max_chars: int = Field(default=1000, ge=1)
    """Replies with a longer caption are refused."""
    language: str | None = None
    """Language of the captions, as a code of two letters. Not given: any."""
    min_confidence: float = Field(default=0.8, ge=0.0, le=1.0)
    """Probability below which the language of a text counts as unknown; unknown ones pass."""
    repetition_min_words: int = Field(default=30, ge=1)
    """Captions of a window with fewer words together are not judged for repetition."""
    max_tries: int = Field(default=3, ge=1, le=100)
    """Replies asked for, per window, before the row leaves."""
    instruction: str | None = None
    """Replaces the instruction; {length} is the window's length in seconds."""


def windows(length: float, window_s: float, most: int | None) -> list[tuple[float, float]]:
    """(start, end) of the windows of a video of `length` seconds; of more than `most`, that many, the first and the last among them."""
    count = max(1, int(length // window_s) + (length % window_s >= window_s / 2))
    starts = [number * window_s for number in range(count)]
    every = list(zip(starts, [*starts[1:], length], strict=True))
    if most is None or count <= most:
        return every
    return [every[0]] if most == 1 else [every[round(i * (count - 1) / (most - 1))] for i in range(most)]


class _Captioner:
    """What one pass over rows needs."""

    def __init__(self, options: DenseCaptions, context: Context) -> None:
        self.options, self.counts = options, context.counts
        self.client = Client(options.teacher, context.folder / "teacher", context.counts, "teacher")
        self.wanted = group(options.language) if options.language else None

    async def caption(self, row: Row) -> Row | Removed:
        options = self.options
        skipped = options.tasks is not None and row["task"] not in options.tasks
        if skipped or len(row.get("videos") or ()) != 1:
            self.counts["passed"] += 1
            return row
        self.counts["asked"] += 1
        medium = row["videos"][0]
        try:
            clip, length = await asyncio.to_thread(_clip, medium)
        except MediaError as error:
            return self._removed(row, "video", str(error))
        events: list[Event] = []
        shown: list[list[float]] = []
        tries = 0
        for start, end in windows(length, options.window_s, options.max_windows):
            follows = bool(shown) and shown[-1][1] == start
            made = await self._window(clip, start, end, events, follows)
            tries += made.tries
            if made.value is None:
                return self._removed(
                    row, made.rule, f"{start:g} to {end:g} s, after {made.tries} tries: {made.reason}"
                )
            self.counts["ends_cut"] += sum(event.end > end - start for event in made.value)
            self.counts["events_continued"] += made.value[0].continues
            events = joined(events, made.value, start, end - start)
            shown = [*shown[:-1], [shown[-1][0], end]] if follows else [*shown, [start, end]]
        self.counts["accepted"] += 1
        self.counts["events"] += len(events)
        return row | {
            "dense_captions": [event.as_column() for event in events],
            "captioned": shown,
            "duration": length,
            "teacher": {"model": options.teacher.model, "tries": tries},
        }

    async def _window(
        self, clip: Mapping[str, Any], start: float, end: float, before: list[Event], follows: bool
    ) -> Attempt[list[Event]]:
        """The events of one window, in its own time. follows: it begins where the last one ended."""
        options, length = self.options, end - start
        goes_on = follows and before[-1].end >= start - options.tolerance_s

        async def check(text: str) -> Verdict[list[Event]]:
            return self._check(text, length, goes_on)

        part = dict(clip) | {"start": clip["start"] + start, "end": clip["start"] + end}
        one = {"id": "window", "videos": [part]}
        messages = await asyncio.to_thread(self._messages, one, length, before, goes_on)
        fields = await asyncio.to_thread(media_fields, one, options.teacher)
        made = await attempt(self.client, messages, check, max_tries=options.max_tries, fields=fields)
        self.counts["windows"] += 1
        self.counts["replies"] += made.tries
        self.counts.update(f"replies_refused/{rule}" for rule in made.broken)
        return made

    def _messages(self, row: Row, length: float, before: list[Event], goes_on: bool) -> list[Message]:
        options = self.options
        language = f", in the language with the code '{options.language}'" if options.language else ""
        text = options.instruction or INSTRUCTION.replace("{language}", language)
        text = text.replace("{length}", f"{round(length, 2):g}")
        labels = list(dict.fromkeys(event.label for event in before))
        if labels:
            text += "\n\n" + LABELS.format(labels="; ".join(labels))
        if goes_on:
            text += "\n\n" + BEFORE.format(caption=before[-1].caption)
        return [{"role": "user", "content": [*media_parts(row, options.teacher), text_part(text)]}]

    def _check(self, text: str, length: float, goes_on: bool) -> Verdict[list[Event]]:
        options = self.options
        events = read_events(text)
        if isinstance(events, Verdict):
            return unseen_fault(text, "video") or events
        for number, event in enumerate(events, 1):
            if event.continues and (number > 1 or not goes_on or event.start > options.tolerance_s):
                return Verdict(
                    rule="continues",
                    reason=f"event {number} continues one before the clip, which only its first can, from its beginning",
                    feedback="Only the first event can continue one before the clip, and only if one was named. Write all events again.",
                )
            if not options.min_chars <= len(event.caption) <= options.max_chars:
                return Verdict(
                    rule="length",
                    reason=f"expected captions of {options.min_chars} to {options.max_chars} characters, got {len(event.caption)}",
                    feedback=f"Every caption must have {options.min_chars} to {options.max_chars} characters. Write all events again.",
                )
        together = " ".join(event.caption for event in events)
        fault = (
            times_fault(
                events,
                length,
                tolerance_s=options.tolerance_s,
                max_overlap_s=options.max_overlap_s,
                min_coverage=options.min_coverage,
            )
            or token_fault(text)
            or unseen_fault(together, "video")
            or repetition_fault(together, options.repetition_min_words)
            or language_fault(together, self.wanted, options.min_confidence)
        )
        return fault or Verdict(events)

    def _removed(self, row: Row, rule: str, reason: str) -> Removed:
        self.counts[f"refused/{rule}"] += 1
        return Removed(row, f"dense_caption_{rule}", reason)


def _clip(medium: Any) -> tuple[dict[str, Any], float]:
    """The row's video with the start of the part that it shows, and that part's length in seconds. Raises MediaError."""
    clip = dict(medium) if isinstance(medium, Mapping) else {"path": medium}
    start, end = part_shown(medium)
    return clip | {"start": start}, round(end - start, 3)


def _apply(rows: Iterator[Row], options: DenseCaptions, context: Context) -> Iterator[Row | Removed]:
    captioner = _Captioner(options, context)
    yield from in_order(rows, captioner.caption, ahead=options.teacher.ahead, close=captioner.client.close)


OPERATIONS: dict[str, Any] = {"dense_captions": RowOperation(_apply, DenseCaptions)}

"""Events of a video with their times: read from a teacher's reply, and checked for bounds, order, overlap and coverage.

A reply is a JSON array of {"start", "end", "label", "caption"}, times in seconds from the beginning of what was shown. Nothing that
a reply holds can raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from data_recipes.teacher.attempts import Verdict, describe

LABEL_CHARS = 120
MOST_EVENTS = 500
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_KEYS = {"start", "end", "label", "caption"}


@dataclass(frozen=True)
class Event:
    """start, end: seconds. label: what happens, in the same few words each time it happens. caption: one such time in detail.
    continues: it goes on from before what was shown."""

    start: float
    end: float
    label: str
    caption: str
    continues: bool = False

    def as_column(self) -> dict[str, Any]:
        """As it stands in a row."""
        return {key: value for key, value in asdict(self).items() if key != "continues"}


def read_events(text: str) -> list[Event] | Verdict[Any]:
    """The events of a reply that is such an array, alone or as one block of code; else the verdict on its form."""
    match = _FENCE.match(text.strip())
    try:
        found: Any = json.loads(match.group(1) if match else text)
    except (ValueError, RecursionError):
        return _form(f"no JSON: {describe(text)}")
    if not isinstance(found, list) or not found:
        return _form(f"no list of events: {describe(text)}")
    if len(found) > MOST_EVENTS:
        return _form(f"{len(found)} events, more than {MOST_EVENTS}")
    events = []
    for number, one in enumerate(found, 1):
        if not isinstance(one, dict) or not _KEYS <= set(one) <= _KEYS | {"continues"}:
            return _form(f"event {number} has other keys than {', '.join(sorted(_KEYS))}")
        texts = [one["label"], one["caption"]]
        if not all(isinstance(t, str) and t.strip() for t in texts):
            return _form(f"event {number} has no label or no caption")
        label, caption = (" ".join(t.split()) for t in texts)
        if len(label) > LABEL_CHARS:
            return _form(f"the label of event {number} has more than {LABEL_CHARS} characters")
        if not all(_is_time(one[key]) for key in ("start", "end")) or not isinstance(
            one.get("continues", False), bool
        ):
            return _form(
                f"event {number} has a start or end that is no number of seconds, or a 'continues' that is not true or false"
            )
        events.append(
            Event(float(one["start"]), float(one["end"]), label, caption, one.get("continues", False))
        )
    return events


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e7 < value < 1e7


def _form(reason: str) -> Verdict[Any]:
    return Verdict(
        rule="form",
        reason=f"expected a JSON array of events, got {reason}",
        feedback=f"Your reply is not in the form asked for ({reason}). Reply with the JSON array of all events and nothing else.",
    )


def times_fault(
    events: Sequence[Event], length: float, *, tolerance_s: float, max_overlap_s: float, min_coverage: float
) -> Verdict[Any] | None:
    """The verdict on the first fault of the events' times in a clip of `length` seconds.

    bounds: 0 <= start < end <= length + tolerance_s. order: starts rise. overlap: an event starts at most max_overlap_s before the
    end of the ones before it. coverage: the events together cover at least this share of the clip.
    """
    latest = 0.0
    for number, event in enumerate(events, 1):
        span = f"[{event.start:g}, {event.end:g}]"
        if not 0 <= event.start < event.end <= length + tolerance_s or event.start >= length:
            return _times(
                "bounds", f"event {number} at {span} s; the clip shown lasts from 0 to {length:g} s"
            )
        if number > 1 and event.start < events[number - 2].start:
            return _times("order", f"event {number} at {span} s starts before event {number - 1}")
        if number > 1 and event.start < latest - max_overlap_s:
            return _times(
                "overlap", f"event {number} at {span} s starts before {latest:g} s, when those before it end"
            )
        latest = max(latest, event.end)
    share = covered(events, length) / length
    if share < min_coverage:
        return _times(
            "coverage",
            f"the events cover {share:.0%} of the clip of {length:g} s, at least {min_coverage:.0%} expected",
        )
    return None


def _times(rule: str, reason: str) -> Verdict[Any]:
    return Verdict(
        rule=rule,
        reason=reason,
        feedback=f"The times cannot be right: {reason}. Write all events again, in the order of their starts, one after the other, from the"
        " beginning of the clip to its end.",
    )


def covered(events: Sequence[Event], length: float) -> float:
    """Seconds of [0, length] that lie in one event or more. events: in the order of their starts."""
    total = end = 0.0
    for event in events:
        total += max(0.0, min(event.end, length) - max(event.start, end))
        end = max(end, min(event.end, length))
    return total


def joined(before: Sequence[Event], events: Sequence[Event], start: float, length: float) -> list[Event]:
    """The events so far and those of the window that begins at `start` and lasts `length` seconds, in the video's time.

    Ends beyond the window are cut to it. The first event of a window that continues the last one before becomes one with it,
    with the new caption and the old label.
    """
    moved = [
        replace(e, start=round(start + e.start, 3), end=round(start + min(e.end, length), 3), continues=False)
        for e in events
    ]
    if before and events and events[0].continues:
        first = replace(moved[0], start=before[-1].start, label=before[-1].label)
        return [*before[:-1], first, *moved[1:]]
    return [*before, *moved]

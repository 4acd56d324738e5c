"""Questions about several moments of a video, made of its dense captions by rule, and a rule that checks their answers.

Events are told apart by their labels. Asked is only about labels that name one thing: no other label of the video is much like them,
so that "a man jumps" is not asked about beside "a man jumps again".
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from core.rows import Row
from data_recipes.operations.text_filters import STOP_WORDS
from data_recipes.operations.text_hashes import words
from data_recipes.readers.chat import options_text
from data_recipes.teacher.dense_events import Event
from rewards.reading.gold import number

Kind = Literal["order", "count", "between", "when", "describe"]
MOST_OPTIONS = 4
_NAME = re.compile(r"\{(\w+)\}")

PROMPTS: dict[str, str] = {
    "first": "Which of these happens first in the video?",
    "last": "Which of these happens last in the video?",
    "count": "How many times does this happen in the video: “{label}”?",
    "between": "What happens in the video between “{before}” and “{after}”?",
    "when": "When does this happen in the video: “{label}”? Give the start and the end of each time, as [mm:ss,mm:ss].",
    "describe": "Describe what happens in the video, event by event, each with its start and end as [mm:ss, mm:ss].",
}


@dataclass(frozen=True)
class Question:
    """asked: name of its prompt in PROMPTS. moments: numbers of the events that it needs. names: labels in its text. trace: the answer
    of a question without a gold."""

    kind: str
    asked: str
    task: str
    moments: tuple[int, ...]
    answer: Mapping[str, Any] | None = None
    names: Mapping[str, str] | None = None
    trace: str | None = None

    def text(self, prompts: Mapping[str, str]) -> str:
        names = self.names or {}
        text = _NAME.sub(
            lambda m: names.get(m.group(1), m.group()), prompts.get(self.asked, PROMPTS[self.asked])
        )
        options = (self.answer or {}).get("options")
        return f"{text}\n{options_text(options)}" if options else text


@dataclass(frozen=True)
class Video:
    """Events of a video in the order of their starts. length: seconds. gap_s: seconds between events that count as one after the other.
    likeness: from which share of common words on two labels are too much alike."""

    events: tuple[Event, ...]
    length: float
    gap_s: float = 0.0
    likeness: float = 0.75

    def numbers(self, label: str) -> list[int]:
        return [i for i, event in enumerate(self.events) if same(event.label, label)]

    def clear(self) -> list[str]:
        """Labels that no other one is much like, in the order in which they first come."""
        different = {_key(event.label): event.label for event in reversed(self.events)}
        labels = list(different.values())[::-1]
        return [a for a in labels if not any(alike(a, b, self.likeness) for b in labels if not same(a, b))]

    def once(self) -> list[int]:
        """Numbers of the events whose label is clear and comes once."""
        return [found[0] for label in self.clear() if len(found := self.numbers(label)) == 1]

    def follows(self, a: int, b: int) -> bool:
        """Whether event b begins when a has ended, gap_s later at least."""
        return self.events[b].start >= self.events[a].end + self.gap_s


def _key(label: str) -> tuple[str, ...]:
    return tuple(words(label))


def same(a: str, b: str) -> bool:
    return _key(a) == _key(b)


def alike(a: str, b: str, likeness: float) -> bool:
    """Whether so large a share of the shorter label's content words stands in the other one."""
    first, second = (set(words(label)) - STOP_WORDS or set(words(label)) for label in (a, b))
    smaller = min(len(first), len(second))
    return smaller == 0 or len(first & second) / smaller >= likeness


def video_of(row: Row, column: str, *, gap_s: float, likeness: float) -> Video:
    """The events in a row's column. Raises ValueError naming the field that is wrong."""
    listed, length = row.get(column), number(row.get("duration"), "duration")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{column}: expected a list of events, got {listed!r:.60}")
    events = []
    for i, one in enumerate(listed):
        if not isinstance(one, Mapping):
            raise ValueError(
                f"{column}[{i}]: expected an object with start, end, label and caption, got {one!r:.60}"
            )
        caption = one.get("caption")
        label = one.get("label") or caption
        if not isinstance(caption, str) or not isinstance(label, str) or not _key(label):
            raise ValueError(
                f"{column}[{i}]: expected a caption, and a label if there is one, got {one!r:.60}"
            )
        start, end = (number(one.get(key), f"{column}[{i}].{key}") for key in ("start", "end"))
        events.append(Event(start, end, label.strip(), caption.strip()))
    return Video(tuple(events), length, gap_s, likeness)


# ---------------------------------------------------------------------------------------------------------- making them


def order_question(video: Video, rng: random.Random) -> Question | None:
    """Which of two to four events that do not overlap comes first, or last."""
    chosen: list[int] = []
    for event in rng.sample(once := video.once(), len(once)):
        if all(video.follows(min(event, other), max(event, other)) for other in chosen):
            chosen.append(event)
        if len(chosen) == MOST_OPTIONS:
            break
    if len(chosen) < 2:
        return None
    asked = rng.choice(("first", "last"))
    right = min(chosen) if asked == "first" else max(chosen)
    rng.shuffle(chosen)
    answer = _choice([video.events[i].label for i in chosen], chosen.index(right))
    return Question("order", asked, "choice", tuple(sorted(chosen)), answer)


def count_question(video: Video, rng: random.Random) -> Question | None:
    """How often something happens that happens twice or more, each time apart from the last."""
    candidates = []
    for label in video.clear():
        found = video.numbers(label)
        if len(found) > 1 and all(video.follows(a, b) and b > a + 1 for a, b in pairwise(found)):
            candidates.append((label, tuple(found)))
    if not candidates:
        return None
    label, moments = rng.choice(candidates)
    return Question("count", "count", "counting", moments, {"value": len(moments)}, {"label": label})


def between_question(video: Video, rng: random.Random) -> Question | None:
    """What alone happens after one event and before another; the other options happen before or after both."""
    once = set(video.once())
    middle = [
        i for i in range(1, len(video.events) - 1)
        if {i - 1, i, i + 1} <= once and video.follows(i - 1, i) and video.follows(i, i + 1)
    ]  # fmt: skip
    if not middle:
        return None
    i = rng.choice(middle)
    others = sorted(once - {i - 1, i, i + 1})
    if not others:
        return None
    shown = [i, *rng.sample(others, min(len(others), MOST_OPTIONS - 1))]
    rng.shuffle(shown)
    before, after = video.events[i - 1].label, video.events[i + 1].label
    answer = _choice([video.events[n].label for n in shown], shown.index(i))
    return Question(
        "between", "between", "choice", (i - 1, i, i + 1), answer, {"before": before, "after": after}
    )


def when_question(video: Video, rng: random.Random) -> Question | None:
    """All spans of something."""
    labels = video.clear()
    if not labels:
        return None
    label = rng.choice(labels)
    moments = tuple(video.numbers(label))
    spans = [[video.events[i].start, video.events[i].end] for i in moments]
    return Question("when", "when", "temporal", moments, {"spans": spans}, {"label": label})


def describe_question(video: Video, rng: random.Random) -> Question | None:
    """All events with their times; the trace is the answer."""
    lines = [f"[{clock(e.start)}, {clock(e.end)}] {e.caption}" for e in video.events]
    return Question("describe", "describe", "chat", tuple(range(len(lines))), trace="\n".join(lines))


def clock(seconds: float) -> str:
    """Seconds as mm:ss, with tenths where there are some."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes:02d}:{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")


def _choice(labels: list[str], right: int) -> dict[str, Any]:
    return {"letter": chr(ord("A") + right), "options": labels}


MAKERS: dict[str, Callable[[Video, random.Random], Question | None]] = {
    "order": order_question,
    "count": count_question,
    "between": between_question,
    "when": when_question,
    "describe": describe_question,
}


# -------------------------------------------------------------------------------------------------------- checking them


def holds(question: Question, video: Video) -> bool:
    """Whether the answer follows from the captions: found again from labels and times, without `moments`."""
    events, answer = video.events, question.answer or {}
    if question.kind == "describe":
        return True
    if question.kind in ("count", "when"):
        label = (question.names or {})["label"]
        spans = [[event.start, event.end] for event in events if same(event.label, label)]
        return answer == ({"value": len(spans)} if question.kind == "count" else {"spans": spans})
    options: Sequence[str] = answer["options"]
    right = options[ord(answer["letter"]) - ord("A")]
    at = {option: [(e.start, e.end) for e in events if same(e.label, option)] for option in options}
    if len(at) < len(options) or any(len(found) != 1 for found in at.values()):
        return False
    start, end = at[right][0]
    others = [found[0] for option, found in at.items() if option != right]
    if question.asked == "first":
        return all(end <= other for other, _ in others)
    if question.asked == "last":
        return all(other <= start for _, other in others)
    names = question.names or {}
    times = [[(e.start, e.end) for e in events if same(e.label, names[key])] for key in ("before", "after")]
    if any(len(found) != 1 for found in times):
        return False
    first, second = times[0][0][1], times[1][0][0]
    within = Counter(first <= a and b <= second for a, b in (*others, (start, end)))
    return first <= start and end <= second and within[True] == 1

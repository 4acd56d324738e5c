"""Events in generated videos: figures that appear, move or change colour, in spans that are exact to the frame."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from data_recipes.synthetic.figures import Figure, background, paint
from data_recipes.synthetic.shapes.scenes import ALL_SHAPES, PALETTE
from data_recipes.synthetic.world import (
    DraftRow,
    WorldOptions,
    encoded_video,
    knob,
    listed,
    whole_knob,
    world,
)

Kind = Literal["seen", "moves", "turns", "nth", "both"]
Spans = tuple[tuple[int, int], ...]
ORDINALS = ("first", "second", "third", "fourth", "fifth")
STEP = 2  # pixels per frame of a moving figure


class EventOptions(WorldOptions):
    """Options of `synthetic_events`. Every clip is an H.264 file with a constant frame rate."""

    kinds: tuple[Kind, ...] = ("seen", "moves", "turns", "nth", "both")
    """Kinds of question, in turn: when a figure is visible; when it moves; when it has another colour; when it is visible
    for the second (third …) time; when two figures are both visible."""
    seconds: int | None = Field(None, ge=4, le=600)
    """Length of a clip; 6 to 40 by difficulty."""
    frames_per_second: Literal[2, 4, 5, 8, 10, 20, 25] = 8
    """Frame rate of the file. At these rates the times of frames are exact in decimals."""
    things: int | None = Field(None, ge=2, le=12)
    """Number of figures in a clip; 2 to 8 by difficulty."""
    repeats: int | None = Field(None, ge=1, le=5)
    """Maximum number of spans of one figure's event; 1 to 4 by difficulty."""
    align_s: float = Field(0.5, gt=0.0)
    """Events start and end at multiples of this many seconds, and events and pauses last at least two of them; a multiple
    of one frame's duration. With 0.5, a model that sees two frames per second sees every start and end."""
    cell_px: int = Field(80, ge=48)
    """Side of the square that each figure stays in; the frame has as many squares as there are figures."""
    roughness: float | None = Field(None, ge=0.0, le=1.0)
    """Strength of the (still) background's texture; 0 to 0.8 by difficulty."""

    @model_validator(mode="after")
    def _whole_frames(self) -> EventOptions:
        frames = self.align_s * self.frames_per_second
        if frames < 1 or abs(frames - round(frames)) > 1e-9:
            raise ValueError(
                f"align_s: expected a multiple of one frame's {1 / self.frames_per_second:g} s, got {self.align_s:g}"
            )
        return self


@dataclass(frozen=True)
class Track:
    """A figure over time. event: "seen", "moves" or "turns"; spans: frames [first, end) in which it happens.

    seen: the figure is visible only in its spans. moves: it stands still outside its spans; frame `first` is the first one
    at a new position. turns: it has the colour `other` in its spans.
    """

    figure: Figure
    event: str
    spans: Spans
    other: str = ""

    def at(self, frame: int) -> Figure | None:
        """The figure as drawn in a frame; None if it is not visible."""
        figure = self.figure
        on = any(first <= frame < end for first, end in self.spans)
        if self.event == "seen":
            return figure if on else None
        if self.event == "turns" and on:
            return Figure(self.other, figure.shape, figure.x, figure.y, figure.half, angle=figure.angle)
        if self.event == "moves":
            moved = sum(max(0, min(frame + 1, end) - first) for first, end in self.spans)
            return Figure(
                figure.colour,
                figure.shape,
                figure.x + self._way(moved),
                figure.y,
                figure.half,
                angle=figure.angle,
            )
        return figure

    def _way(self, moved: int) -> int:
        """Offset to the right in pixels after `moved` frames: back and forth over half a figure."""
        turn = max(1, int(self.figure.half) // STEP)
        phase = moved % (2 * turn)
        return STEP * (phase if phase <= turn else 2 * turn - phase)


@dataclass(frozen=True)
class EventPlan:
    kind: str
    tracks: tuple[Track, ...]
    asked: tuple[Track, ...]
    spans: Spans
    frames: int
    nth: int = 0
    size: tuple[int, int] = field(default=(0, 0))

    @property
    def content(self) -> str:
        return " ".join(
            f"{t.figure.name} {t.figure.x:.0f} {t.figure.y:.0f} {t.event} {t.other} {t.spans}"
            for t in self.tracks
        )


def plan(kind: str, rng: random.Random, options: EventOptions) -> EventPlan | None:
    hard = options.difficulty
    rate, count = options.frames_per_second, whole_knob(options.things, 2, 8, hard)
    seconds = whole_knob(options.seconds, 6, 40, hard)
    unit = round(options.align_s * rate)
    steps = seconds * rate // unit
    most = whole_knob(options.repeats, 1, 4, hard)
    columns = 2 if count <= 4 else 4
    rows = -(-count // columns)
    # Each colour and shape occurs once, including colours that figures turn to, so names are unique at all times.
    looks = rng.sample([(c, s) for c in PALETTE for s in ALL_SHAPES], 2 * count)
    first_events = {
        "seen": ["seen"],
        "moves": ["moves"],
        "turns": ["turns"],
        "nth": ["seen"],
        "both": ["seen", "seen"],
    }
    events = first_events[kind] + [
        rng.choice(("seen", "moves", "turns")) for _ in range(count - len(first_events[kind]))
    ]
    cells = rng.sample(range(rows * columns), count)
    tracks = []
    for number, (event, cell) in enumerate(zip(events, cells, strict=True)):
        repeats = rng.randint(2, max(2, most)) if kind == "nth" and number == 0 else rng.randint(1, most)
        spans = _random_spans(rng, steps, repeats, unit)
        if spans is None:
            return None
        (colour, shape), half = looks[number], options.cell_px * 0.28
        other = rng.choice([c for c, s in looks[count:] if c != colour] or [colour])
        if event == "turns" and (other == colour or any((other, shape) == look for look in looks[:count])):
            return None
        x = (cell % columns + 0.5) * options.cell_px - (half / 2 if event == "moves" else 0)
        figure = Figure(colour, shape, round(x), round((cell // columns + 0.5) * options.cell_px), half)
        tracks.append(Track(figure, event, spans, other if event == "turns" else ""))
    asked, nth = tuple(tracks[: len(first_events[kind])]), 0
    wanted = asked[0].spans
    if kind == "nth":
        nth = rng.randrange(len(wanted))
        wanted = (wanted[nth],)
    elif kind == "both":
        wanted = intersection(asked[0].spans, asked[1].spans)
        if not wanted or min(end - first for first, end in wanted) < 2 * unit:
            return None
    size = (columns * options.cell_px, rows * options.cell_px)
    rng.shuffle(tracks)
    return EventPlan(kind, tuple(tracks), asked, wanted, steps * unit, nth, size)


def make(planned: EventPlan, rng: random.Random, options: EventOptions) -> DraftRow:
    rate = options.frames_per_second
    roughness = knob(options.roughness, 0, 0.8, options.difficulty)
    video = encoded_video(frames(planned, rng, roughness), rate)
    spans = [[first / rate, end / rate] for first, end in planned.spans]
    first = planned.asked[0]
    name = first.figure.name
    what = {
        "seen": f"is the {name} seen",
        "moves": f"does the {name} move",
        "turns": f"is the {name} {first.other} instead of {first.figure.colour}",
        "nth": f"is the {name} seen for the {ORDINALS[planned.nth]} time",
        "both": f"are the {name} and the {planned.asked[-1].figure.name} both seen",
    }[planned.kind]
    several = "each span" if planned.kind in ("seen", "moves", "turns", "both") else "the span"
    question = f"When {what}? Give {several} as [start, end] in seconds."
    conclusion = ", ".join(json.dumps(span) for span in spans)
    reasoning = [f"The {_told(track, rate)}." for track in planned.asked]
    if planned.kind == "nth":
        reasoning.append(f"The {ORDINALS[planned.nth]} of these is {conclusion}.")
    if planned.kind == "both":
        reasoning.append(f"Both hold during {conclusion}.")
    trace = {
        "summary": f"I watch for when it is that this holds: {what}.",
        "caption": f"The video lasts {planned.frames / rate:g} seconds. {listed(_told(t, rate) for t in planned.tracks)}.",
        "reasoning": " ".join(reasoning),
        "conclusion": conclusion,
    }
    columns = {
        "duration": planned.frames / rate,
        "video_fps": rate,
        "events": [
            {
                "name": t.figure.name,
                "event": t.event,
                "other": t.other or None,
                "place": _cell(t.figure, options.cell_px),
                "spans": [[a / rate, b / rate] for a, b in t.spans],
            }
            for t in planned.tracks
        ],
    }
    return DraftRow("temporal", question, {"spans": spans}, trace, videos=(video,), columns=columns)


def frames(planned: EventPlan, rng: random.Random, roughness: float) -> Iterator[np.ndarray]:
    """The clip's frames (H, W, 3) uint8 in order."""
    still = background(rng, *planned.size, roughness)
    for number in range(planned.frames):
        image = still.copy()
        for track in planned.tracks:
            figure = track.at(number)
            if figure is not None:
                paint(image, figure)
        yield np.asarray(image)


def intersection(a: Spans, b: Spans) -> Spans:
    """Intersection of two sets of spans, each in order."""
    both = [(max(x[0], y[0]), min(x[1], y[1])) for x in a for y in b]
    return tuple(sorted(span for span in both if span[0] < span[1]))


def _random_spans(rng: random.Random, steps: int, count: int, unit: int) -> Spans | None:
    """`count` random spans in frames; the clip's first and last step are free, spans and pauses have at least two steps."""
    free = steps - 2 - 2 * (2 * count - 1)
    if free < 0:
        return None
    # Distribute the remaining steps among the spans and the pauses before, between and after them.
    cuts = sorted(rng.randint(0, free) for _ in range(2 * count))
    extra = [b - a for a, b in zip([0, *cuts], cuts, strict=False)]
    spans, at = [], 1
    for number in range(count):
        at += extra[2 * number] + (2 if number else 0)
        length = 2 + extra[2 * number + 1]
        spans.append((at * unit, (at + length) * unit))
        at += length
    return tuple(spans)


def _cell(figure: Figure, side: int) -> list[int]:
    """The square a figure stays in, [x1, y1, x2, y2] in pixels."""
    x, y = int(figure.x) // side * side, int(figure.y) // side * side
    return [x, y, x + side, y + side]


def _told(track: Track, rate: int) -> str:
    when = listed(json.dumps([a / rate, b / rate]) for a, b in track.spans)
    what = {"seen": "is seen", "moves": "moves", "turns": f"is {track.other}"}[track.event]
    return f"{track.figure.name} {what} during {when}"


FORMATS = (
    world(
        "synthetic_events",
        "Made: videos of figures that appear, move and change colour",
        EventOptions,
        plan,
        make,
    ),
)

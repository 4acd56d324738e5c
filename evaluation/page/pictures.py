"""Images and videos of rollouts as embedded SVG, with answers drawn on them in the medium's own coordinates.

Each medium is embedded once (as a data URI inside `<defs>`) and every figure refers to it with `<use>`, so eight rollouts
of a prompt share one image. A figure's viewBox is the original image in pixels, so boxes need no conversion and are
exact at any size on screen or paper.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from vlm.media import MediaError, load_image, load_video

MAX_SIDE = 560  # pixels of an embedded image
STRIP_WIDTH, STRIP_FRAMES = 480, 6  # a video is shown as 6 frames side by side; user units
STRIP_SCALE = 2  # pixels per user unit of a frame strip
AXIS_HEIGHT, BAR_HEIGHT = 20, 13  # under a frame strip: the time axis and one bar per answer; user units

_NOTHING = Markup("")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marks:
    """What to draw for one answer, in pixels of the original image (boxes, points) or seconds (spans)."""

    boxes: tuple[Box, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    spans: tuple[tuple[float, float], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.boxes or self.points or self.spans)


@dataclass(frozen=True)
class Picture:
    """An embedded medium. width, height: size of its figure in user units; seconds: length of a video, None for images."""

    id: str
    width: float
    height: float
    seconds: float | None
    name: str


@dataclass
class MediaStore:
    """The media of one page, each embedded once, up to `budget` bytes in total."""

    budget: int
    pictures: dict[str, Picture | str] = field(default_factory=dict)  # a str says why there is no picture
    definitions: list[Markup] = field(default_factory=list)
    used: int = 0

    def image(self, source: Any) -> Picture | str:
        """The picture of an image (a path), or a message why it cannot be shown."""
        return self._get(source, self._embed_image)

    def strip(self, source: Any) -> Picture | str:
        """The frame strip of a video (a path or `{path, start, end, fps}`), or a message why it cannot be shown."""
        return self._get(source, self._embed_strip)

    def made(self, key: str, image: Image.Image) -> Picture | str:
        """The picture of an image that is in no file. key: what it was made from; equal keys are one picture."""
        return self._get({"path": "", "made": key}, lambda _, number, name: self._embed(image, number, name))

    def _get(self, source: Any, embed: Any) -> Picture | str:
        key = json.dumps(source, sort_keys=True, default=str)
        if key not in self.pictures:
            name = Path(str(source.get("path") if isinstance(source, Mapping) else source)).name
            try:
                self.pictures[key] = embed(source, f"m{len(self.pictures)}", name)
            except (MediaError, ValueError) as error:  # a run folder without its media can still be reported
                self.pictures[key] = str(error)
        return self.pictures[key]

    def _embed_image(self, source: Any, key: str, name: str) -> Picture:
        return self._embed(load_image(source), key, name)

    def _embed(self, image: Image.Image, key: str, name: str) -> Picture:
        self._define(key, image, image.width, image.height)
        return Picture(key, image.width, image.height, None, name)

    def _embed_strip(self, source: Any, key: str, name: str) -> Picture:
        video = load_video(source, max_frames=64)
        tile = STRIP_WIDTH / STRIP_FRAMES
        height = round(tile * video.frames.shape[1] / video.frames.shape[2])
        size = (round(tile * STRIP_SCALE), height * STRIP_SCALE)
        strip = Image.new("RGB", (STRIP_WIDTH * STRIP_SCALE, height * STRIP_SCALE))
        for i in range(STRIP_FRAMES):
            at = (i + 0.5) / STRIP_FRAMES * video.duration  # the middle of the tile's interval
            frame = video.frames[min(int(at * video.fps), len(video.frames) - 1)]
            resample = Image.Resampling.NEAREST if frame.shape[1] < tile else Image.Resampling.LANCZOS
            resized = Image.fromarray(np.ascontiguousarray(frame)).resize(size, resample)
            strip.paste(resized, (round(i * tile * STRIP_SCALE), 0))
        self._define(key, strip, STRIP_WIDTH, height)
        return Picture(key, STRIP_WIDTH, height, video.duration, name)

    def _define(self, key: str, image: Image.Image, width: float, height: float) -> None:
        small = image.copy()
        small.thumbnail((STRIP_SCALE * STRIP_WIDTH if width == STRIP_WIDTH else MAX_SIDE, MAX_SIDE))
        content, kind = _encode(small)
        if self.used + len(content) > self.budget:
            raise ValueError("not embedded: the page's media budget is used up")
        self.used += len(content)
        uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        pixelated = ' class="pixelated"' if max(image.size) < 200 else ""
        self.definitions.append(
            Markup('<image id="{}" width="{}" height="{}" preserveAspectRatio="none" href="{}"{}/>').format(
                key, width, height, uri, Markup(pixelated)
            )
        )


def _encode(image: Image.Image) -> tuple[bytes, str]:
    """(content, "png" or "jpeg"), whichever is smaller: PNG for most drawings, JPEG for photographs."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", optimize=True)
    if png.tell() < 6_000:
        return png.getvalue(), "png"
    image.save(jpeg, "JPEG", quality=82, optimize=True)
    return (png.getvalue(), "png") if png.tell() <= jpeg.tell() else (jpeg.getvalue(), "jpeg")


# ------------------------------------------------------------------------------------------------------------ figures


def draw_image(
    picture: Picture, gold: Marks, model: Marks, description: str, under: Markup = _NOTHING
) -> Markup:
    """The image with the gold and the model's boxes and points; marks outside the image are cut off. under: drawn below them."""
    unit = max(picture.width, picture.height) / 100
    body = [Markup('<use href="#{}"/>').format(picture.id), under]
    # Dark halos at the bottom, then the model's solid lines, then the gold dashes, so that equal boxes show both colours.
    for who in ("halo", "model", "gold"):
        for marks in (gold, model) if who == "halo" else (model,) if who == "model" else (gold,):
            body += [_box(box, who) for box in marks.boxes] + [
                _point(x, y, 2.6 * unit, who) for x, y in marks.points
            ]
    return Markup('<svg class="figure" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _n(picture.width), _n(picture.height), description, Markup("").join(body)
    )


def outside(picture: Picture, marks: Marks) -> bool:
    """True if any mark reaches outside the medium, so that the drawing does not show all of it."""
    xs = [v for box in marks.boxes for v in box[0::2]] + [x for x, _ in marks.points]
    ys = [v for box in marks.boxes for v in box[1::2]] + [y for _, y in marks.points]
    times = [t for span in marks.spans for t in span]
    limits = ((xs, picture.width), (ys, picture.height), (times, picture.seconds or math.inf))
    return any(not -0.5 <= value <= limit + 0.5 for values, limit in limits for value in values)


def draw_strip(picture: Picture, gold: Marks, model: Marks, description: str) -> Markup:
    """The frame strip over a time axis, with the gold and the model's spans as bars on the same scale."""
    rows = [("gold", gold)] + ([("model", model)] if model is not gold else [])
    height = picture.height + AXIS_HEIGHT + len(rows) * (BAR_HEIGHT + 4)
    body = [Markup('<use href="#{}"/>').format(picture.id)]
    seam = Markup('<line class="seam" x1="{x}" x2="{x}" y2="{}"/>')
    for i in range(1, STRIP_FRAMES):
        body.append(seam.format(picture.height, x=_n(i * picture.width / STRIP_FRAMES)))
    body += _time_axis(picture)
    for r, (who, marks) in enumerate(rows):
        y = picture.height + AXIS_HEIGHT + r * (BAR_HEIGHT + 4) + 2
        body += _span_bars(picture, marks.spans, who, y)
    return Markup('<svg class="figure" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        picture.width, height, description, Markup("").join(body)
    )


def _time_axis(picture: Picture) -> list[Markup]:
    """Ticks and clock times under a frame strip, at most nine."""
    seconds = picture.seconds or 1.0
    every = next((s for s in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800) if seconds / s <= 8), 3600)
    tick = Markup(
        '<line class="tick" x1="{x}" x2="{x}" y1="{}" y2="{}"/><text class="{}" x="{}" y="{}">{}</text>'
    )
    top, ticks = picture.height, []
    for i in range(int(seconds / every + 1e-6) + 1):
        x = min(i * every * picture.width / seconds, picture.width)
        anchor = "start" if i == 0 else "end" if x > picture.width - 16 else "middle"
        text_x = _n(min(max(x, 3), picture.width - 3))
        ticks.append(tick.format(top, top + 4, anchor, text_x, top + 17, clock(i * every, every), x=_n(x)))
    return ticks


def _span_bars(picture: Picture, spans: Sequence[tuple[float, float]], who: str, y: float) -> list[Markup]:
    """One line of bars at height `y`. who: "gold" or "model"."""
    seconds = picture.seconds or 1.0
    track = Markup('<rect class="track" x="0" y="{}" width="{}" height="{}"/>')
    bar = Markup('<rect class="{} span" x="{}" y="{}" width="{}" height="{}" rx="2"/>')
    bars = [track.format(y, picture.width, BAR_HEIGHT)]
    scale = picture.width / seconds
    for start, end in spans:
        a, b = max(0.0, min(start, seconds)), max(0.0, min(end, seconds))
        bars.append(bar.format(who, _n(a * scale), y, _n(max(2.0, (b - a) * scale)), BAR_HEIGHT))
    return bars


def clock(seconds: float, every: float = 1.0) -> str:
    """`0:07`, `12:30`; with tenths if ticks are less than a second apart (`every`, in seconds)."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}" if every < 1 else f"{int(minutes)}:{int(rest):02d}"


def describe(gold: Marks, model: Marks) -> str:
    """The drawing as text, for screen readers."""
    sides: Sequence[tuple[str, Marks]] = (("gold", gold), ("model", model))
    words = []
    for who, marks in sides:
        for kind in ("boxes", "points", "spans"):
            for values in getattr(marks, kind):
                words.append(
                    f"{who} {kind.rstrip('s') if kind != 'boxes' else 'box'} {', '.join(f'{v:.4g}' for v in values)}"
                )
    return "; ".join(words) or "no mark on it"


def _box(box: Box, who: str) -> Markup:
    x, y, right, bottom = box
    return Markup('<rect class="{} line" x="{}" y="{}" width="{}" height="{}"/>').format(
        who, _n(x), _n(y), _n(right - x), _n(bottom - y)
    )


def _point(x: float, y: float, radius: float, who: str) -> Markup:
    """A ring with four ticks around the point, so that the point itself stays visible."""
    near, far = radius, 2.2 * radius
    ticks = "".join(
        f"M{_n(x + near * i)} {_n(y + near * j)}L{_n(x + far * i)} {_n(y + far * j)}"
        for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))
    )
    return Markup(
        '<g class="{} line point" data-x="{x}" data-y="{y}"><circle cx="{x}" cy="{y}" r="{}"/><path d="{}"/></g>'
    ).format(who, _n(radius), ticks, x=_n(x), y=_n(y))


def _n(value: float) -> float | int:
    rounded = round(float(value), 2)
    return int(rounded) if rounded == int(rounded) else rounded

"""Scenes: shapes on a grid of whole visual tokens, drawn as images, and clips in which shapes come and go."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 220), "yellow": (235, 205, 40)}
SHAPES = ("square", "circle", "triangle")
CELL = 28  # pixels: one merged visual token of Qwen2.5-VL
BACKGROUND = (245, 245, 245)
FRAMES_PER_SECOND = 2  # one pair of frames, which the vision tower joins, is one second


@dataclass(frozen=True)
class Thing:
    """A shape in a cell. row, column: from the top left, from 0. first, last: seconds in which it is seen (clips)."""

    colour: str
    shape: str
    row: int
    column: int
    first: int = 0
    last: int = 0

    @property
    def name(self) -> str:
        """One word, so that a tiny model finds it again by one look."""
        return f"{self.colour}-{self.shape}"

    @property
    def cell(self) -> str:
        """As on a chess board: column letter, row number; the top left is a1."""
        return f"{'abcdefgh'[self.column]}{self.row + 1}"

    @property
    def box(self) -> list[int]:
        """[x1, y1, x2, y2] in pixels of the image."""
        x, y = self.column * CELL, self.row * CELL
        return [x, y, x + CELL, y + CELL]


@dataclass(frozen=True)
class Scene:
    """A still image: rows x columns cells, things in reading order."""

    rows: int
    columns: int
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Clip:
    """A video of `seconds` seconds on a grid of rows x columns cells; things in order of appearance."""

    rows: int
    columns: int
    seconds: int
    things: tuple[Thing, ...]


def random_scene(rng: random.Random) -> Scene:
    """2 rows of 3 cells; 2 to 4 shapes, no two of the same colour and shape."""
    rows, columns = 2, 3
    kinds = rng.sample([(c, s) for c in COLOURS for s in SHAPES], rng.randint(2, 4))
    cells = sorted(rng.sample(range(rows * columns), len(kinds)))
    things = [Thing(c, s, cell // columns, cell % columns) for (c, s), cell in zip(kinds, cells, strict=True)]
    return Scene(rows, columns, tuple(things))


def random_clip(rng: random.Random) -> Clip:
    """5 or 6 seconds on 1 x 2 cells; one or two shapes, each seen for a while of 1 to 4 whole seconds."""
    seconds = rng.choice((5, 6))
    kinds = rng.sample([(c, s) for c in COLOURS for s in SHAPES], rng.choice((1, 2, 2)))
    things = []
    for column, (colour, shape) in enumerate(kinds):
        length = rng.randint(1, 4)
        first = rng.randint(0, seconds - length)
        things.append(Thing(colour, shape, 0, column, first, first + length - 1))
    return Clip(1, 2, seconds, tuple(sorted(things, key=lambda t: (t.first, t.column))))


def draw(rows: int, columns: int, things: tuple[Thing, ...]) -> Image.Image:
    """RGB image of rows x columns cells of 28 px."""
    image = Image.new("RGB", (columns * CELL, rows * CELL), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for thing in things:
        x1, y1, x2, y2 = (thing.box[0] + 2, thing.box[1] + 2, thing.box[2] - 3, thing.box[3] - 3)
        colour = COLOURS[thing.colour]
        if thing.shape == "square":
            canvas.rectangle((x1, y1, x2, y2), fill=colour)
        elif thing.shape == "circle":
            canvas.ellipse((x1, y1, x2, y2), fill=colour)
        else:
            canvas.polygon([((x1 + x2) / 2, y1), (x1, y2), (x2, y2)], fill=colour)
    return image


def write_clip(clip: Clip, path: Path) -> None:
    """Encode the clip as an H.264 file (4:4:4, so that colours of small shapes survive)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FRAMES_PER_SECOND, options={"crf": "12", "preset": "veryfast"}
        )
        stream.width, stream.height = clip.columns * CELL, clip.rows * CELL
        stream.pix_fmt = "yuv444p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for second in range(clip.seconds):
            seen = tuple(t for t in clip.things if t.first <= second <= t.last)
            frame = np.asarray(draw(clip.rows, clip.columns, seen))
            for _ in range(FRAMES_PER_SECOND):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())

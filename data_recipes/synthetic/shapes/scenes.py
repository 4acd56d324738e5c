"""Scenes: images of shapes on a grid of visual tokens, and clips in which shapes appear and disappear."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import av
import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 220), "yellow": (235, 205, 40)}
SHAPES = ("square", "circle", "triangle")
PALETTE = COLOURS | {
    "orange": (240, 130, 30),
    "purple": (130, 50, 170),
    "cyan": (50, 190, 215),
    "pink": (240, 125, 180),
    "brown": (125, 80, 40),
    "black": (25, 25, 25),
}
"""Colours of harder scenes, all clearly distinct; the first four are COLOURS."""
_HEXAGON = ((0.25, 0.0), (0.75, 0.0), (1.0, 0.5), (0.75, 1.0), (0.25, 1.0), (0.0, 0.5))
_CROSS = ((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1))
_STAR = (
    *((0.5, 0.0), (0.618, 0.382), (1.0, 0.382), (0.691, 0.618), (0.809, 1.0)),
    *((0.5, 0.764), (0.191, 1.0), (0.309, 0.618), (0.0, 0.382), (0.382, 0.382)),
)
OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "diamond": ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)),
    "hexagon": _HEXAGON,
    "star": _STAR,
    "cross": tuple((x / 3, y / 3) for x, y in _CROSS),
}
"""Shapes of harder scenes as polygons that touch all four sides of the unit square; y grows downwards."""
ALL_SHAPES = (*SHAPES, *OUTLINES)
CELL = 28  # pixels: one merged visual token of Qwen2.5-VL
BACKGROUND = (245, 245, 245)
FRAMES_PER_SECOND = 2  # one pair of frames, which the vision tower joins, is one second


@dataclass(frozen=True)
class Thing:
    """A shape in a cell. row, column: from 0, from the top left. first, last: seconds in which it is visible (clips).

    cell_px: side of the cell in pixels. inset: free pixels around the shape in its cell, with the shape's own box as its
    box; None: 2 free pixels, with the whole cell as its box (one visual token, which a tiny model can learn).
    size: size word, part of the name, if sizes differ.
    """

    colour: str
    shape: str
    row: int
    column: int
    first: int = 0
    last: int = 0
    cell_px: int = CELL
    inset: int | None = None
    size: str = ""

    @property
    def name(self) -> str:
        """A single word, so that it is one token for a tiny model."""
        return f"{self.size}-{self.colour}-{self.shape}".lstrip("-")

    @property
    def cell(self) -> str:
        return cell_name(self.row, self.column)

    @property
    def box(self) -> list[int]:
        """[x1, y1, x2, y2] in pixels of the image."""
        return self._box(self.inset or 0)

    @property
    def drawn(self) -> list[int]:
        """Box of the shape's own pixels, half-open."""
        return self._box(2 if self.inset is None else self.inset)

    def _box(self, inset: int) -> list[int]:
        x, y, side = self.column * self.cell_px, self.row * self.cell_px, self.cell_px - inset
        return [x + inset, y + inset, x + side, y + side]


@dataclass(frozen=True)
class Scene:
    """A still image: rows x columns cells, things in reading order.

    colours, shapes: words that questions may use. cell_px: side of a cell in pixels.
    """

    rows: int
    columns: int
    things: tuple[Thing, ...]
    colours: tuple[str, ...] = tuple(COLOURS)
    shapes: tuple[str, ...] = SHAPES
    cell_px: int = CELL


@dataclass(frozen=True)
class Clip:
    """A video of `seconds` seconds on a grid of rows x columns cells; things in order of appearance."""

    rows: int
    columns: int
    seconds: int
    things: tuple[Thing, ...]
    cell_px: int = CELL


@dataclass(frozen=True)
class Look:
    """Settings for drawing scenes and clips; the defaults are the demo's world.

    things: minimum and maximum number in a scene, at most one per colour and shape.
    repeats: share of a scene's things (except the first two) that have the colour and shape of another one.
    sizes: word -> inset in pixels; {}: all of one size, with whole cells as boxes.
    seconds, clip_things: lengths of clips and numbers of things in them, each equally likely (list one twice to double it).
    longest: maximum number of seconds that a thing is visible in a clip.
    """

    rows: int = 2
    columns: int = 3
    things: tuple[int, int] = (2, 4)
    colours: tuple[str, ...] = tuple(COLOURS)
    shapes: tuple[str, ...] = SHAPES
    repeats: float = 0.0
    cell_px: int = CELL
    sizes: tuple[tuple[str, int], ...] = ()
    clip_rows: int = 1
    clip_columns: int = 2
    seconds: tuple[int, ...] = (5, 6)
    clip_things: tuple[int, ...] = (1, 2, 2)
    longest: int = 4

    def kinds(self) -> list[tuple[str, str]]:
        return [(c, s) for c in self.colours for s in self.shapes]


DEMO = Look()


def cell_name(row: int, column: int) -> str:
    """Name as on a chess board: column letter and row number; the top left cell is a1."""
    return f"{ascii_lowercase[column]}{row + 1}"


def random_scene(rng: random.Random, look: Look = DEMO) -> Scene:
    """A random scene. Without `repeats` all things differ in colour or shape; with it, at least one thing is unique."""
    columns = look.columns
    kinds = rng.sample(look.kinds(), rng.randint(*look.things))
    cells = sorted(rng.sample(range(look.rows * columns), len(kinds)))
    if look.repeats:  # the first thing is never repeated, so that a question can name it
        kinds[2:] = [
            rng.choice(kinds[1:i]) if rng.random() < look.repeats else kinds[i] for i in range(2, len(kinds))
        ]
        rng.shuffle(kinds)
    things = []
    for (colour, shape), cell in zip(kinds, cells, strict=True):
        size, inset = rng.choice(look.sizes) if look.sizes else ("", None)
        row, column = divmod(cell, columns)
        things.append(Thing(colour, shape, row, column, cell_px=look.cell_px, inset=inset, size=size))
    return Scene(look.rows, columns, tuple(things), look.colours, look.shapes, look.cell_px)


def random_clip(rng: random.Random, look: Look = DEMO) -> Clip:
    """A random clip; things are in the first cells, each visible for 1 to `look.longest` whole seconds."""
    seconds = rng.choice(look.seconds)
    kinds = rng.sample(look.kinds(), rng.choice(look.clip_things))
    things = []
    for cell, (colour, shape) in enumerate(kinds):
        row, column = divmod(cell, look.clip_columns)
        length = rng.randint(1, look.longest)
        first = rng.randint(0, seconds - length)
        things.append(Thing(colour, shape, row, column, first, first + length - 1, cell_px=look.cell_px))
    ordered = tuple(sorted(things, key=lambda t: (t.first, t.row, t.column)))
    return Clip(look.clip_rows, look.clip_columns, seconds, ordered, look.cell_px)


def draw(rows: int, columns: int, things: tuple[Thing, ...], cell_px: int = CELL) -> Image.Image:
    """RGB image of rows x columns cells of `cell_px` pixels."""
    image = Image.new("RGB", (columns * cell_px, rows * cell_px), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for thing in things:
        left, top, right, bottom = thing.drawn
        x1, y1, x2, y2 = left, top, right - 1, bottom - 1  # Pillow's ends are inclusive
        colour = PALETTE[thing.colour]
        if thing.shape == "square":
            canvas.rectangle((x1, y1, x2, y2), fill=colour)
        elif thing.shape == "circle":
            canvas.ellipse((x1, y1, x2, y2), fill=colour)
        elif thing.shape == "triangle":
            canvas.polygon([((x1 + x2) / 2, y1), (x1, y2), (x2, y2)], fill=colour)
        else:
            outline = OUTLINES[thing.shape]
            canvas.polygon(
                [(round(x1 + u * (x2 - x1)), round(y1 + v * (y2 - y1))) for u, v in outline], fill=colour
            )
    return image


def clip_frames(clip: Clip) -> Iterator[np.ndarray]:
    """The clip's frames (H, W, 3) uint8 in order."""
    for second in range(clip.seconds):
        seen = tuple(t for t in clip.things if t.first <= second <= t.last)
        frame = np.asarray(draw(clip.rows, clip.columns, seen, clip.cell_px))
        yield from [frame] * FRAMES_PER_SECOND


def write_clip(clip: Clip, path: Path) -> None:
    """Encode the clip as an H.264 file (4:4:4, so that colours of small shapes survive)."""
    write_frames(clip_frames(clip), path, FRAMES_PER_SECOND, {"qp": "12"})


def write_frames(
    frames: Iterable[np.ndarray], path: Path, frames_per_second: int, quality: dict[str, str]
) -> None:
    """Encode RGB frames (H, W, 3) uint8 of one size as an H.264 file with a constant frame rate.

    quality: x264's `crf` or `qp`. With `crf` the bytes of a few frames depend on the process's memory layout; `qp` has no
    rate control, so the same frames always give the same bytes.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=frames_per_second, options=quality | {"preset": "veryfast"}
        )
        stream.pix_fmt = "yuv444p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for number, frame in enumerate(frames):
            if not number:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())

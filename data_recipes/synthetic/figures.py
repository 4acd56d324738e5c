"""Coloured figures anywhere in an image, with exact pixel boxes; procedural backgrounds, blur and noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_recipes.synthetic.shapes.scenes import OUTLINES, PALETTE

Box = list[int]
SIZES = {"small": 0.6, "medium": 1.0, "large": 1.6}
"""Half the side of a figure by its size word, relative to the scene's unit; far enough apart to be unambiguous."""
VISIBLE = (
    64  # of 255: paler edges of a figure or a letter are cut off, so that a box ends where ink can be seen
)
_SMOOTH = 4  # supersampling factor for smooth edges
_BASES: dict[str, Sequence[tuple[float, float]]] = {
    "square": ((0, 0), (1, 0), (1, 1), (0, 1)),
    "triangle": ((0.5, 0), (1, 1), (0, 1)),
    "circle": [
        (0.5 + 0.5 * math.cos(a), 0.5 + 0.5 * math.sin(a)) for a in np.arange(0, math.tau, math.tau / 64)
    ],
    **OUTLINES,
}


@dataclass(frozen=True)
class Figure:
    """x, y: centre in pixels. half: half the side in pixels before rotation. angle: degrees clockwise."""

    colour: str
    shape: str
    x: float
    y: float
    half: float
    size: str = ""
    angle: float = 0.0

    @property
    def name(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.shape) if word)

    @property
    def box(self) -> Box:
        """[x1, y1, x2, y2] around every visible pixel, half-open."""
        mask, left, top = figure_mask(self)
        x1, y1, x2, y2 = mask.getbbox() or (0, 0, 0, 0)
        return [left + x1, top + y1, left + x2, top + y2]

    @property
    def square(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) of the square that every shape of this size and place is drawn in, before rotation, in pixels."""
        return self.x - self.half, self.y - self.half, self.x + self.half, self.y + self.half


@lru_cache(maxsize=4096)
def figure_mask(figure: Figure) -> tuple[Image.Image, int, int]:
    """(coverage as an "L" image, its left edge, its top edge)."""
    reach = math.ceil(figure.half * 1.5) + 2
    left, top = math.floor(figure.x) - reach, math.floor(figure.y) - reach
    side = 2 * reach + 1
    cos, sin = math.cos(math.radians(figure.angle)), math.sin(math.radians(figure.angle))
    points = []
    for u, v in _BASES[figure.shape]:
        dx, dy = (u - 0.5) * 2 * figure.half, (v - 0.5) * 2 * figure.half
        x, y = figure.x - left + dx * cos - dy * sin, figure.y - top + dx * sin + dy * cos
        points.append((x * _SMOOTH, y * _SMOOTH))
    mask = Image.new("L", (side * _SMOOTH, side * _SMOOTH))
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return visible(mask.reduce(_SMOOTH)), left, top


def visible(mask: Image.Image) -> Image.Image:
    """The coverage with values set to 0 where it is too pale to be seen."""
    return mask.point([0] * VISIBLE + list(range(VISIBLE, 256)))


def paint(image: Image.Image, figure: Figure, *, outline: bool = False) -> None:
    """Draw a figure; outline: with a darker rim, for figures of one colour that may overlap."""
    mask, left, top = figure_mask(figure)
    colour = PALETTE[figure.colour]
    image.paste(colour, (left, top), mask)
    if outline:
        # The rim is inside the figure, so that the box does not change.
        inner = mask.filter(ImageFilter.MinFilter(5))
        rim = Image.fromarray(np.asarray(mask) - np.asarray(inner))
        rim_colour = tuple(c // 2 for c in colour) if figure.colour != "black" else (130, 130, 130)
        image.paste(rim_colour, (left, top), rim)


def inside(box: Box, width: int, height: int, margin: int = 2) -> bool:
    return box[0] >= margin and box[1] >= margin and box[2] <= width - margin and box[3] <= height - margin


def apart(a: Box, b: Box, gap: int) -> bool:
    """True if there are at least `gap` free pixels between two boxes."""
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


def place(
    rng: random.Random,
    count: int,
    draw_one: Callable[[int], Figure],
    fits: Callable[[Figure, list[Figure]], bool],
    tries: int = 60,
) -> list[Figure] | None:
    """`count` figures, each redrawn until it fits those before it; None if one does not fit."""
    placed: list[Figure] = []
    for number in range(count):
        for _ in range(tries):
            figure = draw_one(number)
            if fits(figure, placed):
                placed.append(figure)
                break
        else:
            return None
    return placed


# -------------------------------------------------------------------------------------------------------- backgrounds


def background(rng: random.Random, width: int, height: int, roughness: float) -> Image.Image:
    """A light background unlike any colour of PALETTE: flat at roughness 0, otherwise clouds, wood grain, cloth or a blurred
    photograph, strongest at 1."""
    generator = np.random.default_rng(rng.getrandbits(64))
    base = (generator.uniform(165, 225) + generator.uniform(-12, 12, 3)).astype(np.float32)
    if not roughness:
        return Image.new("RGB", (width, height), tuple(int(v) for v in base))
    kind = rng.choice(("cloud", "wood", "cloth", "photo"))
    pattern = np.zeros((height, width, 3), np.float32)
    if kind == "wood":
        pattern += _clouds(generator, width, height, (2, 24, 96), stretch=6)[..., None]
    elif kind == "cloth":
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        step = generator.uniform(6, 14)
        weave = np.sin(x * math.tau / step) * np.sin(y * math.tau / step)
        pattern += (0.5 * weave + 0.7 * _clouds(generator, width, height, (2, 5)))[..., None]
    elif kind == "cloud":
        pattern += _clouds(generator, width, height, (2, 4, 8, 32))[..., None]
    else:  # patches of several tints, out of focus
        grey = _clouds(generator, width, height, (3, 6))
        for channel in range(3):
            pattern[..., channel] = 0.8 * grey + 0.35 * _clouds(generator, width, height, (3,))
    # Clipped to keep every pixel away from the palette's colours. In place: this is most of the time of drawing a scene.
    pattern *= np.float32(42 * roughness)
    pattern += base
    values = np.clip(pattern, 140, 240, out=pattern)
    middle = (values[..., :1] + values[..., 1:2] + values[..., 2:]) / np.float32(3)
    np.maximum(values, middle - 16, out=values)
    np.minimum(values, middle + 16, out=values)
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8))


def _clouds(
    generator: np.random.Generator, width: int, height: int, cells: Sequence[int], stretch: int = 1
) -> np.ndarray:
    """(H, W) noise of several scales, about -1 to 1. cells: number of cells across the image per scale, coarse to fine."""
    total = np.zeros((height, width), np.float32)
    for octave, count in enumerate(cells):
        rows = max(2, round(count * height / width))
        coarse = generator.uniform(-1, 1, (rows * stretch, max(2, count))).astype(np.float32)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) / (1.6**octave)
    return total


def blemish(image: Image.Image, rng: random.Random, *, blur: float = 0.0, noise: float = 0.0) -> Image.Image:
    """The image with blur (radius in pixels) and Gaussian noise (standard deviation on the 0 to 255 scale)."""
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    if noise:
        generator = np.random.default_rng(rng.getrandbits(64))
        grain = generator.standard_normal((image.height, image.width), np.float32) * noise
        values = np.asarray(image, np.float32) + grain[..., None]
        image = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))
    return image

"""Typesetting and distorting pages of words, with the exact box of every word's ink."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from data_recipes.synthetic.figures import Box, visible

PAD = 3  # pixels around a word's tile before distortion
MARGIN = 12  # pixels around the text of a page


@dataclass(frozen=True)
class Style:
    """font: a TrueType file; None: Pillow's own. size: font size in pixels. spacing: extra pixels between letters.
    turn: degrees clockwise. shear: horizontal pixels per vertical pixel. tilt: (x, y) perspective, as the change of scale
    from one side of the text to the other.
    """

    font: str | None = None
    size: int = 28
    spacing: int = 0
    turn: float = 0.0
    shear: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Page:
    """Lines of words, left-aligned. indents: pixels before each line."""

    lines: tuple[tuple[str, ...], ...]
    style: Style
    indents: tuple[int, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A typeset page: coverage of all ink ("L"), and each word in reading order with its line, text, box and coverage."""

    ink: Image.Image
    words: tuple[PlacedWord, ...]


@dataclass(frozen=True)
class PlacedWord:
    """ink: coverage inside `box`."""

    line: int
    text: str
    box: Box
    ink: np.ndarray


@lru_cache(maxsize=64)
def font(path: str | None, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


def typeset(page: Page) -> Setting:
    """Typeset and distort a page; the image is as large as the distorted text and its margins."""
    style, at = page.style, font(page.style.font, page.style.size)
    gap, leading = round(style.size * 0.4) + 2 * style.spacing, round(style.size * 1.5)
    tiles: list[tuple[int, str, Image.Image, int, int]] = []
    for number, line in enumerate(page.lines):
        x = page.indents[number] if page.indents else 0
        for word in line:
            tile, advance = _tile(word, at, style)
            tiles.append((number, word, tile, x - PAD, number * leading - PAD))
            x += advance + gap
    right = max(x + tile.width for _, _, tile, x, _ in tiles)
    bottom = max(y + tile.height for _, _, tile, _, y in tiles)
    matrix = _distortion(style, right, bottom)
    corners = _moved(matrix, [(-PAD, -PAD), (right, -PAD), (right, bottom), (-PAD, bottom)])
    matrix = _shift(MARGIN - corners[:, 0].min(), MARGIN - corners[:, 1].min()) @ matrix
    width, height = (math.ceil(v) + 2 * MARGIN for v in np.ptp(corners, axis=0))
    ink = Image.new("L", (width, height))
    words = []
    for number, text, tile, x, y in tiles:
        moved, left, top = _warped(tile, x, y, matrix)
        x1, y1, x2, y2 = moved.getbbox() or (0, 0, 0, 0)
        cut = moved.crop((x1, y1, x2, y2))
        box = [left + x1, top + y1, left + x2, top + y2]
        ink.paste(ImageChops.lighter(ink.crop((box[0], box[1], box[2], box[3])), cut), (box[0], box[1]))
        words.append(PlacedWord(number, text, box, np.asarray(cut)))
    return Setting(ink, tuple(words))


def _tile(
    word: str, at: ImageFont.FreeTypeFont | ImageFont.ImageFont, style: Style
) -> tuple[Image.Image, int]:
    """(the word's coverage with PAD around it, its advance in pixels)."""
    if style.spacing:
        advances = [math.ceil(at.getlength(letter)) + style.spacing for letter in word]
    else:
        advances = [math.ceil(at.getlength(word))]
    width = sum(advances)
    tile = Image.new("L", (width + 2 * PAD + style.size // 2, round(style.size * 1.4) + 2 * PAD))
    canvas, x = ImageDraw.Draw(tile), PAD
    for letters, advance in zip(word if style.spacing else [word], advances, strict=True):
        canvas.text((x, PAD), letters, fill=255, font=at)
        x += advance
    return tile, width - style.spacing


def _distortion(style: Style, width: float, height: float) -> np.ndarray:
    """The homography (3, 3) from the flat page to the distorted one."""
    angle = math.radians(style.turn)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shear = np.array([[1, -style.shear, 0], [0, 1, 0], [0, 0, 1]])
    # The denominator ranges from 1 - tilt / 2 to 1 + tilt / 2 across the text.
    lean = np.array([[1, 0, 0], [0, 1, 0], [style.tilt[0] / width, style.tilt[1] / height, 1]])
    return turn @ shear @ lean @ _shift(-width / 2, -height / 2)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _moved(matrix: np.ndarray, points: list[tuple[float, float]]) -> np.ndarray:
    """The points after the homography, as an array (N, 2)."""
    moved = np.array([[x, y, 1.0] for x, y in points]) @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def _warped(tile: Image.Image, x: int, y: int, matrix: np.ndarray) -> tuple[Image.Image, int, int]:
    """(a tile at x, y of the flat page, distorted; its left and top on the distorted page)."""
    right, bottom = x + tile.width, y + tile.height
    corners = _moved(matrix, [(x, y), (right, y), (right, bottom), (x, bottom)])
    left, top = (math.floor(v) - 1 for v in corners.min(axis=0))
    size = tuple(math.ceil(v) + 1 - low for v, low in zip(corners.max(axis=0), (left, top), strict=True))
    back = _shift(-x, -y) @ np.linalg.inv(matrix) @ _shift(left, top)
    coefficients = (back / back[2, 2]).flatten()[:8]
    moved = tile.transform(
        (int(size[0]), int(size[1])),
        Image.Transform.PERSPECTIVE,
        tuple(float(c) for c in coefficients),
        Image.Resampling.BICUBIC,
    )
    return visible(moved), left, top

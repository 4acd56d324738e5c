"""Typesetting and distorting pages of words, with the exact box of every word's ink."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates

from data_recipes.synthetic.figures import Box, visible

PAD = 3  # pixels around a word's tile before distortion
MARGIN = 12  # pixels around the text of a page
LEADING = 1.6  # from line to line, in font sizes


Wave = tuple[float, float, float]
"""(amplitude in pixels, wavelength in pixels, phase in radians)."""


@dataclass(frozen=True)
class Style:
    """font: a TrueType file; None: Pillow's own. face: index of the face in it. size: font size in pixels. spacing: extra pixels
    between letters. turn: degrees clockwise. shear: horizontal pixels per vertical pixel. tilt: (x, y) perspective, as the
    change of scale from one side of the text to the other. curl, sway: waves of the page before that, up and down along the
    lines and sideways from line to line.
    """

    font: str | None = None
    face: int = 0
    size: int = 28
    spacing: int = 0
    turn: float = 0.0
    shear: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    curl: Wave = (0.0, 1.0, 0.0)
    sway: Wave = (0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Page:
    """Lines of words, aligned where they begin. indents: pixels before each line. lifts: pixels by which each word, in reading
    order, stands below its line. joint: what stands between words in the text, where "" sets them without a gap.
    """

    lines: tuple[tuple[str, ...], ...]
    style: Style
    indents: tuple[int, ...] = ()
    lifts: tuple[int, ...] = ()
    joint: str = " "
    right_to_left: bool = False

    @property
    def texts(self) -> list[str]:
        return [self.joint.join(line) for line in self.lines]


@dataclass(frozen=True)
class Setting:
    """A typeset page: coverage of all ink ("L"), and each word in reading order with its line, text, box and coverage."""

    ink: Image.Image
    words: tuple[PlacedWord, ...]

    def line_box(self, number: int) -> Box:
        """Around the ink of all words of a line."""
        edges = np.array([word.box for word in self.words if word.line == number])
        return [*map(int, edges[:, :2].min(axis=0)), *map(int, edges[:, 2:].max(axis=0))]


@dataclass(frozen=True)
class PlacedWord:
    """ink: coverage inside `box`."""

    line: int
    text: str
    box: Box
    ink: np.ndarray


@lru_cache(maxsize=64)
def font(path: str | None, size: int, face: int = 0) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size, index=face)  # type: ignore[return-value]


def typeset(page: Page) -> Setting:
    """Typeset and distort a page; the image is as large as the distorted text and its margins."""
    style, at = page.style, font(page.style.font, page.style.size, page.style.face)
    gap = round(style.size * 0.4) + 2 * style.spacing if page.joint else style.spacing
    tiles: list[tuple[int, str, Image.Image, int, int]] = []
    for number, line in enumerate(page.lines):
        x = page.indents[number] if page.indents else 0
        for word in line:
            tile, advance, left, top = _tile(word, at, style)
            begin = -x - advance if page.right_to_left else x
            lift = page.lifts[len(tiles)] if page.lifts else 0
            tiles.append(
                (number, word, tile, begin + left, number * round(style.size * LEADING) + top + lift)
            )
            x += advance + gap
    sides = [(x, y, x + tile.width, y + tile.height) for _, _, tile, x, y in tiles]
    left, top = min(side[0] for side in sides), min(side[1] for side in sides)
    right, bottom = max(side[2] for side in sides), max(side[3] for side in sides)
    matrix = _distortion(style, (left, top, right, bottom))
    corners = _moved(matrix, _reach(style, left, top, right, bottom))
    matrix = _shift(MARGIN - corners[:, 0].min(), MARGIN - corners[:, 1].min()) @ matrix
    width, height = (math.ceil(v) + 2 * MARGIN for v in np.ptp(corners, axis=0))
    ink = Image.new("L", (width, height))
    words = []
    for number, text, tile, x, y in tiles:
        moved, left, top = _warped(tile, x, y, matrix, style)
        x1, y1, x2, y2 = moved.getbbox() or (0, 0, 0, 0)
        cut = moved.crop((x1, y1, x2, y2))
        box = [left + x1, top + y1, left + x2, top + y2]
        ink.paste(ImageChops.lighter(ink.crop((box[0], box[1], box[2], box[3])), cut), (box[0], box[1]))
        words.append(PlacedWord(number, text, box, np.asarray(cut)))
    return Setting(ink, tuple(words))


def _tile(word: str, at: ImageFont.FreeTypeFont, style: Style) -> tuple[Image.Image, int, int, int]:
    """(the word's coverage with PAD around all its ink, its advance in pixels, left and top of the tile from the word's origin)."""
    places, x = [], 0
    for letters in word if style.spacing else [word]:
        places.append((x, letters))
        x += math.ceil(at.getlength(letters)) + style.spacing
    boxes = [
        (x0 + box[0], box[1], x0 + box[2], box[3]) for x0, letters in places for box in [at.getbbox(letters)]
    ]
    left, top = (math.floor(min(box[i] for box in boxes)) - PAD for i in (0, 1))
    right, bottom = (math.ceil(max(box[i] for box in boxes)) + PAD for i in (2, 3))
    tile = Image.new("L", (right - left, bottom - top))
    canvas = ImageDraw.Draw(tile)
    for x0, letters in places:
        canvas.text((x0 - left, -top), letters, fill=255, font=at)
    return tile, x - style.spacing, left, top


def _distortion(style: Style, page: tuple[float, float, float, float]) -> np.ndarray:
    """The homography (3, 3) from the flat page (left, top, right, bottom), behind its waves, to the distorted one."""
    left, top, right, bottom = page
    width, height = right - left, bottom - top
    angle = math.radians(style.turn)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shear = np.array([[1, -style.shear, 0], [0, 1, 0], [0, 0, 1]])
    # The denominator ranges from 1 - tilt / 2 to 1 + tilt / 2 across the text.
    lean = np.array([[1, 0, 0], [0, 1, 0], [style.tilt[0] / width, style.tilt[1] / height, 1]])
    return turn @ shear @ lean @ _shift(-left - width / 2, -top - height / 2)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _moved(matrix: np.ndarray, points: list[tuple[float, float]]) -> np.ndarray:
    """The points after the homography, as an array (N, 2)."""
    moved = np.array([[x, y, 1.0] for x, y in points]) @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def _reach(style: Style, left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """Corners of what a rectangle of the flat page can cover behind the waves."""
    x, y = abs(style.sway[0]), abs(style.curl[0])
    left, top, right, bottom = left - x, top - y, right + x, bottom + y
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _warped(
    tile: Image.Image, x: int, y: int, matrix: np.ndarray, style: Style
) -> tuple[Image.Image, int, int]:
    """(a tile at x, y of the flat page, distorted; its left and top on the distorted page).

    Every pixel of the distorted page is looked up on the flat one: back through the homography to a point (u, v), then through
    the waves to (u + sway(v), v + curl(u)). Ink and boxes come from the same pixels.
    """
    corners = _moved(matrix, _reach(style, x, y, x + tile.width, y + tile.height))
    left, top = (math.floor(v) - 1 for v in corners.min(axis=0))
    size = tuple(math.ceil(v) + 1 - low for v, low in zip(corners.max(axis=0), (left, top), strict=True))
    back = np.linalg.inv(matrix) @ _shift(left, top)
    if style.curl[0] or style.sway[0]:
        moved = _waved(tile, x, y, back, size, style)
    else:
        flat = _shift(-x, -y) @ back
        coefficients = (flat / flat[2, 2]).flatten()[:8]
        moved = tile.transform(
            (int(size[0]), int(size[1])),
            Image.Transform.PERSPECTIVE,
            tuple(float(c) for c in coefficients),
            Image.Resampling.BICUBIC,
        )
    return visible(moved), left, top


def _waved(
    tile: Image.Image, x: int, y: int, back: np.ndarray, size: tuple[int, ...], style: Style
) -> Image.Image:
    """A tile sampled (bicubic) where the waves put each pixel of an image of this size (width, height)."""
    columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    u, v, w = np.einsum("ij,jhw->ihw", back, np.stack([columns, rows, np.ones_like(rows)]))
    u, v = u / w, v / w
    u, v = u + _wave(style.sway, v), v + _wave(style.curl, u)
    # pixel (i, j) of the tile has its middle at (i + 0.5, j + 0.5)
    values = map_coordinates(
        np.asarray(tile, np.float32), [v - y - 0.5, u - x - 0.5], order=3, mode="constant"
    )
    return Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))


def _wave(wave: Wave, at: np.ndarray) -> np.ndarray:
    amplitude, length, phase = wave
    return amplitude * np.sin(math.tau / length * at + phase)

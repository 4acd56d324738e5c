"""What is on a sign of the search world: a number, a letter, an arrow or a dot, in the sign's middle."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw

from data_recipes.synthetic.figures import Box, Figure
from data_recipes.synthetic.shapes.scenes import PALETTE
from data_recipes.synthetic.typeset import font

Kind = Literal["number", "letter", "arrow", "dot"]
LIGHT = ("yellow", "cyan", "pink", "orange")  # signs whose text is black
DETAILS: dict[str, tuple[str, ...]] = {
    "number": tuple(str(n) for n in range(12, 99) if n % 10 and n % 11),
    "letter": tuple("ABCDEFGHKLMNPRSTUVXYZ"),
    "arrow": ("left", "right", "up", "down"),
    "dot": ("red", "green", "blue", "yellow", "black", "pink"),
}
_ARROW = ((0.0, 0.35), (0.5, 0.35), (0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.5, 0.65), (0.0, 0.65))
_TURNS = {"right": 0, "down": 1, "left": 2, "up": 3}


def details_of(kind: str, sign: Figure) -> list[str]:
    """What can be on a sign: no dot in the sign's own colour."""
    return [detail for detail in DETAILS[kind] if detail != sign.colour]


def draw_detail(image: Image.Image, sign: Figure, detail: str, kind: str, height: int) -> Box:
    """Draw a sign's detail in its middle (lower in a triangle), at most `height` pixels high; return the detail's box."""
    mask = {"arrow": _arrow, "dot": _dot}.get(kind, _text)(detail, height)
    x = round(sign.x - mask.width / 2)
    y = round(sign.y - mask.height / 2 + (sign.half * 0.3 if sign.shape == "triangle" else 0))
    ink = (20, 20, 20) if sign.colour in LIGHT else (250, 250, 250)
    image.paste(PALETTE[detail] if kind == "dot" else ink, (x, y), mask)
    return [x, y, x + mask.width, y + mask.height]


@lru_cache(maxsize=512)
def _text(text: str, height: int) -> Image.Image:
    """Coverage of a text, cropped to its ink, as large as fits into `height` pixels."""
    for size in range(3 * height, 3, -1):
        _, _, right, bottom = font(None, size).getbbox(text)
        mask = Image.new("L", (int(right) + 4, int(bottom) + 4))
        ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font(None, size))
        box = mask.getbbox()
        if box and box[3] - box[1] <= height:
            return mask.crop(box)
    raise ValueError(f"height: expected room for {text!r}, got {height} pixels")


def _arrow(way: str, side: int) -> Image.Image:
    mask = Image.new("L", (side * 4, side * 4))
    ImageDraw.Draw(mask).polygon([(x * (4 * side - 1), y * (4 * side - 1)) for x, y in _ARROW], fill=255)
    return mask.rotate(-90 * _TURNS[way]).reduce(4)


def _dot(_colour: str, side: int) -> Image.Image:
    mask = Image.new("L", (side * 4, side * 4))
    ImageDraw.Draw(mask).ellipse((0, 0, side * 4 - 1, side * 4 - 1), fill=255)
    return mask.reduce(4)

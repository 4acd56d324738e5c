"""Generated images for measuring near-duplicate detection: varied bases, copies of each, and look-alikes.

A look-alike differs from its base almost only in what a question would ask about: the same table with other numbers, the
same chart with other bars, the same scene with one object moved, the same figure with other labels.
"""

from __future__ import annotations

import io
import math
import random
import re
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

NAMES = re.findall(
    r"\w+",
    "lamp bench kite drum parrot sofa anchor tunnel cherry mitten pencil saddle ribbon marble candle turnip whistle "
    "basket hammer ladder pillow rocket saucer tablet violin wagon zipper bucket carpet dollar engine finger",
)
COLOURS = (
    "crimson",
    "royalblue",
    "seagreen",
    "goldenrod",
    "purple",
    "darkorange",
    "teal",
    "slategray",
    "hotpink",
)

Image_ = Image.Image


def bases(count: int, seed: int) -> Iterator[tuple[str, Image_, Image_]]:
    """`count` tuples (kind, image, look-alike), cycling through the kinds."""
    for i in range(count):
        kind, make = KINDS[i % len(KINDS)]
        yield kind, *make(random.Random(f"{seed}-{i}"))


# ------------------------------------------------------------------------------------------------------------- bases


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _tables(r: random.Random) -> tuple[Image_, Image_]:
    """A price list; the look-alike has the same names with other numbers."""
    rows, size = r.randint(3, 8), r.randint(14, 20)
    names = r.sample(NAMES, rows)
    width, step = r.randint(260, 420), size + 10
    header, column = r.choice(["#eeeeee", "#ffffff", "#dde8ff"]), int(width * r.uniform(0.5, 0.7))

    def draw(numbers: list[str]) -> Image_:
        image = Image.new("RGB", (width, step * rows + 12), "white")
        d = ImageDraw.Draw(image)
        for i, (name, number) in enumerate(zip(names, numbers)):
            y = 6 + i * step
            d.rectangle((6, y, width - 6, y + step), fill=header if i == 0 else None, outline="#888888")
            d.text((14, y + 4), name, fill="black", font=_font(size))
            d.text((column, y + 4), number, fill="black", font=_font(size))
        return image

    def numbers() -> list[str]:
        return [f"${r.randint(100, 9999) / 100:.2f}" for _ in range(rows)]

    return draw(numbers()), draw(numbers())


def _charts(r: random.Random) -> tuple[Image_, Image_]:
    """A bar chart; the look-alike has the same axes and names with other bars."""
    bars, width, height = r.randint(4, 8), r.randint(360, 560), r.randint(240, 360)
    colour, names = r.choice(COLOURS), r.sample(NAMES, bars)
    title = " ".join(r.sample(NAMES, 3))

    def draw() -> Image_:
        image = Image.new("RGB", (width, height), "white")
        d = ImageDraw.Draw(image)
        d.text((width * 0.3, 4), title, fill="black", font=_font(16))
        for y in range(5):
            level = height - 40 - y * (height - 80) / 4
            d.line((40, level, width - 10, level), fill="#cccccc")
            d.text((8, level - 7), str(y * 25), fill="black", font=_font(12))
        slot = (width - 60) / bars
        for i in range(bars):
            top = height - 40 - r.uniform(0.05, 1) * (height - 80)
            d.rectangle((50 + i * slot, top, 50 + (i + 0.7) * slot, height - 40), fill=colour)
            d.text((50 + i * slot, height - 34), names[i], fill="black", font=_font(11))
        return image

    return draw(), draw()


def _scenes(r: random.Random) -> tuple[Image_, Image_]:
    """Shapes on a plain background; in the look-alike one of them is somewhere else."""
    side = r.randint(280, 480)
    ground = tuple(r.randint(120, 255) for _ in range(3))

    def thing() -> tuple[str, str, float, float, float]:
        size = side * r.uniform(0.06, 0.14)
        return (
            r.choice(["disc", "box", "triangle"]),
            r.choice(COLOURS),
            r.uniform(0, side - size),
            r.uniform(0, side - size),
            size,
        )

    def draw(things: list[tuple[str, str, float, float, float]]) -> Image_:
        image = Image.new("RGB", (side, side), ground)
        d = ImageDraw.Draw(image)
        for form, colour, x, y, size in things:
            if form == "disc":
                d.ellipse((x, y, x + size, y + size), fill=colour)
            elif form == "box":
                d.rectangle((x, y, x + size, y + size), fill=colour)
            else:
                d.polygon([(x, y + size), (x + size, y + size), (x + size / 2, y)], fill=colour)
        return image

    things = [thing() for _ in range(r.randint(5, 12))]
    return draw(things), draw([*things[:-1], thing()])


def _photos(r: random.Random) -> tuple[Image_, Image_]:
    """Coloured 1/f noise, with the spectrum of a photograph; the look-alike shares its lower half."""
    w, h = r.randint(240, 480), r.randint(240, 480)
    rng = np.random.default_rng(r.getrandbits(32))
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
    frequency = np.maximum(np.hypot(fx, fy), 1 / max(w, h))
    coarse = frequency < 4 / max(w, h)

    def noise() -> np.ndarray:
        return np.fft.rfft2(rng.normal(size=(h, w))) / frequency**1.2

    shared, mine, other = noise(), noise(), noise()
    mix = rng.uniform(0.3, 1, 3)

    def picture(spectrum: np.ndarray) -> Image_:
        grey = np.fft.irfft2(spectrum, (h, w))
        grey = (grey - grey.min()) / np.ptp(grey)
        return Image.fromarray((255 * grey[..., None] ** (0.5 + mix)).astype(np.uint8))

    return picture(np.where(coarse, shared, mine)), picture(np.where(coarse, shared, other))


def _pages(r: random.Random) -> tuple[Image_, Image_]:
    """Lines of text; the look-alike has the same layout with other words."""
    width, size, lines = r.randint(300, 460), r.randint(13, 18), r.randint(6, 14)
    lengths = [r.randint(3, width // (size * 4)) for _ in range(lines)]

    def draw() -> Image_:
        image = Image.new("RGB", (width, lines * (size + 7) + 30), "white")
        d = ImageDraw.Draw(image)
        for i, length in enumerate(lengths):
            words = " ".join(r.choice(NAMES) for _ in range(length))
            d.text((15, 15 + i * (size + 7)), words, fill="#222222", font=_font(size))
        return image

    return draw(), draw()


def _figures(r: random.Random) -> tuple[Image_, Image_]:
    """A geometry figure; the look-alike has other numbers at its sides."""
    side = r.randint(260, 420)
    corners = [
        (side * (0.5 + r.uniform(0.25, 0.4) * math.cos(a)), side * (0.5 + r.uniform(0.25, 0.4) * math.sin(a)))
        for a in sorted(r.uniform(0, 2 * math.pi) for _ in range(r.randint(3, 6)))
    ]

    def draw() -> Image_:
        image = Image.new("RGB", (side, side), "white")
        d = ImageDraw.Draw(image)
        d.polygon(corners, outline="black", width=2)
        for i, (x, y) in enumerate(corners):
            u, v = corners[(i + 1) % len(corners)]
            d.text(((x + u) / 2 + 6, (y + v) / 2 - 8), str(r.randint(2, 99)), fill="black", font=_font(17))
            d.text((x + 4, y + 4), "ABCDEF"[i], fill="black", font=_font(15))
        return image

    return draw(), draw()


KINDS: tuple[tuple[str, Callable[[random.Random], tuple[Image_, Image_]]], ...] = (
    ("table", _tables),
    ("chart", _charts),
    ("scene", _scenes),
    ("photo", _photos),
    ("page", _pages),
    ("figure", _figures),
)


# ------------------------------------------------------------------------------------------------------------ copies


def copies(image: Image_, seed: str) -> Iterator[tuple[str, Image_]]:
    """(kind of change, copy), one of each kind."""
    r = random.Random(seed)
    w, h = image.size
    yield "jpeg, quality 30", _encoded(image, "JPEG", 30)
    yield "webp, quality 40", _encoded(image, "WEBP", 40)
    scale = r.uniform(0.3, 0.6)
    yield (
        "0.3 to 0.6 of the size",
        image.resize((round(w * scale), round(h * scale)), Image.Resampling.BICUBIC),
    )
    yield "twice the size", image.resize((2 * w, 2 * h), Image.Resampling.LANCZOS)
    yield "aspect changed by up to 15%", image.resize((round(w * r.uniform(0.85, 1.15)), h))
    for most in (2, 5, 10):
        yield f"up to {most}% cropped at each side", _cropped(image, most / 100, r)
    yield "brightness x0.7 or x1.3", ImageEnhance.Brightness(image).enhance(r.choice([0.7, 1.3]))
    yield "contrast x0.6 or x1.4", ImageEnhance.Contrast(image).enhance(r.choice([0.6, 1.4]))
    yield "grey", image.convert("L").convert("RGB")
    yield "gamma 1.6", image.point([round(255 * (i / 255) ** 1.6) for i in range(256)] * 3)
    yield "hue turned by 30 to 85 degrees", _hue(image, r.randint(21, 60))
    small = _cropped(image, 0.04, r).resize((round(w * 0.6), round(h * 0.6)))
    yield (
        "cropped 4%, 0.6 of the size, paler, jpeg 50",
        _encoded(ImageEnhance.Color(small).enhance(0.5), "JPEG", 50),
    )


def _encoded(image: Image_, kind: str, quality: int) -> Image_:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return Image.open(buffer).convert("RGB")


def _cropped(image: Image_, most: float, r: random.Random) -> Image_:
    w, h = image.size
    left, top, right, bottom = (r.uniform(0, most) for _ in range(4))
    return image.crop((round(left * w), round(top * h), round((1 - right) * w), round((1 - bottom) * h)))


def _hue(image: Image_, turn: int) -> Image_:
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] += np.uint8(turn)
    return Image.fromarray(hsv, "HSV").convert("RGB")

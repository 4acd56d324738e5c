"""Text to read: lines and pages with distortion, low contrast, blur, noise and occlusion, and exact word boxes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from data_recipes.synthetic.figures import Box, background, blemish
from data_recipes.synthetic.grounding import framed
from data_recipes.synthetic.typeset import Page, PlacedWord, Setting, Style, typeset
from data_recipes.synthetic.words import random_token
from data_recipes.synthetic.world import DraftRow, WorldOptions, knob, listed, numbers, whole_knob, world

Kind = Literal["line", "page_line", "find", "word_at"]


class OcrOptions(WorldOptions):
    """Options of `synthetic_ocr`. Rows are reproducible with the same fonts and Pillow version."""

    kinds: tuple[Kind, ...] = ("line", "page_line", "find", "word_at")
    """Kinds of question, in turn: read an image of one line; read one line of a page; give the box of a word (task
    `grounding`); read the word in a box. All but `find` have the task `ocr`, for the rewards anls or exact_text."""
    fonts: tuple[Path, ...] = ()
    """TrueType files, chosen with equal probability; empty: only Pillow's own font (Aileron)."""
    words: int | None = Field(None, ge=1, le=12)
    """Maximum number of words on a line (the minimum is half of it); 3 to 7 by difficulty."""
    lines: int | None = Field(None, ge=2, le=30)
    """Lines of a page; 3 to 12 by difficulty."""
    codes: float | None = Field(None, ge=0.0, le=1.0)
    """Share of codes, numbers, prices and times among the words; 0.1 to 0.5 by difficulty."""
    font_size: tuple[int, int] | None = None
    """Smallest and largest font size in pixels; (30, 44) to (15, 30) by difficulty."""
    distortion: float | None = Field(None, ge=0.0, le=1.0)
    """Strength of rotation (up to 14 degrees), shear, perspective and letter spacing; 0 to 1 by difficulty."""
    contrast: float | None = Field(None, ge=0.1, le=1.0)
    """Difference in brightness between text and paper; 0.85 to 0.35 by difficulty."""
    blur: float | None = Field(None, ge=0.0, le=3.0)
    """Maximum blur radius in pixels; 0 to 0.9 by difficulty."""
    noise: float | None = Field(None, ge=0.0, le=40.0)
    """Maximum standard deviation of the noise on the 0 to 255 scale; 0 to 14 by difficulty."""
    occlusion: float | None = Field(None, ge=0.0, le=0.4)
    """Maximum share of a word's ink that strokes and spots cover; 0 to 0.15 by difficulty."""
    frame: Literal["pixel", "norm1000"] = "pixel"
    """Coordinate frame of boxes in questions and answers; `norm1000` is rounded to whole numbers."""


@dataclass(frozen=True)
class OcrPlan:
    """target: index of the line (page_line) or of the word in reading order (find, word_at)."""

    kind: str
    page: Page
    target: int

    @property
    def content(self) -> str:
        return "\n".join(" ".join(line) for line in self.page.lines)


def plan(kind: str, rng: random.Random, options: OcrOptions) -> OcrPlan | None:
    hard = options.difficulty
    most = whole_knob(options.words, 3, 7, hard)
    codes = knob(options.codes, 0.1, 0.5, hard)
    count = 1 if kind == "line" else whole_knob(options.lines, 3, 12, hard)
    lines = tuple(
        tuple(random_token(rng, codes) for _ in range(rng.randint(max(1, most // 2), most)))
        for _ in range(count)
    )
    page = Page(lines, _style(rng, options), tuple(rng.choice((0, 0, 0, 24)) for _ in lines))
    words = [word for line in lines for word in line]
    if kind in ("line", "page_line"):
        return OcrPlan(kind, page, rng.randrange(count))
    # Ask only for words that occur once, ignoring case.
    once = [i for i, w in enumerate(words) if sum(w.casefold() == other.casefold() for other in words) == 1]
    return OcrPlan(kind, page, rng.choice(once)) if once else None


def make(planned: OcrPlan, rng: random.Random, options: OcrOptions) -> DraftRow:
    setting = typeset(planned.page)
    image, covered = draw(setting, rng, options)
    lines = [" ".join(line) for line in planned.page.lines]
    shown = (
        f"The image shows {len(lines)} line{'s' * (len(lines) > 1)}: {listed(repr(line) for line in lines)}."
    )
    word = setting.words[planned.target if planned.kind in ("find", "word_at") else 0]
    box = framed(word.box, options.frame, image)
    units = "in pixels" if options.frame == "pixel" else "from 0 to 1000"
    answer: dict[str, Any]
    if planned.kind == "find":
        task, answer, conclusion = "grounding", {"boxes": [box], "frame": options.frame}, numbers(box)
        question = f"Where is the word '{word.text}'? Give its box as [x1, y1, x2, y2] {units}."
        summary = f"I look for the word '{word.text}' and give its box."
        reasoning = (
            f"'{word.text}' is in line {word.line + 1}, and there alone. Its ink ends at {numbers(box)}."
        )
    elif planned.kind == "word_at":
        task, answer, conclusion = "ocr", {"value": word.text}, word.text
        question = f"Which word is in the box {numbers(box)} ({units})? Answer with the word alone."
        summary = "I look at the box and read the word in it."
        reasoning = f"The box lies in line {word.line + 1}, '{lines[word.line]}', and holds '{word.text}'."
    else:
        text = lines[planned.target]
        task, answer, conclusion = "ocr", {"value": text}, text
        which = (
            "the text in the image" if planned.kind == "line" else f"line {planned.target + 1} of the page"
        )
        question = f"Read {which}. Answer with the text alone."
        summary = f"I read {which}."
        reasoning = f"Letter by letter it says '{text}'."
    trace = {"summary": summary, "caption": shown, "reasoning": reasoning, "conclusion": conclusion}
    columns = {
        "image_size": list(image.size),
        "words": [{"text": w.text, "line": w.line, "box": w.box} for w in setting.words],
        "occluded": round(covered, 3),
    }
    return DraftRow(task, question, answer, trace, (image,), columns=columns)


def draw(setting: Setting, rng: random.Random, options: OcrOptions) -> tuple[Image.Image, float]:
    """(image of the page, largest share of a word's ink that is covered)."""
    hard = options.difficulty
    width, height = setting.ink.size
    paper = np.asarray(background(rng, width, height, hard * rng.random()), np.float32)
    contrast = knob(options.contrast, 0.85, 0.35, hard) * rng.uniform(1.0, 1.15)
    # Choose the paper's brightness so that the text can differ enough, being darker or lighter at random.
    light = rng.uniform(min(1.0, contrast + 0.1), 1.0) if contrast < 0.9 else 1.0
    dark = max(0.0, light - contrast)
    paper_at, ink_at = (light, dark) if rng.random() < 1 - 0.4 * hard else (dark, light)
    paper = np.clip((paper - paper.mean()) * 0.35 * contrast + paper_at * 255, 0, 255)
    tint = np.array([rng.uniform(-30, 30) for _ in range(3)], np.float32)
    colour = np.clip(ink_at * 255 + (tint - tint.mean()), 0, 255)
    alpha = np.asarray(setting.ink, np.float32)[..., None] / 255
    image = Image.fromarray((paper * (1 - alpha) + colour * alpha).round().astype(np.uint8))
    covered = _occlude(image, setting.words, rng, knob(options.occlusion, 0, 0.15, hard), hard)
    blur = knob(options.blur, 0, 0.9, hard) * rng.random()
    noise = knob(options.noise, 0, 14, hard) * rng.random()
    return blemish(image, rng, blur=blur, noise=noise), covered


def _occlude(
    image: Image.Image, words: tuple[PlacedWord, ...], rng: random.Random, limit: float, hard: float
) -> float:
    """Draw strokes and spots that cover at most `limit` of any word's ink; return the largest share covered."""
    if not limit:
        return 0.0
    total = Image.new("L", image.size)
    largest = 0.0
    for _ in range(round(2 + 8 * hard)):
        mark = total.copy()
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        if rng.random() < 0.5:
            end = (x + rng.uniform(-120, 120), y + rng.uniform(-60, 60))
            ImageDraw.Draw(mark).line((x, y, *end), fill=255, width=rng.randint(1, 4))
        else:
            radius = rng.uniform(2, 9)
            ImageDraw.Draw(mark).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        most = max(_share(mark, word) for word in words)
        if most <= limit:
            total, largest = mark, most
    image.paste(tuple(rng.randint(60, 200) for _ in range(3)), (0, 0), total)
    return largest


def _share(mask: Image.Image, word: PlacedWord) -> float:
    box: Box = word.box
    under = np.asarray(mask.crop((box[0], box[1], box[2], box[3]))) > 0
    ink = word.ink > 0
    return float((under & ink).sum() / max(1, ink.sum()))


def _style(rng: random.Random, options: OcrOptions) -> Style:
    hard = options.difficulty
    low, high = options.font_size or (round(30 - 15 * hard), round(44 - 14 * hard))
    bend = knob(options.distortion, 0, 1, hard)
    return Style(
        font=str(rng.choice(options.fonts)) if options.fonts else None,
        size=rng.randint(low, high),
        spacing=rng.choice((0, 0, 1, 2, 4)) if bend else 0,
        turn=rng.uniform(-14, 14) * bend,
        shear=rng.uniform(-0.3, 0.3) * bend,
        tilt=(rng.uniform(-0.25, 0.25) * bend, rng.uniform(-0.25, 0.25) * bend),
    )


FORMATS = (
    world(
        "synthetic_ocr", "Made: distorted lines and pages of text with boxes of words", OcrOptions, plan, make
    ),
)

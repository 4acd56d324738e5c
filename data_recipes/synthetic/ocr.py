"""Text to read: lines and pages in several scripts and hands, with distortion, waves, low contrast, blur, noise and occlusion, and
exact boxes of words and lines."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from pydantic import Field

from data_recipes.files.inputs import note
from data_recipes.records import SourceError
from data_recipes.synthetic.figures import Box, background, blemish
from data_recipes.synthetic.fonts import HANDWRITTEN, faces, require_letters
from data_recipes.synthetic.grounding import framed
from data_recipes.synthetic.scripts import SCRIPTS, Name, Script
from data_recipes.synthetic.typeset import Page, PlacedWord, Setting, Style, typeset
from data_recipes.synthetic.world import DraftRow, WorldOptions, knob, listed, numbers, whole_knob, world

Kind = Literal["line", "page_line", "find", "word_at", "find_line", "line_at"]


class OcrOptions(WorldOptions):
    """Options of `synthetic_ocr`. Rows are reproducible with the same fonts and Pillow version."""

    kinds: tuple[Kind, ...] = ("line", "page_line", "find", "word_at", "find_line", "line_at")
    """Kinds of question, in turn: read an image of one line; read one line of a page; give the box of a word; read the word in a
    box; give the box of a line; read the line in a box. `find` and `find_line` have the task `grounding`, for the reward giou,
    the others `ocr`, for anls or exact_text."""
    scripts: tuple[Name, ...] = ("latin",)
    """Scripts of the rows, chosen with equal probability, each with common nouns of one language. Other than Latin ones need
    fonts of the system: Noto (Debian: fonts-noto-core, fonts-noto-cjk), or those of `fonts` or `families`."""
    handwriting: float = Field(0.0, ge=0.0, le=1.0)
    """Share of rows in fonts of handwriting, of the scripts that have some (latin, japanese), with words off their lines
    (Debian: fonts-bwht, fonts-breip, fonts-dancingscript, fonts-klee, fonts-seto, fonts-yusei-magic)."""
    fonts: tuple[Path, ...] = ()
    """TrueType files, chosen with equal probability; empty: `families`, or Pillow's own font (Aileron) for printed Latin text,
    or the families that `data_recipes/synthetic/fonts.py` names for a script."""
    families: tuple[str, ...] = ()
    """Families of the system's fonts, as fontconfig calls them, for all rows that are not handwritten."""
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
    curl: float | None = Field(None, ge=0.0, le=1.0)
    """Strength of waves in the page, as of paper that curls: at 1 words move by up to 0.6 of the font size; 0 to 0.7 by difficulty."""
    motion: float | None = Field(None, ge=0.0, le=5.0)
    """Maximum length of motion blur in pixels, in any direction; 0 to 2.5 by difficulty."""
    noise: float | None = Field(None, ge=0.0, le=40.0)
    """Maximum standard deviation of the noise on the 0 to 255 scale; 0 to 14 by difficulty."""
    occlusion: float | None = Field(None, ge=0.0, le=0.4)
    """Maximum share of a word's ink that strokes and spots cover; 0 to 0.15 by difficulty."""
    frame: Literal["pixel", "norm1000"] = "pixel"
    """Coordinate frame of boxes in questions and answers; `norm1000` is rounded to whole numbers."""


@dataclass(frozen=True)
class OcrPlan:
    """target: index of the line (page_line, find_line, line_at) or of the word in reading order (find, word_at)."""

    kind: str
    page: Page
    target: int
    script: Name = "latin"
    handwritten: bool = False

    @property
    def content(self) -> str:
        return "\n".join(self.page.texts)


def plan(kind: str, rng: random.Random, options: OcrOptions) -> OcrPlan | None:
    hard = options.difficulty
    script = rng.choice(options.scripts) if len(options.scripts) > 1 else options.scripts[0]
    handwritten = bool(options.handwriting) and script in HANDWRITTEN and rng.random() < options.handwriting
    if options.handwriting and not set(options.scripts) & set(HANDWRITTEN):
        raise SourceError(
            f"handwriting: expected a script with such fonts ({', '.join(HANDWRITTEN)}), got {', '.join(options.scripts)}"
        )
    most = whole_knob(options.words, 3, 7, hard)
    codes = knob(options.codes, 0.1, 0.5, hard)
    count = 1 if kind == "line" else whole_knob(options.lines, 3, 12, hard)
    written = SCRIPTS[script]
    lines = tuple(_line(rng, written, rng.randint(max(1, most // 2), most), codes) for _ in range(count))
    words = [word for line in lines for word in line]
    style = _style(rng, options, script, handwritten)
    indents = tuple(rng.choice((0, 0, 0, 24)) for _ in lines)
    off = round(0.1 * style.size) if handwritten else 0
    lifts = tuple(rng.randint(-off, off) for _ in words) if off else ()
    page = Page(lines, style, indents, lifts, written.joint, written.right_to_left)
    if kind in ("line", "page_line", "line_at"):
        return OcrPlan(kind, page, rng.randrange(count), script, handwritten)
    # Ask only for what occurs once, ignoring case.
    texts = page.texts if kind == "find_line" else words
    once = [i for i, t in enumerate(texts) if sum(t.casefold() in other.casefold() for other in texts) == 1]
    if kind == "find" and not written.joint:  # nor across the border of two words
        once = [i for i in once if sum(line.count(words[i]) for line in page.texts) == 1]
    return OcrPlan(kind, page, rng.choice(once), script, handwritten) if once else None


def _line(rng: random.Random, written: Script, count: int, codes: float) -> tuple[str, ...]:
    """Words and numbers; where nothing stands between them, no number follows another."""
    line: list[str] = []
    for _ in range(count):
        after_number = not written.joint and line and line[-1][0].isdigit()
        line.append(written.token(rng, 0.0 if after_number else codes))
    return tuple(line)


def make(planned: OcrPlan, rng: random.Random, options: OcrOptions) -> DraftRow:
    setting = typeset(planned.page)
    image, covered = draw(setting, rng, options)
    lines = planned.page.texts
    boxes = [setting.line_box(number) for number in range(len(lines))]
    shown = (
        f"The image shows {len(lines)} line{'s' * (len(lines) > 1)}: {listed(repr(line) for line in lines)}."
    )
    word = setting.words[planned.target if planned.kind in ("find", "word_at") else 0]
    of_line = planned.kind in ("find_line", "line_at")
    box = framed(boxes[planned.target] if of_line else word.box, options.frame, image)
    units = "in pixels" if options.frame == "pixel" else "from 0 to 1000"
    answer: dict[str, Any]
    if planned.kind == "find":
        task, answer, conclusion = "grounding", {"boxes": [box], "frame": options.frame}, numbers(box)
        question = f"Where is the word '{word.text}'? Give its box as [x1, y1, x2, y2] {units}."
        summary = f"I look for the word '{word.text}' and give its box."
        reasoning = (
            f"'{word.text}' is in line {word.line + 1}, and there alone. Its ink ends at {numbers(box)}."
        )
    elif planned.kind == "find_line":
        text = lines[planned.target]
        task, answer, conclusion = "grounding", {"boxes": [box], "frame": options.frame}, numbers(box)
        question = f"Where is the line '{text}'? Give its box as [x1, y1, x2, y2] {units}."
        summary = "I look for the line and give its box."
        reasoning = f"'{text}' is line {planned.target + 1}. Its ink ends at {numbers(box)}."
    elif planned.kind == "line_at":
        text = lines[planned.target]
        task, answer, conclusion = "ocr", {"value": text}, text
        question = f"Which line of text is in the box {numbers(box)} ({units})? Answer with the text alone."
        summary = "I look at the box and read the line in it."
        reasoning = f"The box holds line {planned.target + 1}, letter by letter '{text}'."
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
        "lines": [{"text": text, "box": box} for text, box in zip(lines, boxes, strict=True)],
        "script": planned.script,
        "handwritten": planned.handwritten,
        "font": Path(planned.page.style.font).name if planned.page.style.font else "Aileron",
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
    motion = knob(options.motion, 0, 2.5, hard) * rng.random()
    return blemish(_moving(image, motion, rng.uniform(0, math.pi)), rng, blur=blur, noise=noise), covered


def _moving(image: Image.Image, length: float, angle: float) -> Image.Image:
    """Blurred along a line of this length in pixels (at most 5), evenly to both sides, so that places stay. angle: in radians."""
    if not length:
        return image
    kernel = np.zeros((5, 5))
    for at in np.linspace(-0.5, 0.5, 41) * max(0.0, length - 1):
        x, y = 2 + at * math.cos(angle), 2 + at * math.sin(angle)
        left, top = min(int(x), 3), min(int(y), 3)
        across, down = x - left, y - top
        kernel[top : top + 2, left : left + 2] += np.outer((1 - down, down), (1 - across, across))
    kernel /= kernel.sum()
    return image.filter(ImageFilter.Kernel((5, 5), kernel.flatten().tolist(), scale=1))


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


def _style(rng: random.Random, options: OcrOptions, script: Name, handwritten: bool) -> Style:
    hard = options.difficulty
    low, high = options.font_size or (round(30 - 15 * hard), round(44 - 14 * hard))
    bend = knob(options.distortion, 0, 1, hard)
    path, face = _face(rng, options, script, handwritten)
    size = rng.randint(low, high)
    apart = bend and not (handwritten or SCRIPTS[script].shaped)
    spacing, turn, shear = rng.choice((0, 0, 1, 2, 4)), rng.uniform(-14, 14), rng.uniform(-0.3, 0.3)
    tilt = (rng.uniform(-0.25, 0.25) * bend, rng.uniform(-0.25, 0.25) * bend)
    curl = knob(options.curl, 0, 0.7, hard)
    waves = [
        (rng.uniform(0.3, 1.0) * curl * share * size, rng.uniform(*lengths) * size, rng.uniform(0, math.tau))
        for share, lengths in ((0.6, (10, 24)), (0.4, (6, 14)))
    ]
    return Style(
        path, face, size, spacing if apart else 0, turn * bend, shear * bend, tilt, waves[0], waves[1]
    )


def _face(rng: random.Random, options: OcrOptions, script: Name, handwritten: bool) -> tuple[str | None, int]:
    """(font file, or None for Pillow's own; face in it)."""
    if handwritten:
        found = faces(script, handwritten=True)
    elif options.fonts:
        found = tuple((str(path), 0) for path in options.fonts)
        for one in found:
            require_letters(one, script)
    elif options.families or script != "latin":
        found = faces(script, handwritten=False, families=options.families)
    else:
        return None, 0
    path, face = rng.choice(found)
    note(path)  # another release of a font draws other rows
    return path, face


FORMATS = (
    world(
        "synthetic_ocr", "Made: distorted lines and pages of text with boxes of words", OcrOptions, plan, make
    ),
)

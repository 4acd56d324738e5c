"""Counting figures among distractors, with a limit on how much of a figure others may cover."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from data_recipes.synthetic.figures import Figure, apart, background, blemish, figure_mask, inside, paint
from data_recipes.synthetic.refer import Query
from data_recipes.synthetic.shapes.scenes import ALL_SHAPES, PALETTE
from data_recipes.synthetic.world import DraftRow, WorldOptions, knob, listed, numbers, whole_knob, world

Kind = Literal["colour_shape", "colour", "shape"]
TRIES = 80


class CountingOptions(WorldOptions):
    """Options of `synthetic_counting`."""

    kinds: tuple[Kind, ...] = ("colour_shape", "colour", "shape")
    """Kinds of question, in turn: count "red stars", "red figures" or "stars"."""
    width: int = Field(512, ge=128)
    """Of the image, in pixels."""
    height: int = Field(512, ge=128)
    """Of the image, in pixels."""
    most: int | None = Field(None, ge=0)
    """Maximum true count (all counts from 0 to it are equally likely); 4 to 24 by difficulty."""
    distractors: int | None = Field(None, ge=0)
    """Number of figures that do not count, most of them of the counted colour or shape; 3 to 24 by difficulty."""
    overlap: float | None = Field(None, ge=0.0, le=0.7)
    """Maximum share of a figure that others may cover; 0: no two figures touch. 0 to 0.4 by difficulty."""
    unit: float | None = Field(None, ge=6)
    """Half the side of a figure in pixels, plus or minus 20 %; 30 to 16 by difficulty."""
    roughness: float | None = Field(None, ge=0.0, le=1.0)
    """Strength of the background's texture; 0 to 0.8 by difficulty."""


@dataclass(frozen=True)
class CountingPlan:
    """figures: from bottom to top."""

    figures: tuple[Figure, ...]
    query: Query

    @property
    def content(self) -> str:
        return " ".join(f"{f.name} {f.box}" for f in self.figures)


def plan(kind: str, rng: random.Random, options: CountingOptions) -> CountingPlan | None:
    hard = options.difficulty
    colour, shape = rng.choice(list(PALETTE)), rng.choice(ALL_SHAPES)
    query = Query(colour=colour if "colour" in kind else "", shape=shape if "shape" in kind else "")
    count = rng.randint(0, whole_knob(options.most, 4, 24, hard))
    looks = [_counted(rng, query) for _ in range(count)]
    looks += [
        _distractor(rng, query, colour, shape) for _ in range(whole_knob(options.distractors, 3, 24, hard))
    ]
    rng.shuffle(looks)
    figures = _placed(
        rng, looks, knob(options.unit, 30, 16, hard), knob(options.overlap, 0, 0.4, hard), options
    )
    return CountingPlan(tuple(figures), query) if figures is not None else None


def make(planned: CountingPlan, rng: random.Random, options: CountingOptions) -> DraftRow:
    hard = options.difficulty
    image = background(rng, options.width, options.height, knob(options.roughness, 0, 0.8, hard))
    overlap = knob(options.overlap, 0, 0.4, hard)
    for figure in planned.figures:
        paint(image, figure, outline=overlap > 0)
    image = blemish(image, rng, noise=6 * hard)
    counted = sorted(planned.query.alike(planned.figures), key=lambda f: (f.box[1], f.box[0]))
    others = [f for f in planned.figures if f not in counted]
    name, count = planned.query.plural_text, len(counted)
    trace = {
        "summary": f"I find the {name} one by one and count them.",
        "caption": f"There are {len(planned.figures)} figures"
        + (f"; those that do not count are {listed(f.name for f in others)}." if others else "."),
        "reasoning": "".join(f"{i}: {f.name} at {numbers(f.box)}. " for i, f in enumerate(counted, 1))
        + f"That makes {count}.",
        "conclusion": str(count),
    }
    columns = {
        "image_size": [options.width, options.height],
        "overlap": overlap,
        "boxes": [f.box for f in counted],
        "objects": [{"colour": f.colour, "shape": f.shape, "box": f.box} for f in planned.figures],
    }
    question = f"How many {name} are there? Answer with a number."
    return DraftRow("counting", question, {"value": count}, trace, (image,), columns=columns)


def _counted(rng: random.Random, query: Query) -> tuple[str, str]:
    return query.colour or rng.choice(list(PALETTE)), query.shape or rng.choice(ALL_SHAPES)


def _distractor(rng: random.Random, query: Query, colour: str, shape: str) -> tuple[str, str]:
    """A colour and shape that do not count; in most cases one of the two is that of the counted figures."""
    other_colour = rng.choice([c for c in PALETTE if c != colour])
    other_shape = rng.choice([s for s in ALL_SHAPES if s != shape])
    if not query.shape:  # any shape of this colour counts
        return other_colour, rng.choice(ALL_SHAPES)
    if not query.colour:
        return rng.choice(list(PALETTE)), other_shape
    return rng.choice(((other_colour, shape), (colour, other_shape), (other_colour, other_shape)))


def _placed(
    rng: random.Random, looks: list[tuple[str, str]], unit: float, overlap: float, options: CountingOptions
) -> list[Figure] | None:
    """Figures of these colours and shapes, later ones above earlier ones, none covered by more than `overlap`; None if one
    does not fit."""
    # index of the topmost figure at each pixel
    owner = np.full((options.height, options.width), -1, np.int32)
    sizes: list[int] = []  # pixels of each figure
    placed: list[Figure] = []
    for number, (colour, shape) in enumerate(looks):
        for _ in range(TRIES):
            half = unit * rng.uniform(0.8, 1.2)
            x, y = rng.uniform(half, options.width - half), rng.uniform(half, options.height - half)
            figure = Figure(colour, shape, x, y, half, angle=rng.uniform(-12, 12))
            box = figure.box
            if not inside(box, options.width, options.height):
                continue
            if overlap == 0 and not all(apart(box, other.box, 3) for other in placed):
                continue
            ink = _ink(figure)
            x1, y1, x2, y2 = box
            region = np.where(ink, number, owner[y1:y2, x1:x2])
            touched = np.unique(owner[y1:y2, x1:x2][ink])
            before = owner[y1:y2, x1:x2].copy()
            owner[y1:y2, x1:x2] = region
            if all((owner == other).sum() >= (1 - overlap) * sizes[other] for other in touched if other >= 0):
                sizes.append(int(ink.sum()))
                placed.append(figure)
                break
            owner[y1:y2, x1:x2] = before
        else:
            return None
    return placed


def _ink(figure: Figure) -> np.ndarray:
    """Mask of the figure's pixels within its box."""
    mask, left, top = figure_mask(figure)
    x1, y1, x2, y2 = figure.box
    cut: Image.Image = mask.crop((x1 - left, y1 - top, x2 - left, y2 - top))
    return np.asarray(cut) > 0


FORMATS = (
    world(
        "synthetic_counting",
        "Made: figures counted among distractors, overlap controlled",
        CountingOptions,
        plan,
        make,
    ),
)

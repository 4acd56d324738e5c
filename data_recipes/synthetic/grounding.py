"""Boxes of figures on textured backgrounds, for referring expressions that match exactly one figure, or all of a kind."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from pydantic import Field

from data_recipes.synthetic.figures import (
    SIZES,
    Box,
    Figure,
    apart,
    background,
    blemish,
    inside,
    paint,
    place,
)
from data_recipes.synthetic.refer import Query, describe, meant
from data_recipes.synthetic.shapes.scenes import ALL_SHAPES, PALETTE
from data_recipes.synthetic.world import (
    DraftRow,
    WorldOptions,
    knob,
    listed,
    numbers,
    whole_knob,
    with_article,
    world,
)
from rewards.geometry.frames import convert

Kind = Literal["attributes", "relation", "extreme", "all"]
GAP = 6  # free pixels between two boxes


class GroundingOptions(WorldOptions):
    """Options of `synthetic_grounding`."""

    kinds: tuple[Kind, ...] = ("attributes", "relation", "extreme", "all")
    """Kinds of referring expression, in turn: attributes ("the small red star"), a relation ("the star to the left of the
    blue square"), an extreme ("the topmost star"); `all` asks for every figure of a kind (task `detection`)."""
    width: int = Field(640, ge=160)
    """Of the image, in pixels."""
    height: int = Field(480, ge=160)
    """Of the image, in pixels."""
    things: int | None = Field(None, ge=2)
    """Number of figures; 5 to 22 by difficulty."""
    unit: float | None = Field(None, ge=6)
    """Half the side of a medium figure in pixels (small: times 0.6, large: times 1.6); 30 to 14 by difficulty."""
    roughness: float | None = Field(None, ge=0.0, le=1.0)
    """Strength of the background's texture; 0.2 to 1 by difficulty."""
    noise: float | None = Field(None, ge=0.0, le=40.0)
    """Standard deviation of the noise on the 0 to 255 scale; 0 to 10 by difficulty."""
    frame: Literal["pixel", "norm1000"] = "pixel"
    """Frame of the answer's boxes. `norm1000` is rounded to whole numbers, as models write it; `pixel` is exact."""


@dataclass(frozen=True)
class GroundingPlan:
    figures: tuple[Figure, ...]
    query: Query
    targets: tuple[Figure, ...]

    @property
    def content(self) -> str:
        return " ".join(f"{f.name} {f.box}" for f in self.figures)


def plan(kind: str, rng: random.Random, options: GroundingOptions) -> GroundingPlan | None:
    hard = options.difficulty
    unit = knob(options.unit, 30, 14, hard)
    count = whole_knob(options.things, 5, 22, hard)
    # Few colours and shapes for many figures, so that there are look-alikes that only the expression tells apart.
    colours = rng.sample(list(PALETTE), min(len(PALETTE), 3 + count // 5))
    shapes = rng.sample(ALL_SHAPES, min(len(ALL_SHAPES), 2 + count // 6))

    def one(number: int) -> Figure:
        size = rng.choice(list(SIZES))
        half = unit * SIZES[size]
        x, y = rng.uniform(half, options.width - half), rng.uniform(half, options.height - half)
        return Figure(rng.choice(colours), rng.choice(shapes), x, y, half, size, rng.uniform(-12, 12))

    def fits(figure: Figure, placed: list[Figure]) -> bool:
        return inside(figure.box, options.width, options.height) and all(
            apart(figure.box, other.box, GAP) for other in placed
        )

    figures = place(rng, count, one, fits)
    if figures is None:
        return None
    figures.sort(key=lambda f: (f.box[1], f.box[0]))
    if kind == "all":
        queries = {q for f in figures for q in _kinds_of(f) if 2 <= len(q.alike(figures)) <= 8}
        if not queries:
            return None
        query = rng.choice(sorted(queries, key=lambda q: q.text))
        return GroundingPlan(tuple(figures), query, tuple(query.alike(figures)))
    found = describe(rng, figures, kind)
    return GroundingPlan(tuple(figures), found[0], (found[1],)) if found else None


def make(planned: GroundingPlan, rng: random.Random, options: GroundingOptions) -> DraftRow:
    hard = options.difficulty
    image = background(rng, options.width, options.height, knob(options.roughness, 0.2, 1.0, hard))
    for figure in planned.figures:
        paint(image, figure)
    image = blemish(image, rng, noise=knob(options.noise, 0, 10, hard))
    boxes = [framed(f.box, options.frame, image) for f in planned.targets]
    several = len(boxes) > 1
    units = "in pixels" if options.frame == "pixel" else "from 0 to 1000"
    if several:
        question = f"Where are all the {planned.query.plural_text}? Give their boxes as [[x1, y1, x2, y2], …] {units}."
        summary = f"I look for all the {planned.query.plural_text} and give their boxes."
    else:
        question = f"Where is the {planned.query.text}? Give its box as [x1, y1, x2, y2] {units}."
        summary = f"I look for the {planned.query.text} and give its box."
    trace = {
        "summary": summary,
        "caption": f"The image shows {listed(with_article(f.name) for f in planned.figures)}.",
        "reasoning": _reasoning(planned, options.frame, image),
        "conclusion": numbers(boxes) if several else numbers(boxes[0]),  # type: ignore[arg-type]
    }
    answer = {"boxes": boxes, "frame": options.frame}
    columns = {
        "expression": planned.query.plural_text if several else planned.query.text,
        "image_size": [options.width, options.height],
        "objects": [
            {"size": f.size, "colour": f.colour, "shape": f.shape, "box": f.box} for f in planned.figures
        ],
    }
    return DraftRow(
        "detection" if several else "grounding", question, answer, trace, (image,), columns=columns
    )


def framed(box: Box, frame: str, image: Image.Image) -> Box:
    """A pixel box converted to the answer's frame."""
    return box if frame == "pixel" else [round(v) for v in convert(box, "pixel", frame, image.size)]


def _kinds_of(figure: Figure) -> list[Query]:
    return [
        Query(colour=figure.colour),
        Query(shape=figure.shape),
        Query(colour=figure.colour, shape=figure.shape),
    ]


def _reasoning(planned: GroundingPlan, frame: str, image: Image.Image) -> str:
    query, figures = planned.query, planned.figures

    def at(figure: Figure) -> str:
        return f"{figure.name} at {numbers(framed(figure.box, frame, image))}"

    if len(planned.targets) > 1:
        return f"I find {len(planned.targets)}: {listed(at(f) for f in planned.targets)}."
    alike, target = query.alike(figures), planned.targets[0]
    if len(alike) == 1:
        return f"Only one figure fits: the {at(target)}."
    steps = f"By its looks it could be the {' or the '.join(at(f) for f in alike)}."
    if query.anchor:
        anchor = meant(query.anchor, figures)
        assert anchor is not None, "a plan's query has a meaning"
        return f"{steps} The {query.anchor.text} is the {at(anchor)}. Only the {at(target)} lies {query.relation} it."
    return f"{steps} The {query.extreme} of them is the {at(target)}."


FORMATS = (
    world(
        "synthetic_grounding",
        "Made: figures on textured backgrounds, found by unique referring expressions",
        GroundingOptions,
        plan,
        make,
    ),
)

"""The shapes world at any difficulty: the demo's questions with larger grids, more kinds of things, and look-alikes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import Field

from data_recipes.synthetic.shapes.scenes import (
    ALL_SHAPES,
    DEMO,
    FRAMES_PER_SECOND,
    PALETTE,
    Look,
    clip_frames,
    draw,
)
from data_recipes.synthetic.shapes.tasks import EXAMPLES, Example, describe, random_view
from data_recipes.synthetic.world import DraftRow, WorldOptions, encoded_video, whole_knob, world

Kind = Literal["math", "text_math", "counting", "choice", "grounding", "pointing", "temporal"]


class ShapesOptions(WorldOptions):
    """Options of `synthetic_shapes`. Difficulty 0 is the demo's world: 2 x 3 cells, 4 colours, 3 shapes, no look-alikes."""

    kinds: tuple[Kind, ...] = get_args(Kind)
    """Kinds of question, in turn; except for `text_math` they are also the rows' tasks."""
    grid_rows: int | None = Field(None, ge=1, le=20)
    """Number of rows of cells; 2 to 8 by difficulty."""
    grid_columns: int | None = Field(None, ge=3, le=26)
    """Number of columns of cells; 3 to 10 by difficulty."""
    things: int | None = Field(None, ge=2)
    """Maximum number of things in a scene (the minimum is half of it); 4 to 40 by difficulty."""
    colours: int | None = Field(None, ge=2, le=len(PALETTE))
    """Number of colours; 4 to 10 by difficulty."""
    shapes: int | None = Field(None, ge=2, le=len(ALL_SHAPES))
    """Number of shapes; 3 to 7 by difficulty."""
    repeats: float | None = Field(None, ge=0.0, lt=1.0)
    """Share of things that look like another one; 0 to 0.5 by difficulty. Things that a question names stay unique."""
    sizes: bool | None = None
    """true: things are small or large, have the size in their names, and boxes of their own pixels. false: things fill their
    cells, and the cells are their boxes. null: true from difficulty 0.5 on."""
    cell_px: int = Field(DEMO.cell_px, ge=14)
    """Side of a cell in pixels; 28 is one visual token of Qwen2.5-VL."""


@dataclass(frozen=True)
class ShapesPlan:
    example: Example

    @property
    def content(self) -> str:
        view = self.example.scene or self.example.clip
        return describe(view) if view else self.example.question


def look(options: ShapesOptions) -> Look:
    """The drawing settings for these options."""
    hard = options.difficulty
    rows, columns = (whole_knob(options.grid_rows, 2, 8, hard), whole_knob(options.grid_columns, 3, 10, hard))
    colours = tuple(PALETTE)[: whole_knob(options.colours, 4, len(PALETTE), hard)]
    shapes = ALL_SHAPES[: whole_knob(options.shapes, 3, len(ALL_SHAPES), hard)]
    most = min(whole_knob(options.things, 4, 40, hard), rows * columns, len(colours) * len(shapes))
    repeats = 0.5 * hard if options.repeats is None else options.repeats
    sizes = hard >= 0.5 if options.sizes is None else options.sizes
    side = options.cell_px
    clip_columns = whole_knob(None, 2, 4, hard)
    clip_rows = whole_knob(None, 1, 2, hard)
    clip_things = tuple(range(1, min(clip_rows * clip_columns, 6) + 1)) if hard else DEMO.clip_things
    longest = whole_knob(None, 4, 8, hard)
    return Look(
        rows=rows,
        columns=columns,
        things=(max(2, most // 2), most),
        colours=colours,
        shapes=shapes,
        repeats=repeats,
        cell_px=side,
        sizes=(("small", side * 5 // 16), ("large", side // 14)) if sizes else (),
        clip_rows=clip_rows,
        clip_columns=clip_columns,
        seconds=tuple(range(5, whole_knob(None, 6, 20, hard) + 1)),
        clip_things=clip_things,
        longest=longest,
    )


def plan(kind: str, rng: random.Random, options: ShapesOptions) -> ShapesPlan | None:
    view = random_view(kind, rng, look(options))
    return ShapesPlan(EXAMPLES[kind](rng, view))


def make(planned: ShapesPlan, rng: random.Random, options: ShapesOptions) -> DraftRow:
    example = planned.example
    scene = example.scene
    images = (draw(scene.rows, scene.columns, scene.things, scene.cell_px),) if scene else ()
    videos = (encoded_video(clip_frames(example.clip), FRAMES_PER_SECOND),) if example.clip else ()
    # `kind` is a column of every generated row.
    columns = {name: value for name, value in example.columns.items() if name != "kind"}
    return DraftRow(
        example.task, example.question, example.answer, example.trace, images, videos, columns=columns
    )


FORMATS = (
    world(
        "synthetic_shapes",
        "Made: coloured shapes on a grid, seven kinds of question",
        ShapesOptions,
        plan,
        make,
    ),
)

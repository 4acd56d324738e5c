"""Dialogues of visual search by zooming, in the format of Mini-o3's cold-start data: calls, observations, crops.

A turn thinks in <think>…</think> and then either zooms, <grounding>{"bbox_2d": [x1, y1, x2, y2], "source": …}</grounding>
with fractions of the source's width and height, or answers, <answer>…</answer>. The source is `original_image` or
`observation_1`, `observation_2` …; the crop is returned in a user turn, worded as in rollouts (`environments.dialogue`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from PIL import Image

from data_recipes.synthetic.figures import Figure
from data_recipes.synthetic.shapes.scenes import cell_name
from environments.dialogue import as_message, observed, pixels_of, shown

Margins = tuple[float, float]
"""Of a region around a sign, in multiples of the sign's side: the smallest and the largest."""
TOO_SMALL = "too small to read"


def zoom_call(thought: str, box: list[float], source: str) -> dict[str, Any]:
    """The assistant's turn that zooms into a region. box: fractions of the source."""
    call = json.dumps({"bbox_2d": box, "source": source})
    return {"role": "assistant", "content": f"<think>{thought}</think><grounding>{call}</grounding>"}


def observation(number: int, crop: Image.Image) -> dict[str, Any]:
    """The user's turn that shows observation `number` (from 1), the result of action `number - 1`."""
    return as_message(observed("grounding", number - 1, number, (crop,)))


def final_answer(thought: str, answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": f"<think>{thought}</think><answer>{answer}</answer>"}


def chain(
    rng: random.Random,
    image: Image.Image,
    name: str,
    looks: Sequence[tuple[Sequence[float], str]],
    margins: Sequence[Margins],
    box_digits: int,
) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """(turns after the question up to the last region, images of the regions).

    name: of the sign asked about. looks: boxes in pixels, one after the other, each with the thought before its zoom. margins: of one
    region, directly around the box, or of two, first of its surroundings.
    """
    turns: list[dict[str, Any]] = []
    crops: list[Image.Image] = []
    for box, thought in looks:
        seen, origin, source = image, (0, 0), "original_image"
        for number, margin in enumerate(margins, 1):
            if number == 2:
                thought = f"{name} is in the region. I zoom in further to read what is on it."
            fractions = around(rng, box, margin, origin, seen.size, box_digits)
            region = pixels_of(fractions, seen.size)
            seen, origin = seen.crop(region), (origin[0] + region[0], origin[1] + region[1])
            crops.append(shown(seen))
            turns += [zoom_call(thought, fractions, source), observation(len(crops), crops[-1])]
            source = f"observation_{len(crops)}"
    return turns, crops


def around(
    rng: random.Random,
    box: Sequence[float],
    margins: Margins,
    origin: tuple[int, int],
    size: tuple[int, int],
    box_digits: int,
) -> list[float]:
    """A region around a box, with margins in multiples of its sides, as fractions of the source that starts at `origin`."""
    side = max(box[2] - box[0], box[3] - box[1])
    x1, y1 = (box[i] - origin[i] - rng.uniform(*margins) * side for i in (0, 1))
    x2, y2 = (box[i + 2] - origin[i] + rng.uniform(*margins) * side for i in (0, 1))
    edges = (max(x1, 0) / size[0], max(y1, 0) / size[1], min(x2 / size[0], 1.0), min(y2 / size[1], 1.0))
    return [round(v, box_digits) for v in edges]


def place(sign: Figure, size: tuple[int, int], grid: int | None = None) -> str:
    """Where a sign is in the image, in words: its cell of a grid of `grid` rows and columns, or roughly."""
    if grid:
        return f"in {cell(sign, size, grid)}"
    column = ("left", "middle", "right")[min(2, int(3 * sign.x / size[0]))]
    row = ("top", "middle", "bottom")[min(2, int(3 * sign.y / size[1]))]
    if row == column == "middle":
        return "in the middle"
    if column == "middle":
        return f"in the middle of the {row}"
    return f"in the {column} middle" if row == "middle" else f"at the {row} {column}"


def cell(sign: Figure, size: tuple[int, int], grid: int) -> str:
    """The name of a sign's cell: a1 is at the top left, b1 to the right of it."""
    return cell_name(int(grid * sign.y / size[1]), int(grid * sign.x / size[0]))

"""Dialogues of visual search by zooming, in the format of Mini-o3's cold-start data: calls, observations, crops.

A turn thinks in <think>…</think> and then either zooms, <grounding>{"bbox_2d": [x1, y1, x2, y2], "source": …}</grounding>
with fractions of the source's width and height, or answers, <answer>…</answer>. The source is `original_image` or
`observation_1`, `observation_2` …; the crop is returned in a user turn (github.com/Mini-o3/Mini-o3, verl/trainer/constants.py).
"""

from __future__ import annotations

import json
import math
from typing import Any

from PIL import Image

SYSTEM = (
    "You answer a question about an image. Think inside <think> and </think>. Where something is too small to be made out,"
    ' zoom in: write <grounding>{"bbox_2d": [x1, y1, x2, y2], "source": "original_image"}</grounding> with the region\'s'
    " top left and bottom right corner, as if the image were 1.0 wide and 1.0 high. The source is 'original_image' or"
    " 'observation_i', the i-th region shown to you. When you are sure, answer inside <answer> and </answer>."
)
MIN_PIXELS, MAX_PIXELS = 40_000, 2_000_000  # of an observation as shown, as in Mini-o3


def zoom_call(thought: str, box: list[float], source: str) -> dict[str, Any]:
    """The assistant's turn that zooms into a region. box: fractions of the source."""
    call = json.dumps({"bbox_2d": box, "source": source})
    return {"role": "assistant", "content": f"<think>{thought}</think><grounding>{call}</grounding>"}


def observation(number: int) -> dict[str, Any]:
    """The user's turn that shows observation `number` (from 1), the result of action `number - 1`."""
    before = f"Action {number - 1} gave this region (Observation {number}):\n"
    after = (
        "\nGo on thinking inside <think> and </think>. You may zoom further, into the original image or any observation,"
        " with <grounding> and </grounding>, or answer inside <answer> and </answer>."
    )
    parts = [{"type": "text", "text": before}, {"type": "image"}, {"type": "text", "text": after}]
    return {"role": "user", "content": parts}


def final_answer(thought: str, answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": f"<think>{thought}</think><answer>{answer}</answer>"}


def pixels_of(box: list[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A region in whole pixels of its source: fractions times (width, height), rounded down and clipped to the image."""
    limits = (*size, *size)
    x1, y1, x2, y2 = (min(max(int(value * side), 0), side) for value, side in zip(box, limits, strict=True))
    if x1 >= x2 or y1 >= y2:
        raise ValueError(
            f"bbox_2d: expected a region of at least one pixel, got {box} of {size[0]} x {size[1]}"
        )
    return x1, y1, x2, y2


def shown(crop: Image.Image) -> Image.Image:
    """A region as shown to the model: enlarged to MIN_PIXELS or reduced to MAX_PIXELS if necessary."""
    area = crop.width * crop.height
    scale = math.sqrt(min(max(area, MIN_PIXELS), MAX_PIXELS) / area)
    if scale == 1:
        return crop
    size = (max(28, round(crop.width * scale)), max(28, round(crop.height * scale)))
    return crop.resize(size, Image.Resampling.LANCZOS)

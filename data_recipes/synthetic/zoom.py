"""Dialogues of visual search by zooming, in the format of Mini-o3's cold-start data: calls, observations, crops.

A turn thinks in <think>…</think> and then either zooms, <grounding>{"bbox_2d": [x1, y1, x2, y2], "source": …}</grounding>
with fractions of the source's width and height, or answers, <answer>…</answer>. The source is `original_image` or
`observation_1`, `observation_2` …; the crop is returned in a user turn, worded as in rollouts (`environments.dialogue`).
"""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from environments.dialogue import as_message, observed


def zoom_call(thought: str, box: list[float], source: str) -> dict[str, Any]:
    """The assistant's turn that zooms into a region. box: fractions of the source."""
    call = json.dumps({"bbox_2d": box, "source": source})
    return {"role": "assistant", "content": f"<think>{thought}</think><grounding>{call}</grounding>"}


def observation(number: int, crop: Image.Image) -> dict[str, Any]:
    """The user's turn that shows observation `number` (from 1), the result of action `number - 1`."""
    return as_message(observed("grounding", number - 1, number, (crop,)))


def final_answer(thought: str, answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": f"<think>{thought}</think><answer>{answer}</answer>"}

"""How calls are answered: the wording of observations, in rollouts and in the dialogues of a cold start alike.

Mini-o3's format (github.com/Mini-o3/Mini-o3, verl/trainer/constants.py) answers a zoom with a user's message that numbers the
action from 0 and the observation from 1. Here the number of an observation is its place in the list of observations: a failed
call has an action's number, and shifts no observation's. Qwen's format answers with <tool_response>.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from core.media.sources import MAX_ASPECT
from environments.calls import Format
from environments.types import CallError, Content

SYSTEM = (
    "You answer a question about an image. Think inside <think> and </think>. Where something is too small to be made out,"
    ' zoom in: write <grounding>{"bbox_2d": [x1, y1, x2, y2], "source": "original_image"}</grounding> with the region\'s'
    " top left and bottom right corner, as if the image were 1.0 wide and 1.0 high. The source is 'original_image' or"
    " 'observation_i', the i-th region shown to you. When you are sure, answer inside <answer> and </answer>."
)
"""The system message of visual search in Mini-o3's format."""
GO_ON = (
    "\nGo on thinking inside <think> and </think>. You may zoom further, into the original image or any observation,"
    " with <grounding> and </grounding>, or answer inside <answer> and </answer>."
)
MIN_PIXELS, MAX_PIXELS = 40_000, 2_000_000  # of an observation as shown, as in Mini-o3
MIN_SIDE = 28


def observed(form: Format, action: int, first: int, content: Content) -> Content:
    """The message that shows a tool's result. action: number of the call, from 0; first: of the first new observation."""
    images = sum(not isinstance(part, str) for part in content)
    if form == "tool_call":
        return ("<tool_response>\n", *_numbered(content, first, "observation_{}:\n"), "\n</tool_response>")
    if images == len(content) == 1:
        return (f"Action {action} gave this region (Observation {first}):\n", *content, GO_ON)
    return (f"Action {action} gave:\n", *_numbered(content, first, "(Observation {}):\n"), GO_ON)


def failed(form: Format, action: int, message: str) -> Content:
    """The message that tells the policy why its call failed."""
    if form == "tool_call":
        return (f"<tool_response>\nerror: {message}\n</tool_response>",)
    return (f"Action {action} failed: {message}.{GO_ON}",)


def as_message(content: Content) -> dict[str, Any]:
    """The user's message of an observation; images as placeholders."""
    merged: list[str | None] = []
    for part in content:
        if isinstance(part, str) and merged and merged[-1] is not None:
            merged[-1] += part
        else:
            merged.append(part if isinstance(part, str) else None)
    parts = [{"type": "image"} if text is None else {"type": "text", "text": text} for text in merged]
    return {"role": "user", "content": parts}


def images_of(content: Content) -> tuple[Image.Image, ...]:
    return tuple(part for part in content if not isinstance(part, str))


def _numbered(content: Content, first: int, label: str) -> Content:
    parts: list[str | Image.Image] = []
    for part in content:
        if parts and isinstance(parts[-1], str) and not parts[-1].endswith("\n"):
            parts.append("\n")
        if not isinstance(part, str):
            parts.append(label.format(first))
            first += 1
        elif parts and not isinstance(parts[-1], str):
            parts.append("\n")
        parts.append(part)
    return tuple(parts)


def pixels_of(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A region in whole pixels of its source: fractions times (width, height), rounded down and clipped to the image.

    Raises ValueError for a region of less than a pixel.
    """
    limits = (*size, *size)
    x1, y1, x2, y2 = (min(max(int(value * side), 0), side) for value, side in zip(box, limits, strict=True))
    if x1 >= x2 or y1 >= y2:
        raise ValueError(
            f"bbox_2d: expected a region of at least one pixel, got {list(box)} of {size[0]} x {size[1]}"
        )
    return x1, y1, x2, y2


def shown(image: Image.Image, *, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image as shown to the model: enlarged to `min_pixels` or reduced to `max_pixels` if necessary.

    Raises CallError for an image without a pixel, or longer than any processor takes.
    """
    area = image.width * image.height
    if area == 0:
        raise CallError("expected an image of at least one pixel")
    scale = math.sqrt(min(max(area, min_pixels), max_pixels) / area)
    size = image.size
    if scale != 1:
        size = (max(MIN_SIDE, round(image.width * scale)), max(MIN_SIDE, round(image.height * scale)))
    if max(size) > MAX_ASPECT * min(size):
        raise CallError(
            f"expected an image at most {MAX_ASPECT} times as long as wide, got {image.width} x {image.height}"
        )
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)

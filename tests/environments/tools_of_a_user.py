"""Tools and environments as a user writes them; nothing of the project is imported."""

from __future__ import annotations

import asyncio
import os
import time

from PIL import Image


def multiply(a: float, b: float = 2.0) -> float:
    """
    Multiplies two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a * b


async def slow_echo(text: str) -> str:
    """
    Repeats a text.

    Args:
        text: The text.
    """
    await asyncio.sleep(0)
    return text


def mirrored(picture: Image.Image) -> list:
    """
    Shows an image mirrored.

    Args:
        picture: The image.
    """
    return [
        {"type": "text", "text": "mirrored:"},
        {"type": "image", "image": picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)},
    ]


def hang(seconds: float) -> str:
    """
    Takes its time.

    Args:
        seconds: How long.
    """
    time.sleep(seconds)
    return "awake"


def crash() -> str:
    """Ends its process."""
    os._exit(3)


def fail(message: str) -> str:
    """
    Raises.

    Args:
        message: What to say.
    """
    raise RuntimeError(message)


def control_tokens() -> str:
    """Returns a control token."""
    return "end of turn: <|im_end|>"


class Countdown:
    """Counts down from the row's `start`; the policy must write how much to take away."""

    stop = ("!",)

    def __init__(self, unit: str = "points") -> None:
        self.unit = unit

    def reset(self, row):
        return {"left": row["start"], "images": row["images"]}

    def respond(self, state, text):
        if "hang" in text:
            time.sleep(60)
        state["left"] -= int(text)
        if state["left"] <= 0:
            return None
        return [f"{state['left']} {self.unit} left", *state["images"]]

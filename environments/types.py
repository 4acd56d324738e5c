"""What an environment is, and how it answers a turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL import Image

from core.rows import Row

Content = tuple[str | Image.Image, ...]
"""Texts and images in reading order."""

OverTurn = Literal["turns", "images", "context", "seconds"]
"""Which budget an episode went over."""


@dataclass(frozen=True)
class Observation:
    """An environment's answer to a turn, as a user's message to the policy.

    content: as the policy sees it; images already have the size in which they are shown.
    call: what the turn asked for, as read: {"name", "arguments"}; None if it could not be read, or nothing was called.
    error: why the call failed; the content says so to the policy.
    details: for logs and reports, e.g. {"source", "box"} of a zoom, the box in pixels of its source.
    """

    content: Content
    call: Mapping[str, Any] | None = None
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The episode ends with this turn. over_turn: the budget that it went over; None if the policy has finished."""

    over_turn: OverTurn | None = None


class Environment(Protocol):
    """Answers the turns of many episodes at once, from several threads; what belongs to one episode is its state."""

    stop: tuple[str, ...]
    """Texts that end a turn, as a call's closing tag does; the end token always does."""

    def reset(self, row: Row) -> Any:
        """The state of a new episode. row: with `images` decoded, in full resolution (PIL)."""
        ...

    def respond(self, state: Any, text: str) -> Observation | Done:
        """The answer to a turn. text: what the policy wrote in it. May change the state. Never raises for what is written."""
        ...

    def close(self) -> None: ...

    # optional: `outcome(state) -> Any`, what came of an episode that has ended, a JSON value for the rewards


class CallError(Exception):
    """A call that cannot be carried out; the message is shown to the policy. late: it exceeded its time limit."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late

"""What a reward model is asked, and what it answers; light to import."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import UserError
from core.rows import Row


@dataclass(frozen=True)
class Question:
    """A response and the row (prompt, images, videos) that it answers."""

    row: Row
    response: str


class ResponseError(UserError, ValueError):
    """A response outside a reward model's template. `rule` names what is wrong with it, in one word."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


Verdict = float | ResponseError
"""A score, or why the response was not shown to the model."""

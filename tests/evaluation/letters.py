"""A reward that even a random model earns: the share of letters in what it wrote."""

from __future__ import annotations

from typing import Any


def share_of_letters(completion: str, **row: Any) -> float | None:
    """In [0, 1]; None for an empty text, which has no share."""
    return sum(map(str.isalpha, completion)) / len(completion) if completion else None

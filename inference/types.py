"""Data types of search at inference time: the chosen answer, and the selector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.rows import Row
from engines.rollout import Rollout

Selector = Callable[[Row, str, Sequence[Rollout]], int]
"""`select(row, prefix, candidates) -> index of the best candidate`.

prefix: text of the answer so far, the same for all candidates (empty for whole answers). candidates: at least one; their
`text`, `completion_ids` and `logprobs` are of what follows the prefix. Anything that compares fits: a formula, a reward
model, a model that is asked which one is better.
"""


@dataclass(frozen=True)
class Answer:
    """One row's answer, chosen among several.

    rollout: the answer as one completion of the row's prompt, token for token as sampled.
    generated: tokens that the engine generated for it, those of the losing candidates included.
    chosen: index of the winner among its candidates, at each choice that was made.
    """

    rollout: Rollout
    generated: int
    chosen: tuple[int, ...]


def choose(select: Selector, row: Row, prefix: str, candidates: Sequence[Rollout]) -> int:
    """The selector's index; a lone candidate needs no choice. ValueError if it is none of the candidates'."""
    if len(candidates) == 1:
        return 0
    index = select(row, prefix, candidates)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(candidates):
        raise ValueError(
            f"row {row['id']!r}: expected a selector's index from 0 to {len(candidates) - 1}, got {index!r}"
        )
    return index

"""Micro-batches filled up to a budget of tokens, largest first, from lengths alone."""

from __future__ import annotations

from collections.abc import Sequence

Part = tuple[int, list[int]]
"""Number of a group, and the numbers of those of its continuations that are computed together."""


def fill(groups: Sequence[tuple[int, Sequence[int]]], max_tokens: int) -> list[list[Part]]:
    """Micro-batches of at most `max_tokens` tokens, the largest first.

    groups: length of a prefix in tokens, and those of the continuations that share it (none: the prefix is all there is).
    A group that exceeds the budget is split, and each part repeats the prefix. A single sequence longer than the budget
    is a micro-batch by itself: it cannot be split.

    Raises ValueError if `max_tokens` is not positive.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be positive, got {max_tokens}")
    parts: list[Part] = []
    for number, (prefix, lengths) in enumerate(groups):
        parts += [(number, members) for members in largest_first(lengths, max_tokens - prefix) or [[]]]
    sizes = [groups[g][0] + sum(groups[g][1][i] for i in members) for g, members in parts]
    batches = [[parts[i] for i in batch] for batch in largest_first(sizes, max_tokens)]
    return batches


def largest_first(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Indices of `sizes` in bins of at most `room` (first-fit decreasing); what is larger gets a bin of its own."""
    bins: list[list[int]] = []
    free: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        place = next((b for b, left in enumerate(free) if sizes[i] <= left), None)
        if place is None:
            bins.append([i])
            free.append(room - sizes[i])
        else:
            bins[place].append(i)
            free[place] -= sizes[i]
    return bins

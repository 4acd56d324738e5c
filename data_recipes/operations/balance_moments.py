"""Balance of where in their videos events lie and how long they are, so that a model cannot learn the answer from the question.

In real sets many moments begin at the video's start, and most have a common length: a policy that always answers so does well there
(Otani et al. 2020, arXiv 2009.00325). Rows are counted in cells of relative start and relative length, and the full cells are cut down
to one height, by chances drawn from id and seed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from pydantic import Field, field_validator

from core.rows import Row
from data_recipes.checks.probes import part_shown
from data_recipes.operations.balance import Signatures, thinned
from data_recipes.records import Context, Decision, Options, SetOperation
from rewards.functions.temporal import gold_spans


class BalanceMoments(Options):
    """Rows about moments in videos thinned so that starts and lengths of the moments, relative to the video, spread evenly."""

    tasks: tuple[str, ...] = ("temporal",)
    """Rows of other tasks stay, and so do rows whose answer has no spans."""
    starts: int = Field(10, ge=1, le=1000)
    """Equal bins of the start, from 0 (the video's beginning) to 1."""
    lengths: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """Edges between the bins of the length, as shares of the video."""
    keep: float = Field(0.5, gt=0, le=1)
    """Share of the rows that stays at least: the height of the cells is the lowest one that leaves so many. 1 removes nothing; the
    smaller, the flatter."""

    @field_validator("lengths")
    @classmethod
    def _rising(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if not all(a < b for a, b in pairwise((0.0, *edges, 1.0))):
            raise ValueError(f"expected edges that rise between 0 and 1, got {', '.join(map(str, edges))}")
        return edges


def sign(row: Row, options: BalanceMoments) -> Mapping[str, Any]:
    """The cell of the row's moment: of several spans, the first one's start and the length of all of them together."""
    answer = row.get("answer") or {}
    if row["task"] not in options.tasks or not (answer.get("spans") or answer.get("span")):
        return {}
    spans = gold_spans(answer)
    duration = _duration(row, answer)
    start, length = min(s for s, _ in spans) / duration, sum(e - s for s, e in spans) / duration
    first = min(int(start * options.starts), options.starts - 1)
    edges = (0.0, *options.lengths, 1.0)
    number = min(bisect_right(edges, length), len(edges) - 1)
    return {
        "start": f"start {first / options.starts:.3g} to {(first + 1) / options.starts:.3g}",
        "length": f"length {edges[number - 1]:g} to {edges[number]:g}",
    }


def _duration(row: Row, answer: Mapping[str, Any]) -> float:
    """Seconds of the video that the spans lie in: the row's column, or its file's length."""
    stated = row.get("duration")
    if isinstance(stated, int | float) and not isinstance(stated, bool) and stated > 0:
        return float(stated)
    videos, index = row.get("videos") or [], int(answer.get("video") or 0)
    if not 0 <= index < len(videos):
        raise ValueError("expected a column 'duration' or the video that the spans lie in, got neither")
    start, end = part_shown(videos[index])
    return end - start


def decide(signatures: Signatures, options: BalanceMoments, context: Context) -> Iterator[Decision]:
    """Rows beyond their cell's height leave. Counts of every bin, before and after, are for the card."""

    def cells() -> Iterator[Any]:
        for signature in signatures():
            data = signature.data
            cell = f"{data['start']}, {data['length']}" if data else None
            yield type(signature)(signature.id, signature.task, signature.source, {"value": cell})

    def keep(counts: Mapping[str, int]) -> Mapping[str, int]:
        most = height(list(counts.values()), options.keep)
        stay = {cell: min(n, most) for cell, n in counts.items()}
        context.counts["rows_per_cell_at_most"] = most
        for when, numbers in (("before", counts), ("after", stay)):
            for cell, n in numbers.items():
                for side in cell.split(", "):
                    context.counts[f"{side}: {when}"] += n
        return stay

    yield from thinned(cells, "moment", keep, context.seed)


def height(sizes: list[int], keep: float) -> int:
    """The lowest height to which cells of these sizes can be cut so that at least the share `keep` of all rows stays."""
    wanted, left, below = keep * sum(sizes), len(sizes), 0
    for size in sorted(sizes):
        if below + left * size >= wanted:
            return max(1, -int(-(wanted - below) // left))  # rounded up
        below, left = below + size, left - 1
    return max(sizes, default=0)


OPERATIONS = {"balance_moments": SetOperation(sign, decide, BalanceMoments)}

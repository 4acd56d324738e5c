"""How many rows of each source and task go into the output, and which.

A group is a pair (source, task). Its share is n^(1/temperature) times its weights; caps bound tasks; what a group cannot
give goes to the others in proportion. Inside a group the rows with the smallest hash of seed and id are taken, so the
choice depends neither on their order nor on who reads them, and a larger output contains a smaller one's rows.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from data_recipes.chance import uniform
from data_recipes.config import Mixture
from data_recipes.verdicts import Signed, Verdict

Group = tuple[str, str]
K = TypeVar("K")


def quotas(sizes: Mapping[Group, int], mixture: Mixture) -> dict[Group, int]:
    """Rows to take of each group of the given size, at most size x max_repeats."""
    weights = {group: _weight(group, size, mixture) for group, size in sizes.items()}
    limits = _capped({g: sizes[g] * mixture.max_repeats * bool(weights[g]) for g in sizes}, weights, mixture)
    if mixture.rows is not None:
        return water_fill(mixture.rows, weights, limits)
    wanted = [group for group in sizes if weights[group]]
    scale = min((sizes[group] / weights[group] for group in wanted), default=0.0)
    shares = {group: min(limits[group], sizes[group], round(scale * weights[group])) for group in wanted}
    return {group: shares.get(group, 0) for group in sizes}


def water_fill(total: int, weights: Mapping[K, float], limits: Mapping[K, int]) -> dict[K, int]:
    """Whole numbers in proportion to the weights, none above its limit, that add up to `total` (or to all the limits).

    What does not fit under a limit is shared out again among the others; fractions go to the largest remainders.
    """
    largest = max(weights.values(), default=0.0)
    weights = {
        key: weight / largest if largest else 0.0 for key, weight in weights.items()
    }  # no quotient overflows
    total = min(total, sum(limits[key] for key in weights if weights[key] > 0))
    full: dict[K, int] = {}
    while True:
        open_keys = [key for key in weights if weights[key] > 0 and key not in full]
        left = total - sum(full.values())
        share = left / sum(weights[key] for key in open_keys) if open_keys else 0.0
        over = [key for key in open_keys if share * weights[key] >= limits[key]]
        if not over:
            break
        full |= {key: limits[key] for key in over}
    exact = {key: share * weights[key] for key in open_keys}
    given = full | {key: math.floor(value) for key, value in exact.items()}
    by_remainder = sorted(open_keys, key=lambda key: (given[key] - exact[key], str(key)))
    for key in by_remainder[: total - sum(given.values())]:
        given[key] += 1
    return {key: given.get(key, 0) for key in weights}


def allot(
    signed: Callable[[], Iterator[Signed]], mixture: Mixture, seed: int, scratch: Path
) -> Iterator[tuple[tuple[int, int, int], Verdict]]:
    """Verdicts on rows that are left out or repeated; `scratch` is a file for the order of the rows, removed after."""
    sizes = Counter(_group(s) for s in signed())
    wanted = quotas(sizes, mixture)
    partial = {group for group in sizes if wanted[group] != sizes[group]}
    if not partial:
        return
    scratch.unlink(missing_ok=True)
    connection = sqlite3.connect(scratch)
    connection.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8000;"
    )
    connection.execute("CREATE TABLE rows (source TEXT, task TEXT, chance REAL, s INT, r INT, j INT)")
    connection.executemany(
        "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)",
        ((*_group(s), uniform(seed, s.signature.id), *s.position) for s in signed() if _group(s) in partial),
    )
    connection.execute("CREATE INDEX by_chance ON rows (source, task, chance, s, r, j)")
    for group in sorted(partial):
        each, more = divmod(wanted[group], sizes[group])
        reason = f"{wanted[group]} of the {sizes[group]} rows of {group[0]}, {group[1]}"
        ordered = connection.execute(
            "SELECT s, r, j FROM rows WHERE source = ? AND task = ? ORDER BY chance, s, r, j", group
        )
        for nth, position in enumerate(ordered):
            copies = each + (nth < more)
            if copies != 1:
                yield position, Verdict(copies, "mixture", ("mixture", reason, None))
    connection.close()
    scratch.unlink()


def _group(signed: Signed) -> Group:
    return signed.signature.source, signed.signature.task


def _weight(group: Group, size: int, mixture: Mixture) -> float:
    source, task = group
    weights = mixture.weights
    return size ** (1 / mixture.temperature) * weights.source.get(source, 1.0) * weights.task.get(task, 1.0)


def _capped(limits: dict[Group, int], weights: Mapping[Group, float], mixture: Mixture) -> dict[Group, int]:
    """The limits with every cap shared out among the groups of its task."""
    by_task: dict[str, list[Group]] = defaultdict(list)
    for group in limits:
        by_task[group[1]].append(group)
    for task, cap in mixture.caps.items():
        groups = by_task.get(task, [])
        limits |= water_fill(cap, {g: weights[g] for g in groups}, {g: limits[g] for g in groups})
    return limits

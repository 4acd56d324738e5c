"""Which rows a step trains on, and which of them each process takes: decided by seed, epoch and step alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch


class Order:
    """The rows of every step of a run.

    Each epoch is a seeded permutation, cut into steps of `rows_per_step`; its last step takes what is left. Rows with
    the same key stay together, in runs of at most `together`, so that a step can compute what they share once.

    keys: of each row, what it is about; None for a row that shares nothing.
    """

    def __init__(self, keys: Sequence[Hashable | None], rows_per_step: int, seed: int, together: int) -> None:
        self.rows, self.rows_per_step, self.seed, self.together = len(keys), rows_per_step, seed, together
        by_key: dict[Hashable, list[int]] = {}
        for row, key in enumerate(keys):
            by_key.setdefault(("alone", row) if key is None else ("shared", key), []).append(row)
        self._groups = list(by_key.values())
        self._epoch = -1
        self._order: list[int] = []

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.rows_per_step)

    def step(self, number: int) -> list[int]:
        """Indices of the rows of a step (from 0)."""
        epoch, place = divmod(number, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.epoch(epoch)
        return self._order[place * self.rows_per_step : (place + 1) * self.rows_per_step]

    def epoch(self, epoch: int) -> list[int]:
        """All rows once, in the order of an epoch (from 0)."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        runs: list[list[int]] = []
        for group in self._groups:
            if len(group) > 1:
                group = [group[i] for i in torch.randperm(len(group), generator=generator).tolist()]
            runs += [group[i : i + self.together] for i in range(0, len(group), self.together)]
        return [row for run in torch.randperm(len(runs), generator=generator).tolist() for row in runs[run]]


def share(rows: Sequence[int], lengths: Sequence[int], rank: int, ranks: int) -> list[int]:
    """This process's part of a step's rows: consecutive ones, of about equally many tokens for every process. Each row is in
    exactly one part; where there are fewer rows than processes, some parts are empty.

    lengths: tokens of every row of the data set.
    """
    total = sum(lengths[row] for row in rows)
    mine, before = [], 0
    for row in rows:
        middle = before + lengths[row] / 2
        if min(int(middle * ranks / total), ranks - 1) == rank:
            mine.append(row)
        before += lengths[row]
    return mine


def share_of_step(
    rows_of: Callable[[int], Sequence[int]], lengths: Sequence[int], step: int, *, rank: int, ranks: int
) -> list[int]:
    """`share` of the rows of a step."""
    return share(rows_of(step), lengths, rank, ranks)


def consecutive(first: int, end: int, size: int, number: int) -> range:
    """Batch `number` (from 0) of the indices `first` to `end` - 1, `size` at a time."""
    return range(first, end)[number * size : (number + 1) * size]

"""Choice of prompts: dynamic sampling, until the batch is full of groups with a signal, and the easy pool.

Nothing here generates or scores. One step:

    while sampler.wanted:
        rows = sampler.next_rows()                       # sampled now, all by the current policy
        … generate G rollouts each, score them …
        sampler.accept([result_of(rewards) for …])       # had a signal, was solved, or neither
    batch = sampler.finish()                             # which groups make the batch

Dynamic sampling (DAPO, arXiv 2503.14476, §3.2; MiMo-7B, arXiv 2505.07608, §3.3): prompts whose rewards are all equal
teach nothing, so others are sampled in their place, until the batch is full or `max_resampling` rounds are over.
Everything stays on-policy: the weights do not change within a step, and what a step does not use is thrown away, never
kept for the next.

First in, first out: groups enter the batch in the order in which their prompts were drawn, not in the order in which
they finish, and a round is used only when all of it is done. Taking the first to finish would favour short answers.

Easy pool (MiMo-7B, §3.3): prompts that every rollout solved leave the ordinary stream for a pool; with probability
`alpha` (0.1) a draw comes from the pool instead, so that what was learned is not forgotten. A pool prompt that is no
longer always solved returns to the ordinary stream.

A draw takes constant time whatever the sizes of rows and pool; a step's results, and a new pass, cost one look over a mask
of all rows (under a millisecond, and some 20 ms, at 500,000 rows).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.rows import Row, RowError
from rl.prompts.stream import PromptStream, TaskStreams, packed, unpacked

POOL_TRIES = 64  # picks from the pool before those that the step has already are sorted out

GroupResult = Literal["signal", "solved", "zero_signal"]
"""Of one group: rewards differ; all rewards are the highest possible; all equal otherwise (or unscored)."""


@dataclass(frozen=True)
class Batch:
    """Result of one step's sampling.

    kept: positions, in the order of drawing over all rounds of the step, of the groups with signal that
        make the batch, first in, first out. rounds: times prompts were drawn.
    drawn, solved, zero_signal: numbers of prompts; surplus: groups with signal that no longer fitted.
    """

    kept: tuple[int, ...]
    rounds: int
    drawn: int
    solved: int
    zero_signal: int
    surplus: int


def result_of(rewards: Sequence[float | None], *, solved_at: float = 1.0) -> GroupResult:
    """Result of a group from its rewards; `solved_at` is the reward of a right answer."""
    scored = [r for r in rewards if r is not None]
    if len(set(scored)) > 1:
        return "signal"
    return "solved" if len(scored) == len(rewards) and scored and scored[0] >= solved_at else "zero_signal"


class PromptSampler:
    """Draws prompts for steps of `batch_size` groups with signal.

    dynamic: False: each step draws `batch_size` prompts once, whatever their rewards.
    max_resampling: rounds of drawing beyond the first.
    multiple_of: every round draws a multiple of this number of prompts (of processes, so that each gets as many).
    alpha: probability that a draw comes from the easy pool; 0 switches the pool off (solved prompts then stay in the
        ordinary stream).
    one_task: every step draws its prompts from one task, tasks in turn at random by their numbers of rows (task-homogeneous
        steps).
    seed: of every choice; the same on all processes, so that all draw the same prompts and can share out the work.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        batch_size: int,
        *,
        dynamic: bool = False,
        max_resampling: int = 3,
        multiple_of: int = 1,
        alpha: float = 0.1,
        one_task: bool = False,
        seed: int = 0,
    ):
        if batch_size < 1 or batch_size % multiple_of or max_resampling < 0 or not 0 <= alpha < 1:
            raise ValueError(
                f"expected batch_size >= 1 and a multiple of {multiple_of}, max_resampling >= 0 and 0 <= alpha < 1,"
                f" got {batch_size}, {max_resampling}, {alpha}"
            )
        self.stream: PromptStream | TaskStreams = (
            TaskStreams([row["task"] for row in rows], seed) if one_task else PromptStream(len(rows), seed)
        )
        self.batch_size = batch_size
        self.dynamic = dynamic
        self.max_resampling = max_resampling
        self.multiple_of = multiple_of
        self.alpha = alpha
        self._rows = rows
        self._seed = seed
        self._choices = 0  # random choices made so far: with the seed, the state of the random numbers
        self._easy = np.zeros(len(rows), bool)  # by row: solved
        self._left_out = np.zeros(len(rows), bool)  # by row: unusable
        self._pool: np.ndarray | None = None  # rows that are solved, in order; None: to be looked up
        self._drawn: list[int] = []  # rows of this step, in order
        self._taken: set[int] = set()  # the same; emptied where the step has every row, to begin again
        self._results: list[GroupResult] = []
        self._rounds = 0

    @property
    def easy(self) -> tuple[str, ...]:
        """Ids of the prompts in the easy pool."""
        return tuple(self._rows[i]["id"] for i in np.flatnonzero(self._easy))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of the prompts that turned out to be unusable."""
        return tuple(self._rows[i]["id"] for i in np.flatnonzero(self._left_out))

    @property
    def usable_rows(self) -> list[Row]:
        """Rows that have not been left out."""
        return [self._rows[i] for i in np.flatnonzero(~self._left_out)]

    @property
    def row_count(self) -> int:
        """All rows, usable or not."""
        return len(self._rows)

    @property
    def left_out_count(self) -> int:
        """Prompts that turned out to be unusable."""
        return int(np.count_nonzero(self._left_out))

    @property
    def easy_count(self) -> int:
        """Prompts in the easy pool."""
        return int(np.count_nonzero(self._easy))

    @property
    def wanted(self) -> int:
        """Prompts to draw now: what the batch still lacks, 0 when it is full or the rounds are over."""
        if len(self._results) < len(self._drawn):
            raise RuntimeError(f"{len(self._drawn) - len(self._results)} drawn prompts have no result yet")
        if self._rounds == 0:
            return self.batch_size
        missing = self.batch_size - self._results.count("signal")
        if not self.dynamic or self._rounds > self.max_resampling or missing <= 0:
            return 0
        # as many as the share with signal so far suggests, at most a whole batch: few rounds, little waste
        share = max(self._results.count("signal"), 1) / len(self._results)
        wanted = min(self.batch_size, math.ceil(missing / share))
        return -(-wanted // self.multiple_of) * self.multiple_of

    def next_rows(self) -> list[Row]:
        """The next `wanted` prompts; none twice in a step while there are others."""
        wanted = self.wanted
        if not wanted:
            raise RuntimeError("the batch is full, or its rounds are over: call finish()")
        if self._rounds == 0 and isinstance(self.stream, TaskStreams):
            self.stream.choose(~self._left_out, self._next_random())
            self._pool = None
        for _ in range(wanted):
            self._drawn.append(self._draw())
            self._taken.add(self._drawn[-1])
        self._rounds += 1
        return self._round()

    def leave_out(self, ids: Collection[str]) -> None:
        """Leave out prompts for good, between steps."""
        if ids:
            self._leave_out([i for i, row in enumerate(self._rows) if row["id"] in ids])

    def _leave_out(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._set_easy(row, False)
            self._left_out[row] = True
            self.stream.exclude(row)
        if self._left_out.all():
            raise RowError("every row has turned out to be unusable")

    def replace(self, ids: Collection[str]) -> list[Row]:
        """Leave out prompts of the current round for good, and draw others in their place; returns the whole round, the other
        prompts unchanged."""
        first = len(self._results)
        unusable = [k for k in range(first, len(self._drawn)) if self._rows[self._drawn[k]]["id"] in ids]
        self._leave_out([self._drawn[k] for k in unusable])
        for k in unusable:
            self._drawn[k] = self._draw()
            self._taken.add(self._drawn[k])
        return self._round()

    def _round(self) -> list[Row]:
        return [self._rows[i] for i in self._drawn[len(self._results) :]]

    def accept(self, results: Sequence[GroupResult]) -> None:
        """Results of the prompts of the last `next_rows`, in its order."""
        expected = len(self._drawn) - len(self._results)
        if len(results) != expected:
            raise ValueError(f"expected {expected} results, one for each drawn prompt, got {len(results)}")
        for row, result in zip(self._drawn[len(self._results) :], results, strict=True):
            if self.alpha:
                self._set_easy(row, result == "solved")
        self._results += results

    def finish(self) -> Batch:
        """End the step. Groups that are not kept are discarded: the next step has another policy."""
        with_signal = [i for i, result in enumerate(self._results) if result == "signal"]
        batch = Batch(
            kept=tuple(with_signal[: self.batch_size]),
            rounds=self._rounds,
            drawn=len(self._drawn),
            solved=self._results.count("solved"),
            zero_signal=self._results.count("zero_signal"),
            surplus=max(0, len(with_signal) - self.batch_size),
        )
        self._drawn, self._taken, self._results, self._rounds = [], set(), [], 0
        self.stream.rewind()
        return batch

    def _set_easy(self, row: int, easy: bool) -> None:
        if self._easy[row] != easy:
            self._easy[row] = easy
            self.stream.exclude(row, easy)
            self._pool = None

    def _draw(self) -> int:
        """The next row: from the pool with probability alpha, else from the stream. A row is drawn twice in a step only if the
        step has all rows."""
        if (
            self.alpha
            and self._next_random().random() < self.alpha
            and (row := self._from_pool()) is not None
        ):
            return row
        if (row := self._first_of_stream_and_pool()) is None:
            self._taken.clear()
            self.stream.rewind()
            row = self._first_of_stream_and_pool()
        if row is None:  # some row is usable, and none is taken: but all of the step's task may have gone
            raise RowError("every row of the step's task has turned out to be unusable")
        return row

    def _first_of_stream_and_pool(self) -> int | None:
        row = self.stream.take(self._taken)
        return self._from_pool() if row is None else row

    def _from_pool(self) -> int | None:
        """A solved row that the step does not have yet, each with equal probability."""
        if self._pool is None:
            of_step = (
                self.stream.task_of == self.stream.task if isinstance(self.stream, TaskStreams) else True
            )
            self._pool = np.flatnonzero(self._easy & of_step)
        if not len(self._pool):
            return None
        random = self._next_random()
        for _ in range(POOL_TRIES):
            row = int(self._pool[random.integers(len(self._pool))])
            if row not in self._taken:
                return row
        # most of the pool is taken: it is not much larger than a step
        fresh = [int(row) for row in self._pool if int(row) not in self._taken]
        return fresh[int(random.integers(len(fresh)))] if fresh else None

    def _next_random(self) -> np.random.Generator:
        self._choices += 1
        return np.random.default_rng([self._seed, 1, self._choices])

    def state_dict(self) -> dict[str, Any]:
        """Between steps; numbers and compressed bits, for JSON: at most 200 KB at 500,000 rows."""
        if self._drawn:
            raise RuntimeError("save between steps: call finish() first")
        masks = {"easy": packed(self._easy), "left_out": packed(self._left_out)}
        return {"rows": len(self._rows), "choices": self._choices, "stream": self.stream.state_dict()} | masks

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`, for the same rows in the same order. ValueError for another number of rows."""
        if state["rows"] != len(self._rows):
            raise ValueError(f"the sampler's state is of {state['rows']} rows, expected {len(self._rows)}")
        self._choices, self._pool = state["choices"], None
        self._easy = unpacked(state["easy"], len(self._rows))
        self._left_out = unpacked(state["left_out"], len(self._rows))
        self.stream.load_state_dict(state["stream"], self._easy | self._left_out)

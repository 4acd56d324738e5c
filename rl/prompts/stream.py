"""The order of prompts: passes over the rows, each in a random order that depends on the seed alone."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class PromptStream:
    """Endless passes over row numbers 0 to size - 1; a pass gives each row that is not excluded once, in random order.

    A draw takes constant time, however many rows are excluded; only the beginning of a pass costs a permutation. The
    state is a few numbers and one bit for each row.
    """

    def __init__(self, size: int, seed: int):
        if size < 1:
            raise ValueError("there is no row to draw prompts from")
        self._size, self._seed = size, seed
        self._excluded = np.zeros(size, bool)  # by row
        self._begin(0)
        self.rewind()

    def _begin(self, number: int) -> None:
        """Start pass `number`."""
        self._number = number
        self._order = np.random.default_rng([self._seed, number]).permutation(self._size)
        self._place = np.empty_like(self._order)  # of each row in the order
        self._place[self._order] = np.arange(self._size)
        self._visited = np.zeros(self._size, bool)  # by place, as `_open`
        self._open = ~self._excluded[self._order]  # neither visited nor excluded
        self._left = int(np.count_nonzero(self._open))
        self._cursor = 0

    def rewind(self) -> None:
        """Consider rows again that were skipped because they were taken."""
        self._cursor, self._began = 0, False

    def take(self, taken: Container[int]) -> int | None:
        """The next row that is not in `taken`, which only grows until `rewind`; None if there is none.

        A pass that is over is followed by the next one, once between two rewinds: after that every row is taken.
        """
        row = self._next(taken)
        if row is None and not self._left and not self._began and not self._excluded.all():
            self._begin(self._number + 1)
            self._began = True
            row = self._next(taken)
        return row

    def _next(self, taken: Container[int]) -> int | None:
        while self._cursor < self._size:
            place = self._cursor + int(self._open[self._cursor :].argmax())
            if not self._open[place]:
                self._cursor = self._size
                return None
            self._cursor = place + 1
            row = int(self._order[place])
            if row not in taken:
                self._visited[place], self._open[place] = True, False
                self._left -= 1
                return row
        return None

    def exclude(self, row: int, excluded: bool = True) -> None:
        """Leave a row out of this pass and the following ones, or take it in again (if this pass has not visited it)."""
        place = self._place[row]
        was_open = bool(self._open[place])
        self._excluded[row] = excluded
        self._open[place] = not excluded and not self._visited[place]
        self._left += int(self._open[place]) - was_open

    def state_dict(self) -> dict[str, Any]:
        """For JSON; the excluded rows are the caller's."""
        return {"pass": self._number, "visited": packed(self._visited)}

    def load_state_dict(self, state: dict[str, Any], excluded: np.ndarray) -> None:
        """Restore the state of `state_dict`. excluded: (size,) bool by row."""
        self._excluded = excluded.copy()
        self._begin(state["pass"])
        self._visited = unpacked(state["visited"], self._size)
        self._open &= ~self._visited
        self._left = int(np.count_nonzero(self._open))
        self.rewind()


class TaskStreams:
    """As `PromptStream`, with passes of its own for each task; a draw comes from the task that was chosen last.

    tasks: of each row.
    """

    def __init__(self, tasks: Sequence[str], seed: int):
        numbers = {task: number for number, task in enumerate(dict.fromkeys(tasks))}
        self.task_of = np.array([numbers[task] for task in tasks])
        self._rows = [np.flatnonzero(self.task_of == number) for number in range(len(numbers))]
        self._place = np.empty(len(tasks), int)  # of each row in its task
        for of_task in self._rows:
            self._place[of_task] = np.arange(len(of_task))
        self._streams = [PromptStream(len(rows), seed + number) for number, rows in enumerate(self._rows)]
        self.task = 0

    def choose(self, usable: np.ndarray, random: np.random.Generator) -> None:
        """Draw the task that follows, each with the probability of its share of the usable rows, so that in the long run all
        rows are drawn equally often. usable: (size,) bool by row, not all of them False."""
        counts = np.bincount(self.task_of[usable], minlength=len(self._rows))
        self.task = int(random.choice(len(counts), p=counts / counts.sum()))

    def rewind(self) -> None:
        for stream in self._streams:
            stream.rewind()

    def take(self, taken: Container[int]) -> int | None:
        rows = self._rows[self.task]
        place = self._streams[self.task].take(_Taken(taken, rows))
        return None if place is None else int(rows[place])

    def exclude(self, row: int, excluded: bool = True) -> None:
        self._streams[self.task_of[row]].exclude(int(self._place[row]), excluded)

    def state_dict(self) -> dict[str, Any]:
        return {"tasks": [stream.state_dict() for stream in self._streams]}

    def load_state_dict(self, state: dict[str, Any], excluded: np.ndarray) -> None:
        for stream, one, rows in zip(self._streams, state["tasks"], self._rows, strict=True):
            stream.load_state_dict(one, excluded[rows])


@dataclass(frozen=True)
class _Taken:
    """Which places of a task's rows are taken."""

    taken: Container[int]
    rows: np.ndarray

    def __contains__(self, place: object) -> bool:
        return isinstance(place, int) and int(self.rows[place]) in self.taken


def packed(mask: np.ndarray) -> str:
    """A mask as text: compressed bits."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def unpacked(text: str, size: int) -> np.ndarray:
    """Inverse of `packed`. ValueError if the mask was of another size."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    if len(bits) != -(-size // 8):
        raise ValueError(f"the sampler's state is of about {8 * len(bits)} rows, expected {size}")
    return np.unpackbits(bits, count=size).astype(bool)

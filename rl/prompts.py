"""Which prompts come next: every row once per pass, in an order that follows from the seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm.rows import Row


class PromptStream:
    """Endless passes over the rows, each shuffled anew. Where it stands is one number, `drawn`, so a resumed run goes
    on exactly where it stopped."""

    def __init__(self, rows: Sequence[Row], seed: int):
        if not rows:
            raise ValueError("there is no row to draw prompts from")
        self._rows, self._seed = rows, seed
        self.drawn = 0

    def take(self, count: int) -> list[Row]:
        """The next `count` rows. They are all different if there are so many; then a pass may end early."""
        rows = len(self._rows)
        if count <= rows and self.drawn // rows != (self.drawn + count - 1) // rows:
            self.drawn = (
                -(-self.drawn // rows) * rows
            )  # no prompt twice in one step: its rollouts would be one group
        picked = [self._at(self.drawn + i) for i in range(count)]
        self.drawn += count
        return picked

    def _at(self, position: int) -> Row:
        epoch, index = divmod(position, len(self._rows))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._rows))
        return self._rows[int(order[index])]

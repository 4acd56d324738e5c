"""math-verify in killable worker processes, with a limit of processor time per comparison.

Why not in process: signal-based time-outs fail off the main thread (every score silently 0, verl PR 5635), and without a limit
one answer can hang a run. Processor time, not elapsed time, so that the result does not depend on how busy the machine is.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import Any

from rewards.serving.items import Failure, Item, Limits, Outcome
from rewards.serving.pool import Pool
from rewards.serving.signatures import Signature
from rewards.serving.worker import Spec

FUNCTION = "rewards.mathematics.verify:Verify"
START_TIMEOUT_S = 120.0  # 0.5 s usually
_SIGNATURE = Signature("sample", columns=("answer",), required=("answer",))


class MathPool:
    """Up to `workers` processes (half the cores, at most 8, unless given), started when first needed. Thread-safe.

    seconds: limit of processor time per comparison. recycle_after: comparisons after which a worker is replaced, because
    sympy's caches grow.
    """

    def __init__(
        self, workers: int | None = None, seconds: float = 3.0, recycle_after: int | None = 2000
    ) -> None:
        if seconds <= 0:
            raise ValueError(f"math pool: expected a positive number of seconds, got {seconds}")
        self._workers = workers or max(1, min(8, (os.cpu_count() or 2) // 2))
        self._limits = Limits(seconds, clock="cpu")
        self._spec = Spec(FUNCTION, recycle_after=recycle_after)
        self._open()

    def _open(self) -> None:
        self.pool = Pool(self._workers, START_TIMEOUT_S)
        self._key = self.pool.add(self._spec)

    def compare(self, gold: str, predicted: str) -> Outcome:
        """Is `predicted` equal to `gold`? See `compare_many`. Pass "" to learn only whether the gold can be parsed."""
        return self.compare_many([(gold, predicted)])[0]

    def compare_many(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """Compare (gold, predicted) pairs on all workers at once, in order.

        The value of an outcome is 1 (equal) or 0, its extra `gold_parses` says whether the gold could be parsed. A failure
        `too_expensive` is a property of the pair; one of another kind says nothing about it. PluginError if math-verify
        cannot be loaded.
        """
        items = [Item(predicted, {"id": gold, "answer": gold}) for gold, predicted in pairs]
        return self.pool.score(self._key, _SIGNATURE, items, self._limits)[0]

    def close(self) -> None:
        """End all workers. The pool may be used again afterwards."""
        self.pool.close()
        self._open()

    def __enter__(self) -> MathPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reward_of(outcome: Outcome) -> float | dict[str, Any] | Failure:
    """The outcome of a comparison as a reward: too expensive is 0 with that reason, other failures stay failures."""
    if outcome.failure is None:
        return float(outcome.value or 0.0)
    if outcome.failure.kind == "too_expensive":
        return {"reward": 0.0, "reason": "too_expensive"}
    return Failure(outcome.failure.kind, f"the answer was not compared: {outcome.failure.message}")


_pool = MathPool()


def math_pool() -> MathPool:
    """The pool that the math rewards of this process share. See `use_pool` for other settings."""
    return _pool


def use_pool(new: MathPool) -> None:
    """Make `new` the shared pool; the old one is closed."""
    global _pool
    old, _pool = _pool, new
    if old is not new:
        old.close()


atexit.register(lambda: _pool.close())

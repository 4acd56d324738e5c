"""The best evaluation of a run on its held-out rows, and when a better one is no longer waited for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import RunError
from core.rows import Row
from sft.config import EarlyStopping
from sft.data import STAGE_NAMES, target, turn_ids


@dataclass
class Best:
    """step, value: of the lowest evaluation so far (step 0: none yet). reference: the last value that was lower than the
    reference before it by more than `min_delta`; since: evaluations in a row since then."""

    step: int = 0
    value: float = math.inf
    reference: float = math.inf
    since: int = 0

    def look(self, step: int, value: float, min_delta: float) -> None:
        """Take note of an evaluation. Many small improvements count as one once they add up to more than `min_delta`."""
        if value < self.value:
            self.step, self.value = step, value
        if value < self.reference - min_delta:
            self.reference, self.since = value, 0
        else:
            self.since += 1

    def enough(self, settings: EarlyStopping | None) -> bool:
        """Whether the run stops here."""
        return bool(settings and settings.patience and self.since >= settings.patience)

    def state_dict(self) -> dict[str, Any]:
        """As JSON, which has no infinity; None before the first evaluation."""
        return asdict(self) if self.step else {}


def check_metric(processor: Any, settings: EarlyStopping, held_out: Iterable[Row]) -> None:
    """Raise RunError if no held-out row has a token of the stage whose loss is the metric."""
    stage = settings.metric.removeprefix("eval_loss").removeprefix("/")
    if not stage:
        return
    number, found = STAGE_NAMES.index(stage), set[int]()
    for row in held_out:
        several = isinstance(row["trace"], list)
        found.update((turn_ids(processor, row) if several else target(processor.tokenizer, row))[1])
        if number in found:
            return
    there = ", ".join(f"eval_loss/{STAGE_NAMES[n]}" for n in sorted(found - {0}))
    raise RunError(
        f"early_stopping.metric: expected a loss that data.eval_rows have (eval_loss, {there}), got {settings.metric}"
    )

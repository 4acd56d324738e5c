"""Loss by stage and tokens, summed up until they are logged: the same however rows are shared out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from core.processes.exchange import summed
from sft.augmentation.augmenter import COUNTS
from sft.data import STAGE_NAMES
from sft.loading import StepRows


class Sums:
    """[sum of the losses, targets] by stage, kept on the device until they are read, and tokens and changed images of this
    process."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.clear()

    def clear(self) -> None:
        shape = (len(STAGE_NAMES), 2)
        self.stages = torch.zeros(shape, device=self.accelerator.device, dtype=torch.float64)
        self.tokens = self.computed = 0.0
        self.augmented = Counter[str]()

    def add_rows(self, rows: StepRows) -> None:
        self.tokens += rows.tokens
        self.computed += rows.computed
        self.augmented.update(rows.augmented)

    def add_losses(self, losses: Tensor, stages: Tensor, kept: Tensor) -> None:
        """losses, stages: (N,). kept: scalar bool; where it is false they do not count, without waiting for the device."""
        values = torch.stack([losses, torch.ones_like(losses)], dim=1).double()
        self.stages.index_add_(0, stages.to(losses.device), torch.where(kept, values, 0.0))

    def total(self) -> list[float]:
        """Over all processes, which must all call it; `restore` takes it in one of them."""
        augmented = [float(self.augmented[name]) for name in COUNTS]
        return summed(
            self.accelerator, [*self.stages.flatten().tolist(), self.tokens, self.computed, *augmented]
        )

    def restore(self, total: Sequence[float]) -> None:
        stages = torch.tensor(total[:STAGE_VALUES], dtype=torch.float64)
        self.stages = stages.view(-1, 2).to(self.stages.device)
        self.tokens, self.computed = token_counts(total)
        self.augmented = Counter(augmented_counts(total))


STAGE_VALUES = 2 * len(STAGE_NAMES)


def token_counts(total: Sequence[float]) -> tuple[float, float]:
    """From `Sums.total`: tokens of all rows, and those that went through the model."""
    return total[STAGE_VALUES], total[STAGE_VALUES + 1]


def augmented_counts(total: Sequence[float]) -> dict[str, int]:
    """From `Sums.total`: rows by what was done to their images."""
    return {
        name: int(n) for name, n in zip(COUNTS, total[STAGE_VALUES + 2 :], strict=False)
    }  # none in old checkpoints


def stage_losses(total: Sequence[float]) -> dict[str, float]:
    """From `Sums.total`: `loss`, the mean over all targets (NaN of none), and `loss/<stage>` of each stage that occurs."""
    pairs = zip(STAGE_NAMES, total[0:STAGE_VALUES:2], total[1:STAGE_VALUES:2], strict=True)
    stages = [(name, losses, targets) for name, losses, targets in pairs if targets]
    targets = sum(n for *_, n in stages)
    mean = sum(losses for _, losses, _ in stages) / targets if targets else math.nan
    return {"loss": mean} | {f"loss/{name}": losses / n for name, losses, n in stages}

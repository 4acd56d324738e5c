"""Non-finite numbers: skip steps that have them, refuse weights that hold them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn


def is_finite(weight: Tensor) -> bool:
    """Whether no value is infinite or not a number."""
    if not weight.numel():
        return True
    low, high = torch.aminmax(weight.detach())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def finite_weights(named_weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The weights as they come; FloatingPointError at the first that is not finite."""
    for name, weight in named_weights:
        if not is_finite(weight):
            raise _error([name])
        yield name, weight


def check_finite(model: nn.Module) -> None:
    """FloatingPointError on every process if a weight is not finite on any. Sharded weights (ZeRO-3, FSDP) stay where
    they are: each process checks its part."""
    names = [name for name, weight in model.named_parameters() if not is_finite(_local(weight))]
    if torch.distributed.is_initialized():
        everyone: list[list[str]] = [[]] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, names)
        names = list(dict.fromkeys(name for one in everyone for name in one))
    if names:
        raise _error(names)


def _local(weight: Tensor) -> Tensor:
    if hasattr(weight, "ds_tensor"):
        return weight.ds_tensor
    return weight.to_local() if hasattr(weight, "to_local") else weight


def _error(names: list[str]) -> FloatingPointError:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return FloatingPointError(
        f"expected finite weights, got infinity or not-a-number in {names[0]}{more}; such weights are neither saved nor"
        " given to a rollout engine"
    )


@dataclass
class SkippedSteps:
    """Counts optimizer steps that are skipped because a number is not finite, and stops a run that skips too many in a row.

    limit: most in a row. total: so far.
    """

    limit: int
    total: int = 0
    in_a_row: int = 0

    def look(self, step: int, numbers: Mapping[str, float]) -> str | None:
        """Count `step` as taken if all its numbers (by what they are: "loss") are finite, else as skipped; returns the line
        that says so, or None.

        Raises FloatingPointError above the limit.
        """
        bad = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
        if not bad:
            self.in_a_row = 0
            return None
        self.total, self.in_a_row = self.total + 1, self.in_a_row + 1
        what = f"step {step} is skipped: its {' and its '.join(bad)}"
        if self.in_a_row > self.limit:
            raise FloatingPointError(
                f"{what}. {self.in_a_row} steps in a row were skipped, at most {self.limit} may be"
                " (max_skipped_steps); the last saved checkpoint is sound. A lower learning rate usually helps, or a"
                " longer warm-up"
            )
        return f"{what} (in a row: {self.in_a_row}, at most {self.limit})"

    def state_dict(self) -> dict[str, int]:
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.total, self.in_a_row = state["total"], state["in_a_row"]

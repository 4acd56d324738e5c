"""Sequences packed into windows, and sums of their losses by kind of data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from core.processes.exchange import summed
from vlm.packed.filling import largest_first
from vlm.packed.layout import DummyMedia
from vlm.packed.packing import Packed, PrefixTree, Segment, pack


@dataclass(frozen=True)
class Window:
    """packed: sequences one behind the other, none of which attends to another. kinds: (N,) int64, of each of its N targets
    the number of its kind of data. tokens: of its sequences, without dummy media."""

    packed: Packed
    kinds: Tensor
    tokens: int


def windows_of(
    sequences: Sequence[tuple[int, Segment]], size: int, dummy: DummyMedia | None = None
) -> list[Window]:
    """(number of the kind, sequence) of each, in as few windows of at most `size` tokens as first-fit finds, the fullest first.

    dummy: the media that every window must hold.
    """
    bins = largest_first([len(segment) for _, segment in sequences], size)
    return [_window([sequences[i] for i in chosen], dummy) for chosen in bins]


def empty_window(dummy: DummyMedia | None = None) -> Window:
    """A window without sequences, for a process that has fewer than the others."""
    return _window([], dummy)


def _window(sequences: Sequence[tuple[int, Segment]], dummy: DummyMedia | None) -> Window:
    packed = pack([PrefixTree(segment) for _, segment in sequences], dummy)
    numbers = [torch.full((int(segment.trained.sum()),), kind) for kind, segment in sequences]
    kinds = torch.cat([torch.zeros(0, dtype=torch.long), *numbers])
    return Window(packed, kinds, sum(len(segment) for _, segment in sequences))


class Sums:
    """[sum of the losses, targets] by kind of data, kept on the device until they are read, and what the windows of this process
    held."""

    def __init__(self, accelerator: Accelerator, kinds: Sequence[str]) -> None:
        self.accelerator, self.kinds = accelerator, tuple(kinds)
        self.clear()

    def clear(self) -> None:
        shape = (len(self.kinds), 2)
        self.losses = torch.zeros(shape, device=self.accelerator.device, dtype=torch.float64)
        self.tokens = self.computed = self.windows = 0.0

    def add_window(self, window: Window) -> None:
        """Of an empty one only what is computed counts."""
        self.tokens += window.tokens
        self.computed += window.packed.layout.total
        self.windows += window.tokens > 0

    def add_losses(self, losses: Tensor, kinds: Tensor, kept: Tensor) -> None:
        """losses, kinds: (N,). kept: scalar bool; where it is false they do not count, without waiting for the device."""
        values = torch.stack([losses, torch.ones_like(losses)], dim=1).double()
        self.losses.index_add_(0, kinds.to(losses.device), torch.where(kept, values, 0.0))

    def total(self) -> list[float]:
        """Over all processes, which must all call it; `restore` takes it in one of them."""
        mine = [*self.losses.flatten().tolist(), self.tokens, self.computed, self.windows]
        return summed(self.accelerator, mine)

    def restore(self, total: Sequence[float]) -> None:
        self.losses = torch.tensor(total[:-3], dtype=torch.float64).view(-1, 2).to(self.losses.device)
        self.tokens, self.computed, self.windows = total[-3:]


def losses_by_kind(total: Sequence[float], kinds: Sequence[str]) -> dict[str, float]:
    """From `Sums.total`: `loss`, the mean over all targets (NaN of none), and `loss/<kind>` of each kind that occurs."""
    pairs = zip(kinds, total[: 2 * len(kinds) : 2], total[1 : 2 * len(kinds) : 2], strict=True)
    found = [(kind, losses, targets) for kind, losses, targets in pairs if targets]
    targets = sum(n for *_, n in found)
    mean = sum(losses for _, losses, _ in found) / targets if targets else math.nan
    return {"loss": mean} | {f"loss/{kind}": losses / n for kind, losses, n in found}


def window_metrics(total: Sequence[float], size: int, seconds: float) -> dict[str, Any]:
    """From `Sums.total` of `seconds` seconds: tokens a second, the share of what is computed that is padding (dummy media and empty
    windows; 0 in one process), and how full the windows of `size` tokens are."""
    tokens, computed, windows = total[-3:]
    return {
        "tokens_per_second": round(tokens / seconds, 1),
        "tokens/padding": (computed - tokens) / max(1.0, computed),
        "tokens/window_filled": tokens / max(1.0, windows * size),
    }

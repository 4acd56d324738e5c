"""One optimizer step: what its micro-batches add up to, and the gradient applied or, where it is not finite, left out."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from rl.checks import LogprobGap, gap_from_moments, gap_moments, join_moments, reduce_moments
from rl.packing import PackedBatch
from rl.processes import summed
from rl.update import UpdateOutput


class StepSums:
    """Loss, entropy and the log-prob gap, summed over a step's micro-batches on this process."""

    def __init__(self) -> None:
        self._moments = gap_moments(torch.zeros(0), torch.zeros(0))
        self._loss = self._entropy = self._tokens = 0.0

    def add(self, batch: PackedBatch, out: UpdateOutput) -> None:
        for rollout, logprobs in zip(batch.rollouts, out.logprobs, strict=True):
            seen = gap_moments(torch.tensor(rollout.logprobs), logprobs, torch.tensor(rollout.loss_mask))
            self._moments = join_moments(self._moments, seen)
        self._loss += out.loss.item()
        self._entropy += out.entropy * out.tokens
        self._tokens += out.tokens

    def over_processes(self, accelerator: Accelerator) -> tuple[LogprobGap, dict[str, float]]:
        """Over all tokens of the step: the gap, and loss and entropy for the log. All processes must call it."""
        gap = gap_from_moments(reduce_moments(self._moments.to(accelerator.device)))
        sums = summed(accelerator, [self._loss / accelerator.num_processes, self._entropy, self._tokens])
        return gap, {"loss": sums[0], "entropy": sums[1] / max(1.0, sums[2])}


def loss_without_step(loss: Tensor) -> Tensor:
    """A loss whose gradient is not-a-number in every weight: whatever sums the gradients up, on whichever processes, finds
    a norm that is not finite, and leaves the step out."""
    return loss * math.nan


def apply_gradient(accelerator: Accelerator, policy: nn.Module, optimizer: Any, max_norm: float) -> float:
    """Take the step if the norm of its gradient is finite, on all processes or on none; returns the norm.

    With DeepSpeed the last `accelerator.backward` has already done so: ZeRO leaves out steps whose norm is not finite.
    Raises FloatingPointError where it did not.
    """
    norm = float(accelerator.clip_grad_norm_(policy.parameters(), max_norm))
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        if not math.isfinite(norm) and not accelerator.optimizer_step_was_skipped:
            raise FloatingPointError(
                f"DeepSpeed took a step with a gradient norm of {norm}; use ZeRO stage 1, 2 or 3, and leave bf16's"
                " check_grad_overflow on"
            )
    elif math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad()
    return norm

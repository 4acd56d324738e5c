"""What the micro-batches of one optimizer step add up to, and the log-prob gap over all processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from core.processes.exchange import largest, summed
from engines.rollout import Rollout
from rl.checks import GapCheck, LogprobGap, gap_from_moments, reduce_moments
from rl.update.correction import Correction
from rl.update.packing import PackedBatch
from rl.update.policy_gradient import UpdateOutput
from rl.update.rounding import LogProbs, engine_gap, logprobs_of, rounding_gap, sample_batch


class StepSums:
    """Loss, entropy and the log-prob gap, summed over a step's micro-batches on this process."""

    def __init__(self) -> None:
        self.batches: list[PackedBatch] = []
        self.logprobs: LogProbs = []
        self._loss = self._entropy = self._tokens = 0.0

    def add(self, batch: PackedBatch, out: UpdateOutput) -> None:
        self.batches.append(batch)
        self.logprobs.append(out.logprobs)
        self._loss += out.loss.item()
        self._entropy += out.entropy * out.tokens
        self._tokens += out.tokens

    def over_processes(self, accelerator: Accelerator) -> tuple[LogprobGap, dict[str, float]]:
        """Over all tokens of the step: the gap, and loss and entropy for the log. All processes must call it."""
        gap = gap_over_processes(accelerator, engine_gap(self.batches, self.logprobs))
        sums = summed(accelerator, [self._loss / accelerator.num_processes, self._entropy, self._tokens])
        return gap, {"loss": sums[0], "entropy": sums[1] / max(1.0, sums[2])}

    def weights(self, accelerator: Accelerator, correction: Correction) -> dict[str, float]:
        """The importance weights of all tokens of the step, for the log: mean and largest before they are truncated, and
        the share that is. All processes must call it."""
        ratios = [torch.zeros(0)]
        for batch, logprobs in zip(self.batches, self.logprobs, strict=True):
            for rollout, trainer in zip(batch.rollouts, logprobs, strict=True):
                trained = torch.tensor(rollout.loss_mask, dtype=torch.bool)
                differences = (trainer - torch.tensor(rollout.logprobs))[trained]
                ratios.append(correction.ratios(differences, torch.zeros(len(differences), dtype=torch.long)))
        w = torch.cat(ratios).double()
        truncated = float((w > correction.limit).sum())
        tokens, total, truncated = summed(accelerator, [len(w), float(w.sum()), truncated])
        return {
            "correction/mean": total / max(1.0, tokens),
            "correction/max": largest(accelerator, float(w.max()) if len(w) else 0.0),
            "correction/truncated": truncated / max(1.0, tokens),
        }

    def rounding(self, accelerator: Accelerator, policy: nn.Module, options: Mapping[str, Any]) -> LogprobGap:
        """What rounding does on the tokens of the step (`rl.update.rounding`). All processes must call it."""
        moments = rounding_gap(policy, self.batches, self.logprobs, options)
        return gap_over_processes(accelerator, moments)


def gap_over_processes(accelerator: Accelerator, moments: Tensor) -> LogprobGap:
    """The gap over the tokens of all processes, from the moments of each (`gap_moments`)."""
    return gap_from_moments(reduce_moments(moments.to(accelerator.device)))


def sampled_gap(
    accelerator: Accelerator,
    policy: nn.Module,
    check: GapCheck,
    rollouts: Sequence[Rollout],
    sample_tokens: int,
    options: Mapping[str, Any],
) -> LogprobGap:
    """The gap on a few of the step's rollouts, checked; the first time, the noise floor is measured on them.

    Log-probs of the trainer that are not numbers are left to the update, which skips such steps.
    """
    batches = [sample_batch(rollouts, sample_tokens)]
    trainer = logprobs_of(policy, batches, options)
    gap = gap_over_processes(accelerator, engine_gap(batches, trainer))

    def noise() -> LogprobGap:
        return gap_over_processes(accelerator, rounding_gap(policy, batches, trainer, options))

    if not math.isfinite(gap.kl):
        return gap
    if check.floor is None:
        check.first(gap, noise())
    else:
        check.check(gap, noise)
    return gap

"""The log-prob gap over all processes, and the check of a step on a sample of its rollouts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from core.metrics import Metric
from core.processes.exchange import over_processes
from engines.rollout import Rollout
from rl.checks import GapCheck, LogprobGap, gap_of
from rl.update.packing import PackedBatch
from rl.update.rounding import LogProbs, engine_gap, logprobs_of, rounding_gap, sample_batch


def gap_over_processes(metrics: Mapping[str, Metric]) -> LogprobGap:
    """The gap over the tokens of all processes, from the metrics of each (`gap_metrics`)."""
    return gap_of(over_processes(metrics))


def rounding_over_processes(
    policy: nn.Module, batches: Sequence[PackedBatch], trainer: LogProbs, options: Mapping[str, Any]
) -> LogprobGap:
    """The gap that rounding alone makes on the tokens of all processes (`rounding_gap`)."""
    return gap_over_processes(rounding_gap(policy, batches, trainer, options))


def sampled_gap(
    policy: nn.Module,
    check: GapCheck,
    rollouts: Sequence[Rollout],
    sample_tokens: int,
    options: Mapping[str, Any],
) -> LogprobGap:
    """Check the gap on a few of the step's rollouts; the first time, measure the noise floor on them.

    If the trainer's log-probs are not finite nothing is checked: the update skips such steps.
    """
    batches = [sample_batch(rollouts, sample_tokens)]
    trainer = logprobs_of(policy, batches, options)
    gap = gap_over_processes(engine_gap(batches, trainer))

    noise = partial(rounding_over_processes, policy, batches, trainer, options)
    if not math.isfinite(gap.kl):
        return gap
    if check.floor is None:
        check.first(gap, noise())
    else:
        check.check(gap, noise)
    return gap

"""The teacher of a run: what it is asked, and starting the one that the config names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from core.metrics import Metric
from core.rows import Row
from engines.samples import Group
from rl.config import GRPOConfig
from rl.distillation.checkpoint import CheckpointTeacher
from rl.distillation.config import CheckpointTeacherConfig
from rl.distillation.server import ServerTeacher

TokenValues = list[tuple[Tensor, ...]]
"""By group, one tensor per sample: (completion tokens,) float32 on the CPU, 0.0 where the loss mask is 0."""


class Teacher(Protocol):
    """A model that says how likely it would have been to write what the policy wrote."""

    def logprobs(self, groups: Sequence[Group]) -> TokenValues:
        """The log-prob of every sampled token, given everything before it, media included."""
        ...

    def close(self) -> None: ...


def build_teacher(
    config: GRPOConfig, rows: Sequence[Row], processor: Any, device: torch.device
) -> Teacher | None:
    """The configured teacher; None where nothing is distilled. Raises ValueError or RunError if it cannot judge the policy's
    tokens on these rows."""
    if config.distillation is None:
        return None
    teacher = config.distillation.teacher
    if isinstance(teacher, CheckpointTeacherConfig):
        return CheckpointTeacher(
            teacher,
            processor,
            temperature=config.rollout.temperature,
            max_tokens=config.max_tokens_per_microbatch,
            device=device,
        )
    return ServerTeacher(teacher, rows, processor, longest=config.engine.max_model_len)


def teacher_advantages(groups: Sequence[Group], logprobs: TokenValues) -> TokenValues:
    """D_ij = log pi_teacher(o_ij) - log pi(o_ij) of every sampled token: one sample of minus the reverse KL
    KL(pi || pi_teacher) at that place (Thinking Machines, "On-Policy Distillation", 2025; GKD, arXiv 2306.13649, §3.1, with
    data sampled from the student and the reverse KL).

    logprobs: the teacher's. log pi is the engine's, with which the token was sampled: a constant of the gradient.
    """
    return [
        tuple(
            (teacher - torch.tensor(r.logprobs)) * torch.tensor(r.loss_mask)
            for r, teacher in zip(group.rollouts, values, strict=True)
        )
        for group, values in zip(groups, logprobs, strict=True)
    ]


def reverse_kl_metrics(groups: Sequence[Group], advantages: TokenValues) -> dict[str, Metric]:
    """`reverse_kl/mean` and by task: the estimate of KL(pi || pi_teacher) per sampled token, nats."""
    metrics: dict[str, Metric] = {}
    for group, values in zip(groups, advantages, strict=True):
        tokens = sum(sum(rollout.loss_mask) for rollout in group.rollouts)
        found = Metric("mean", -float(sum(v.double().sum() for v in values)), tokens)
        for suffix in ("mean", group.row["task"]):
            name = f"reverse_kl/{suffix}"
            metrics[name] = metrics[name] + found if name in metrics else found
    return metrics

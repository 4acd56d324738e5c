"""Coefficients: what the log-prob of each sampled token is multiplied by in the objective.

    J = sum over tasks t of  w_t * ( rho / Z_t * sum_ij A_i log pi(o_ij)  +  lambda / Z'_t * sum_ij D_ij log pi(o_ij) )

A_i is the advantage of a rollout (rl/advantages.py), D_ij that of a token from a teacher (rl/distillation). rho and lambda are
the factors of rewards and teacher, w_t the weight of a task. The normaliser Z_t is a choice:

| name | Z_t | a task weighs by |
|---|---|---|
| tokens | N, all tokens of the step (MiMo-VL, eq. 1) | its tokens |
| per task | N_t P / P_t: its own tokens, times its share of the prompts, inverted | its prompts |

With P_t of the step's P prompts and N_t of its N tokens, the second makes a task's part of the objective P_t / P times the mean
over its own tokens: a task that writes five times as long as another no longer weighs five times as much (the sum of
per-task means of a multi-task loss; the normaliser of each is that of eq. 1, inside the task).

Z counts the tokens of rollouts with a reward (`rl.advantages.scored_tokens`), Z' those of all rollouts: a teacher judges
tokens, whatever became of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from engines.samples import Group
from rl.advantages import OverTurnMask, scored_tokens

Tokens = Literal["scored", "sampled"]


@dataclass(frozen=True)
class Objective:
    """rewards, teacher: their factors, rho and lambda. weights: of tasks, 1 for those not named. per_task: whether a task
    weighs by its prompts."""

    rewards: float = 1.0
    teacher: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)
    per_task: bool = False


@dataclass(frozen=True)
class Counts:
    """Of one task in the step's batch: prompts, tokens of rollouts with a reward, tokens of all rollouts."""

    prompts: int = 0
    scored: int = 0
    sampled: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.prompts + other.prompts, self.scored + other.scored, self.sampled + other.sampled)


def counted(groups: Iterable[Group], over_turn: OverTurnMask = "completed") -> dict[str, Counts]:
    """By task, of these groups."""
    return added(
        {
            group.row["task"]: Counts(
                1, scored_tokens(group, over_turn), sum(sum(r.loss_mask) for r in group.rollouts)
            )
        }
        for group in groups
    )


def added(parts: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The counts of all parts (groups, processes) together."""
    result: dict[str, Counts] = {}
    for part in parts:
        for task, counts in part.items():
            result[task] = result.get(task, Counts()) + counts
    return result


def factors(counts: Mapping[str, Counts], tokens: Tokens, objective: Objective) -> dict[str, float]:
    """w_t N / Z_t by task: what an advantage is multiplied by where the loss is divided by all N `tokens` afterwards."""
    total = sum(getattr(one, tokens) for one in counts.values())
    prompts = sum(one.prompts for one in counts.values())
    result = {}
    for task, one in counts.items():
        result[task] = objective.weights.get(task, 1.0)
        own = getattr(one, tokens)
        if objective.per_task and own:
            result[task] *= (one.prompts / prompts) * (total / own)
    return result


def with_coefficients(
    groups: Sequence[Group],
    counts: Mapping[str, Counts],
    objective: Objective = Objective(),
    teacher: Sequence[Sequence[Tensor]] | None = None,
) -> tuple[list[Group], int]:
    """The groups with the coefficients of their tokens, and the number that the loss is divided by (`total_tokens` of
    `policy_gradient`).

    counts: of the whole step, on all processes. teacher: D_ij by group and sample, (completion tokens,) each; None: no
    teacher.

    With the default objective and no teacher the groups are returned as they are: each token's coefficient is its advantage.
    """
    scored, sampled = (sum(getattr(one, name) for one in counts.values()) for name in ("scored", "sampled"))
    if teacher is None and objective.rewards == 1 and not objective.weights and not objective.per_task:
        return list(groups), scored
    total = scored if teacher is None else sampled
    of_rewards = {
        task: objective.rewards * factor * (total / max(scored, 1))
        for task, factor in factors(counts, "scored", objective).items()
    }
    of_teacher = {
        task: objective.teacher * factor for task, factor in factors(counts, "sampled", objective).items()
    }
    result = []
    for place, group in enumerate(groups):
        task = group.row["task"]
        coefficients: list[Tensor | None] = []
        for i, (rollout, advantage) in enumerate(zip(group.rollouts, group.advantages, strict=True)):
            value = torch.full((len(rollout.loss_mask),), of_rewards[task] * (advantage or 0.0))
            if teacher is not None:
                value += of_teacher[task] * teacher[place][i]
            coefficients.append(value if teacher is not None or advantage is not None else None)
        result.append(replace(group, coefficients=tuple(coefficients)))
    return result, total

"""Advantages: how much better a rollout is than the others of its prompt.

A group is the G rollouts of one prompt. Its mean reward is the baseline; what divides the difference is a choice:

| name | A_i | from |
|---|---|---|
| `group_std` | (r_i - mean r) / std r | GRPO; MiMo-VL, eq. 2 (arXiv 2506.03569) |
| `no_std` | r_i - mean r | Dr.GRPO (arXiv 2503.20783) |
| `task_std` | (r_i - mean r) / sigma_task, within [-5, 5] | EMA-GRPO, OneThinker, §3.3 (arXiv 2512.03043) |

Zero-signal groups (all rewards exactly equal, or fewer than two of them) have advantages of exactly zero, whichever is
chosen, so they leave before anything is computed for them. Their tokens still count in the normaliser of the loss: the
gradient with them left out is the gradient with them in.

The papers print std{r} only. Here it is the sample estimate (divided by G - 1), as in TRL, verl and OpenRLHF, and
without an epsilon: since groups without signal have left, it is never zero, and an epsilon would make the scale of an
advantage depend on the scale of the rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from engines.rollout import Rollout

Estimator = Literal["group_std", "no_std", "task_std"]


@dataclass(frozen=True)
class Group:
    """Rollouts of one prompt with a learning signal: at least two scored ones, not all of equal reward.

    advantages: one per rollout, of the chosen scale (`Estimator`).
    """

    task: str
    rollouts: tuple[Rollout, ...]
    rewards: tuple[float, ...]
    advantages: tuple[float, ...]


@dataclass(frozen=True)
class GroupCounts:
    """What became of the rollouts of a step (on this process).

    groups: prompts; zero_signal: those of them that leave; unscored: rollouts with reward None.
    tokens: trained tokens of all scored rollouts, zero-signal groups included. Summed over processes this is the
        `total_tokens` of `policy_gradient`.
    signal_tokens: the same without zero-signal groups.
    """

    groups: int
    zero_signal: int
    unscored: int
    tokens: int
    signal_tokens: int


class TaskStd:
    """Standard deviation of the rewards of each task, from moving averages over steps (OneThinker, eq. 9 and 10):

        m1 <- beta m1 + (1 - beta) mean{r},    m2 <- beta m2 + (1 - beta) mean{r^2},    sigma_task = sqrt(m2 - m1^2)

    with the means over all scored rewards that the task has in the step. A task with dense rewards (IoU) and one with
    sparse rewards (right or wrong) then each keep one scale, and within a task a group of small spread is not blown up
    to the size of one of large spread, as `group_std` does.

    momentum: beta, 0.99 in OneThinker.

    The paper does not say how the averages start. Its code takes the moments of the first batch, which
    after 69 more steps still weigh as much as all of those. Here both averages start at 0 and are divided by 1 - beta^t
    (as in Adam): the same in the first step, and in the next ones all steps so far weigh about alike.
    """

    def __init__(self, momentum: float = 0.99):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        self._moments: dict[str, tuple[int, float, float]] = {}  # task -> (steps seen, mean, variance)

    def update(self, tasks: Sequence[str], rewards: Sequence[float | None]) -> None:
        """Take in the rewards of one step: those of all processes, so that each computes the same."""
        for task in dict.fromkeys(tasks):
            scored = [r for t, r in zip(tasks, rewards, strict=True) if t == task and r is not None]
            if not scored:
                continue
            mean = math.fsum(scored) / len(scored)
            variance = math.fsum((r - mean) ** 2 for r in scored) / len(scored)
            steps, old_mean, old_variance = self._moments.get(task, (0, mean, 0.0))
            alpha = (1 - self.momentum) / (1 - self.momentum ** (steps + 1))
            shift = mean - old_mean
            # Variance of the mixture, about its own mean: no difference of large moments
            mixed = (1 - alpha) * (old_variance + alpha * shift**2) + alpha * variance
            self._moments[task] = (steps + 1, old_mean + alpha * shift, mixed)

    def __getitem__(self, task: str) -> float:
        if task not in self._moments:
            raise KeyError(f"no rewards of task {task!r} seen: call update() with each step's rewards first")
        return math.sqrt(self._moments[task][2])

    def state_dict(self) -> dict[str, list[float]]:
        return {task: list(moments) for task, moments in self._moments.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self._moments = {task: (int(n), mean, variance) for task, (n, mean, variance) in state.items()}


def group_advantages(
    rollouts: Sequence[Rollout],
    rewards: Sequence[float | None],
    tasks: Sequence[str],
    *,
    estimator: Estimator = "group_std",
    task_std: TaskStd | None = None,
) -> tuple[list[Group], GroupCounts]:
    """Groups with signal, in order of first appearance, and the counts of what left.

    rollouts, rewards, tasks: one each per rollout; rollouts of the same row_id form a group. A reward of None means
    that the rollout cannot be judged: it is in neither the baseline, nor the loss, nor its normaliser.
    task_std: only for the estimator of that name, already updated with this step's rewards.

    Raises ValueError for rewards that are not finite.
    """
    if not len(rollouts) == len(rewards) == len(tasks):
        raise ValueError(
            f"expected as many rewards and tasks as rollouts ({len(rollouts)}), got {len(rewards)}, {len(tasks)}"
        )
    if estimator not in get_args(Estimator):
        raise ValueError(f"unknown estimator {estimator!r}; there are {', '.join(get_args(Estimator))}")

    by_row: dict[str, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        by_row.setdefault(rollout.row_id, []).append(i)

    groups, zero_signal, unscored, tokens, signal_tokens = [], 0, 0, 0, 0
    for row_id, members in by_row.items():
        scored = [(rollouts[i], float(r)) for i in members if (r := rewards[i]) is not None]
        unscored += len(members) - len(scored)
        values = [reward for _, reward in scored]
        if not all(map(math.isfinite, values)):
            raise ValueError(f"row {row_id!r}: expected finite rewards or None, got {values}")
        group_tokens = sum(sum(rollout.loss_mask) for rollout, _ in scored)
        tokens += group_tokens
        if not has_signal(values):
            zero_signal += 1
            continue
        signal_tokens += group_tokens
        task = tasks[members[0]]
        if estimator == "group_std":
            advantages = group_std(values)
        elif estimator == "no_std":
            advantages = no_std(values)
        else:
            if task_std is None:
                raise ValueError("estimator 'task_std' needs the argument task_std")
            advantages = by_task_std(values, task_std[task])
        members_with_reward = tuple(rollout for rollout, _ in scored)
        groups.append(Group(task, members_with_reward, tuple(values), tuple(advantages)))
    return groups, GroupCounts(len(by_row), zero_signal, unscored, tokens, signal_tokens)


def has_signal(rewards: Sequence[float | None]) -> bool:
    """True unless every advantage is exactly zero: at least two scored rewards, compared exactly, differ."""
    return len({r for r in rewards if r is not None}) > 1


def group_std(rewards: Sequence[float]) -> list[float]:
    """A_i = (r_i - mean r) / std r, std with G - 1 (MiMo-VL, eq. 2). The rewards must differ."""
    differences = no_std(rewards)
    largest = max(map(abs, differences))  # first scaled by this: squares of tiny differences would underflow
    scaled = [d / largest for d in differences]
    std = math.sqrt(math.fsum(s * s for s in scaled) / (len(scaled) - 1))
    return [s / std for s in scaled]


def no_std(rewards: Sequence[float]) -> list[float]:
    """A_i = r_i - mean r (Dr.GRPO, eq. 3).

    The mean contains r_i itself, so over a group of G independent rollouts the expected gradient is (G - 1)/G of the
    true one: the same direction. With the group's std the direction is biased too: prompts are weighted by 1/std.
    """
    mean = math.fsum(rewards) / len(rewards)
    return [r - mean for r in rewards]


def by_task_std(rewards: Sequence[float], std: float, *, limit: float = 5.0) -> list[float]:
    """A_i = (r_i - mean r) / sigma_task, clipped to [-limit, limit] (OneThinker, eq. 11), sigma_task from `TaskStd`.

    The paper clips for the first steps, when sigma_task is not stable yet. It also bounds the rare right answer of a task
    that is nearly never solved: there, the advantages of a group no longer add up to 0. (Its code does not clip: it
    divides such a group by its own std.)
    """
    if std <= 0:
        raise ValueError(
            f"the task's standard deviation is {std}, though rewards of one group differ: {rewards}"
        )
    return [max(-limit, min(limit, d / std)) for d in no_std(rewards)]

"""Advantages: how much better a rollout is than the others of its prompt.

A group is the G samples of one prompt. Its mean reward is the baseline; what divides the difference is a choice:

| name | A_i | from |
|---|---|---|
| `group_std` | (r_i - mean r) / std r | GRPO; MiMo-VL, eq. 2 (arXiv 2506.03569) |
| `no_std` | r_i - mean r | Dr.GRPO (arXiv 2503.20783) |
| `task_std` | (r_i - mean r) / sigma_task, within [-5, 5] | EMA-GRPO, OneThinker, §3.3 (arXiv 2512.03043) |

The baseline need not be the mean. `length` is the mean weighed by lengths, b = sum_i |o_i| r_i / sum_i |o_i| (OPO,
arXiv 2505.23585: the baseline of least variance where the squared norm of a rollout's gradient grows with its length); it
takes the place of mean r, and what divides stays. Then sum_i |o_i| A_i = 0: over the tokens of a group, pushes up and down
cancel exactly. With the plain mean, long wrong answers push down more tokens than short right ones push up, and a group
shortens, or lengthens, answers for that alone.

Zero-signal groups (all rewards exactly equal, or fewer than two rewards) have advantages of exactly zero under every
estimator, so they are left out of the update. Their tokens still count in the normaliser of the loss: the
gradient is the same with and without them.

Episodes that went over a budget (`finish` "over_turn") are no failures of the answer: penalised, they teach the policy to stop
early (Mini-o3, arXiv 2509.07969, where the mask is what lets turns grow with the budget at test time). What becomes of them:

| name | baseline and std | loss | normaliser of the loss | from |
|---|---|---|---|---|
| `completed` | without them | without them | without their tokens | Mini-o3, the paper: divided by the number completed |
| `loss_only` | with them | without them | with their tokens | Mini-o3's released code: the loss alone is masked |
| `none` | with them | with them | with their tokens | every other rollout |

The papers print std{r} only. Here it is the sample estimate (divided by G - 1), as in TRL, verl and OpenRLHF, and
without an epsilon: since groups without signal have left, it is never zero, and an epsilon would make the scale of an
advantage depend on the scale of the rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from engines.samples import Group

Estimator = Literal["group_std", "no_std", "task_std"]
Baseline = Literal["mean", "length"]
OverTurnMask = Literal["completed", "loss_only", "none"]
"""What becomes of episodes that went over a budget (see above)."""


class TaskStd:
    """Standard deviation of the rewards of each task, from moving averages over steps (OneThinker, eq. 9 and 10):

        m1 <- beta m1 + (1 - beta) mean{r},    m2 <- beta m2 + (1 - beta) mean{r^2},    sigma_task = sqrt(m2 - m1^2)

    with the means over all scored rewards that the task has in the step. A task with dense rewards (IoU) and one with
    sparse rewards (right or wrong) then each keep one scale, and within a task a group of small spread is not scaled
    up to the size of one of large spread, as `group_std` does.

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
        """Add the rewards of one step, of all processes, so that each computes the same."""
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
    groups: Sequence[Group],
    *,
    estimator: Estimator = "group_std",
    baseline: Baseline = "mean",
    task_std: TaskStd | None = None,
    over_turn: OverTurnMask = "completed",
) -> list[Group]:
    """The groups with their advantages: all None in a group without a signal, and None for samples without a reward, which
    are in neither the baseline, nor the loss, nor its normaliser, and for samples that `over_turn` masks.

    task_std: only for the estimator of that name, already updated with this step's rewards.

    Raises ValueError for rewards that are not finite.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"unknown estimator {estimator!r}; there are {', '.join(get_args(Estimator))}")
    if estimator == "task_std" and task_std is None:
        raise ValueError("estimator 'task_std' needs the argument task_std")
    result = []
    for group in groups:
        rewards = baseline_rewards(group, over_turn)
        scored = [float(r) for r in rewards if r is not None]
        if not all(map(math.isfinite, scored)):
            raise ValueError(f"row {group.row['id']!r}: expected finite rewards or None, got {scored}")
        if not has_signal(scored):
            result.append(replace(group, advantages=()))
            continue
        counts = [
            sum(r.loss_mask) for r, reward in zip(group.rollouts, rewards, strict=True) if reward is not None
        ]
        lengths = counts if baseline == "length" else None
        if estimator == "group_std":
            advantages = iter(group_std(scored, lengths))
        elif estimator == "no_std":
            advantages = iter(no_std(scored, lengths))
        else:
            assert task_std is not None
            advantages = iter(by_task_std(scored, task_std[group.row["task"]], lengths))
        by_sample = [None if r is None else next(advantages) for r in rewards]
        if over_turn == "loss_only":
            by_sample = [
                None if s.rollout.finish == "over_turn" else a
                for s, a in zip(group.samples, by_sample, strict=True)
            ]
        result.append(replace(group, advantages=tuple(by_sample)))
    return result


def baseline_rewards(group: Group, over_turn: OverTurnMask) -> list[float | None]:
    """The rewards that make the baseline and the signal of a group; None for samples that are left out of it."""
    if over_turn != "completed":
        return list(group.rewards)
    return [None if s.rollout.finish == "over_turn" else s.score.reward for s in group.samples]


def scored_tokens(group: Group, over_turn: OverTurnMask = "completed") -> int:
    """Trained tokens of the samples that have a reward (and, with "completed", are not over a budget), whether the group has a
    signal or not. Summed over the step's batch on all processes this is the `total_tokens` of `policy_gradient`."""
    rewards = baseline_rewards(group, over_turn)
    return sum(sum(s.rollout.loss_mask) for s, r in zip(group.samples, rewards, strict=True) if r is not None)


def has_signal(rewards: Sequence[float | None]) -> bool:
    """True unless every advantage is exactly zero: at least two scored rewards, compared exactly, differ."""
    return len({r for r in rewards if r is not None}) > 1


def group_std(rewards: Sequence[float], lengths: Sequence[int] | None = None) -> list[float]:
    """A_i = (r_i - mean r) / std r, std with G - 1 (MiMo-VL, eq. 2). The rewards must differ. lengths: as in `no_std`."""
    differences = no_std(rewards)
    largest = max(map(abs, differences))  # first scaled by this: squares of tiny differences would underflow
    std = math.sqrt(math.fsum((d / largest) ** 2 for d in differences) / (len(differences) - 1))
    return [d / largest / std for d in (differences if lengths is None else no_std(rewards, lengths))]


def no_std(rewards: Sequence[float], lengths: Sequence[int] | None = None) -> list[float]:
    """A_i = r_i - mean r (Dr.GRPO, eq. 3). lengths: trained tokens of each rollout, by which the mean is weighed (OPO);
    None, or no token at all: the plain mean.

    The mean contains r_i itself, so over a group of G independent rollouts the expected gradient is (G - 1)/G of the
    true one: the same direction. With the group's std the direction is biased too: prompts are weighted by 1/std.
    """
    weights = lengths if lengths is not None and any(lengths) else [1] * len(rewards)
    mean = math.fsum(w * r for w, r in zip(weights, rewards, strict=True)) / sum(weights)
    return [r - mean for r in rewards]


def by_task_std(
    rewards: Sequence[float], std: float, lengths: Sequence[int] | None = None, *, limit: float = 5.0
) -> list[float]:
    """A_i = (r_i - mean r) / sigma_task, clipped to [-limit, limit] (OneThinker, eq. 11), sigma_task from `TaskStd`. lengths:
    as in `no_std`.

    The paper clips for the first steps, when sigma_task is not stable yet. It also bounds the rare right answer of a task
    that is almost never solved; the advantages of such a group do not sum to 0. (Its code does not clip: it
    divides such a group by its own std.)
    """
    if std <= 0:
        raise ValueError(
            f"the task's standard deviation is {std}, though rewards of one group differ: {rewards}"
        )
    return [max(-limit, min(limit, d / std)) for d in no_std(rewards, lengths)]

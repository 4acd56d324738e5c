"""A step's metrics: sums and counts of one process, which are joined over processes when they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor

from core.metrics import Metric, joined, largest, mean, same, total
from engines.rollout import Rollout
from engines.samples import Group
from environments.types import OverTurn
from rl.advantages import OverTurnMask, baseline_rewards, has_signal, scored_tokens
from rl.prompts.sampling import PromptSampler, result_of
from rl.update.correction import Correction
from rl.update.packing import PackedBatch
from rl.update.policy_gradient import UpdateOutput


def sample_metrics(groups: Sequence[Group]) -> dict[str, Metric]:
    """Of all samples, together and by task: reward, component values, length, share in the grammar.

    Samples without a reward are left out of its mean and counted as `rollouts/unscored`.
    """
    metrics: dict[str, Metric] = {}
    samples = [sample for group in groups for sample in group.samples]
    for task in (None, *dict.fromkeys(sample.row["task"] for sample in samples)):
        chosen = [sample for sample in samples if task in (None, sample.row["task"])]
        suffix = task or "mean"
        metrics[f"reward/{suffix}"] = mean(s.score.reward for s in chosen)
        metrics[f"length/{suffix}"] = mean(sum(s.rollout.loss_mask) for s in chosen)
        metrics[f"in_grammar/{suffix}"] = mean(s.score.in_grammar for s in chosen)
        if task is not None:
            for name in dict.fromkeys(name for s in chosen for name in s.score.components):
                metrics[f"component/{task}/{name}"] = mean(s.score.components.get(name) for s in chosen)
    metrics["tokens/sampled"] = total(sum(sum(s.rollout.loss_mask) for s in samples))
    metrics["rollouts/cut_off"] = mean(s.rollout.finish == "length" for s in samples)
    metrics["rollouts/unscored"] = total(sum(s.score.reward is None for s in samples))
    return metrics | episode_metrics([s.rollout for s in samples])


def episode_metrics(rollouts: Sequence[Rollout]) -> dict[str, Metric]:
    """Of episodes: turns and observed images of each, share of calls that failed, share of episodes over a budget, by budget.
    Empty if there are no episodes."""
    episodes = [rollout for rollout in rollouts if rollout.turns]
    if not episodes:
        return {}
    turns = [turn for rollout in episodes for turn in rollout.turns]
    answered = [turn for turn in turns if turn.call is not None or turn.error is not None]
    metrics = {
        "turns/mean": mean(len(rollout.turns) for rollout in episodes),
        "turns/most": largest(*(float(len(rollout.turns)) for rollout in episodes)),
        "turns/images": mean(
            sum(not isinstance(part, str) for turn in rollout.turns for part in turn.observation)
            for rollout in episodes
        ),
        "turns/failed_calls": mean(turn.error is not None for turn in answered),
        "over_turn/share": mean(rollout.finish == "over_turn" for rollout in episodes),
    }
    for budget in get_args(OverTurn):
        metrics[f"over_turn/{budget}"] = mean(rollout.over_turn == budget for rollout in episodes)
    return metrics


def group_metrics(
    drawn: Sequence[Group],
    batch: Sequence[Group],
    rounds: int,
    sampler: PromptSampler,
    over_turn: OverTurnMask = "completed",
) -> dict[str, Metric]:
    """Of the groups of a step. drawn: all of this process; batch: those of them that the gradient is taken over. rounds:
    times prompts were drawn, on every process.

    By task: `groups/zero_signal/…` of the groups drawn; `advantage_scale/…`, the mean |A_i| over the samples of the batch that
    have an advantage.
    """
    results = [result_of(baseline_rewards(group, over_turn)) for group in drawn]
    tokens = [scored_tokens(group, over_turn) for group in batch]
    signals = [has_signal(baseline_rewards(group, over_turn)) for group in batch]
    with_signal = [n for n, signal in zip(tokens, signals, strict=True) if signal]
    by_task: dict[str, Metric] = {}
    for task in dict.fromkeys(group.row["task"] for group in drawn):
        of_task = [r for r, group in zip(results, drawn, strict=True) if group.row["task"] == task]
        by_task[f"groups/zero_signal/{task}"] = mean(result != "signal" for result in of_task)
    for task in dict.fromkeys(group.row["task"] for group in batch):
        advantages = [a for group in batch if group.row["task"] == task for a in group.advantages]
        by_task[f"advantage_scale/{task}"] = mean(None if a is None else abs(a) for a in advantages)
    return by_task | {
        "groups/drawn": total(len(drawn)),
        "groups/rounds": same(rounds),
        "groups/zero_signal": mean(result != "signal" for result in results),
        "groups/solved": mean(result == "solved" for result in results),
        "groups/easy_pool": same(sampler.easy_count),
        "rows/left_out": same(sampler.left_out_count),
        "tokens/signal": Metric("mean", sum(with_signal), sum(tokens)),
    }


class UpdateMetrics:
    """Metrics of the update, over a step's micro-batches on this process.

    ranks: number of processes. correction: the importance weights of the update, None for none.
    """

    def __init__(self, ranks: int, correction: Correction | None) -> None:
        self.batches: list[PackedBatch] = []
        self.logprobs: list[tuple[Tensor, ...]] = []
        self._ranks = ranks
        self._correction = correction
        self._parts: list[dict[str, Metric]] = []

    def add(self, batch: PackedBatch, out: UpdateOutput) -> None:
        """Take in a micro-batch, once it is computed."""
        self.batches.append(batch)
        self.logprobs.append(out.logprobs)
        part = {
            "loss": total(out.loss.item() / self._ranks),  # its share of the loss of the step
            "entropy": Metric("mean", out.entropy * out.tokens, out.tokens),
        }
        for task in dict.fromkeys(batch.tasks):
            chosen = [i for i, other in enumerate(batch.tasks) if other == task]
            total_entropy = sum(float(out.entropies[i].double().sum()) for i in chosen)
            tokens = sum(sum(batch.rollouts[i].loss_mask) for i in chosen)
            part[f"entropy/{task}"] = Metric("mean", total_entropy, tokens)
        if self._correction is not None:
            part |= correction_metrics(self._correction, batch.rollouts, out.logprobs)
        self._parts.append(part)

    @property
    def metrics(self) -> dict[str, Metric]:
        """`loss`, `entropy`, also by task, and with a correction `correction/…`."""
        return joined(self._parts)


def correction_metrics(
    correction: Correction, rollouts: Sequence[Rollout], logprobs: Sequence[Tensor]
) -> dict[str, Metric]:
    """The importance weights of all trained tokens: mean and largest before they are truncated, and the share that is.

    logprobs: the trainer's, one tensor for each rollout.
    """
    ratios = [torch.zeros(0)]
    for rollout, trainer in zip(rollouts, logprobs, strict=True):
        trained = torch.tensor(rollout.loss_mask, dtype=torch.bool)
        differences = (trainer - torch.tensor(rollout.logprobs))[trained]
        ratios.append(correction.ratios(differences, torch.zeros(len(differences), dtype=torch.long)))
    w = torch.cat(ratios).double()
    return {
        "correction/mean": Metric("mean", float(w.sum()), len(w)),
        "correction/max": largest(*([float(w.max())] if len(w) else [])),
        "correction/truncated": Metric("mean", float((w > correction.limit).sum()), len(w)),
    }


def seconds_metrics(seconds: Mapping[str, float]) -> dict[str, Metric]:
    """Wall-clock time by phase, over processes that of the slowest. seconds: by phase, and under `step` that of the whole
    step; what no phase accounts for is `seconds/rest`."""
    step = seconds["step"]
    phases = {name: s for name, s in seconds.items() if name != "step"}
    parts = {**phases, "rest": step - sum(phases.values()), "step": step}
    return {f"seconds/{phase}": largest(s) for phase, s in parts.items()}

"""The sentences of the page: headline, key figures, result of the on-policy check, how the gallery was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.page.run_folder import AnswerGroup, RunFolder
from evaluation.page.values import LABELS, column, duration, gap_limits, is_number, mean_of, number
from evaluation.tables import OVERALL, difference_of, entry_of


def headline(run: RunFolder, evaluation: Mapping[str, Any]) -> list[str]:
    """Sentences on what was trained and how the mean reward changed."""
    sentences = []
    trained = [name for name in evaluation.get("checkpoints", {}) if name != "untrained"]
    if run.metrics or "rl" in trained:
        before = "first from written examples (SFT), then " if run.sft_metrics or "sft" in trained else ""
        sentences.append(
            f"A vision-language model was trained {before}by reinforcement learning (GRPO): it answered each question several "
            "times, programs scored the answers, and answers better than their group's average became more likely. vLLM "
            "sampled every answer from the same weights that were then updated."
        )
    if evaluation:
        names = list(evaluation["checkpoints"])
        overall = {name: entry_of(evaluation, name, "greedy", OVERALL) or {} for name in names}
        reached = [
            f"{overall[n]['mean']:.2f} {LABELS.get(n, n)}"
            for n in names
            if overall[n].get("mean") is not None
        ]
        rows = max((entry.get("n") or 0 for entry in overall.values()), default=0)
        on = f"On {rows:,} held-out questions" if rows else "On held-out questions"
        text = f"{on} the mean reward (0 = wrong, 1 = right) is {', '.join(reached)}."
        change = difference_of(evaluation, names[-2], names[-1], OVERALL) if len(names) > 1 else None
        if change and change.get("mean") is not None:
            low, high = change["ci95"]
            text += f" The last stage of training changed it by {change['mean']:+.2f} (95 % confidence interval: {low:+.2f} to {high:+.2f}, same questions)."
        sentences.append(text)
    if run.metrics and not evaluation:
        last = run.metrics[-1]
        sentences.append(
            f"{len(run.metrics)} steps so far, mean reward of the last one {number(last.get('reward/mean'))}; not evaluated yet."
        )
    return sentences


def tiles(run: RunFolder, evaluation: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Key figures: the mean reward of each checkpoint, time, steps and log-prob gap, as far as they are known."""
    tiles: list[dict[str, Any]] = []
    names = list(evaluation.get("checkpoints", {}))
    for name in names:
        entry = entry_of(evaluation, name, "greedy", OVERALL)
        if entry and entry.get("mean") is not None:
            low, high = entry.get("ci95") or (None, None)
            note = f"mean reward, {low:.2f} to {high:.2f}" if low is not None else "mean reward"
            last = name == names[-1] and len(names) > 1
            tiles.append(_tile(labels[name], f"{entry['mean']:.2f}", note, strong=last))
    seconds = run.summary.get("seconds_total")
    if seconds is not None:
        tiles.append(_tile("Whole run", duration(seconds)))
    grpo = run.summary.get("grpo", {})
    steps = grpo.get("steps", len(run.metrics) or None)
    if steps is not None:
        spent = sum(v for v in (grpo.get("seconds") or {}).values() if v is not None)
        tiles.append(_tile("GRPO steps", str(steps), f"in {duration(spent)}" if spent else None))
    gap = grpo.get("mean_logprob_gap", mean_of(run.metrics, "logprob_gap/mean"))
    if gap is not None:
        tiles.append(_tile("vLLM–trainer gap", f"{gap:.1e}", "mean difference of log-probs"))
    return tiles


def _tile(label: str, value: str, note: str | None = None, *, strong: bool = False) -> dict[str, Any]:
    return {"label": label, "value": value, "note": note, "strong": strong}


def gap_sentence(run: RunFolder) -> tuple[str, bool] | None:
    """Result of the on-policy check as text, and whether all steps were within the limits; None if it was not logged."""
    means, largest = (column(run.metrics, f"logprob_gap/{kind}") for kind in ("mean", "max"))
    if not means or not largest:
        return None
    limits = gap_limits(run)
    measured = [record for record in run.metrics if "logprob_gap/mean" in record]
    over = sum(
        not (is_number(one[f"logprob_gap/{kind}"]) and one[f"logprob_gap/{kind}"] <= limits[kind])
        for one in measured
        for kind in ("mean", "max")
    )
    result = (
        f"above a limit (or not a number) {over} times in {len(measured)} steps: these steps were not on-policy"
        if over
        else f"all {len(measured)} steps with an update stayed below both limits"
    )
    text = (
        "On-policy check: the trainer recomputes the log-probability of every token vLLM sampled. The mean gap of a step was "
        f"at most {max(means):.1e} (limit {_limit(limits['mean'])}), the largest of any token {max(largest):.1e} "
        f"(limit {_limit(limits['max'])}); {result}."
    )
    return text, not over


def _limit(value: float) -> str:
    return f"{value:.0e}" if math.isfinite(value) else "none"


def gallery_about(groups: Sequence[AnswerGroup], answers: int, rollouts: int) -> str:
    """How many answers and rollouts of all are shown, and how they were chosen."""
    shown = {kind: sum(len(g.members) for g in groups if g.kind == kind) for kind in ("held-out", "training")}
    parts = []
    if shown["held-out"]:
        parts.append(
            f"{shown['held-out']} of {answers:,} held-out answers: for each task the row with the largest gain, the largest loss and "
            "two drawn at random, under each checkpoint (greedy)."
        )
    if shown["training"]:
        parts.append(
            f"{shown['training']} of {rollouts:,} training rollouts: the first prompts of each task at an early, a middle and a late "
            "step, not chosen by reward. The rollouts of a prompt form a group; the advantage says how far each is above the group's mean."
        )
    return " ".join(parts)

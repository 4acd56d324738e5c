"""Curves of the page: RL by step, SFT by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from evaluation.page.charts import Series, area_chart, line_chart
from evaluation.page.run_folder import RunFolder
from evaluation.page.values import column, gap_limits, is_number, values

TASK_COLOURS = 8  # tasks take the first places of the style sheet's palette


def rl_charts(run: RunFolder, step_tasks: Sequence[str], tasks: Sequence[str]) -> list[Markup]:
    """Curves over GRPO steps; `step_tasks` are the tasks in the log, `tasks` those of the page (for their colours)."""
    metrics = run.metrics
    if not metrics:
        return []
    steps = [float(record.get("step", i + 1)) for i, record in enumerate(metrics)]

    def one(name: str, key: str, colour: int = 0, peaks: bool = False) -> Series:
        return Series(name, values(metrics, key), colour, peaks)

    def per_task(kind: str) -> list[Series]:
        return [one(task, f"{kind}/{task}", tasks.index(task) % TASK_COLOURS) for task in step_tasks]

    limits = gap_limits(run)
    phases = [
        phase
        for phase in ("generate", "reward", "update", "sync", "rest")
        if any(f"seconds/{phase}" in r for r in metrics)
    ]
    charts = [
        line_chart(
            "Reward by task",
            "Mean reward of the sampled answers (T = 1).",
            steps,
            per_task("reward"),
            span=_reward_span(metrics, step_tasks),
        ),
        line_chart(
            "Reward over all rollouts", "Mean over the whole batch.", steps, [one("reward", "reward/mean")]
        ),
        line_chart("Length by task", "Tokens of an answer.", steps, per_task("length")),
        line_chart(
            "Answers in the grammar",
            "Share of answers that keep to the stages.",
            steps,
            [one("share", "in_grammar/mean", 2)],
            span=(0.0, 1.0),
        ),
        line_chart(
            "Groups without signal",
            "Share of prompts whose answers all got the same reward: nothing to learn from them.",
            steps,
            [one("share", "groups/zero_signal", 7)],
            span=(0.0, 1.0),
        ),
        line_chart(
            "vLLM against trainer",
            "Gap of log-probabilities, mean and largest of a step; dashed: limits.",
            steps,
            [one("mean gap", "logprob_gap/mean", 0), one("largest gap", "logprob_gap/max", 1, True)],
            log=True,
            limits=[
                (f"limit of the {'mean' if k == 'mean' else 'largest'}", v)
                for k, v in limits.items()
                if is_number(v)
            ],
            smooth=False,
        ),
        line_chart(
            "Gradient norm",
            "Before clipping.",
            steps,
            [one("gradient norm", "grad_norm", 3)],
            log=_spans_decades(metrics, "grad_norm"),
        ),
        line_chart("Entropy", "Of the policy at each token, in nats.", steps, [one("entropy", "entropy", 4)]),
        area_chart(
            "Seconds a step",
            "Stacked by phase.",
            steps,
            [one(phase, f"seconds/{phase}", (0, 5, 1, 2, 7)[i % 5]) for i, phase in enumerate(phases)],
        ),
        line_chart(
            "Tokens per second",
            "Sampled tokens, while generating.",
            steps,
            [one("tokens/s", "tokens_per_second", 2)],
        ),
    ]
    return [chart for chart in charts if chart]


def sft_charts(run: RunFolder) -> list[Markup]:
    """Losses of the SFT log: `loss` and `eval_loss`, and `loss/<stage>` by stage."""
    by_step: dict[float, dict[str, Any]] = {}
    for record in run.sft_metrics:  # training and held-out losses come on lines of their own
        by_step.setdefault(float(record["step"]), {}).update(record)
    steps, records = list(by_step), list(by_step.values())
    stages = list(dict.fromkeys(key for record in records for key in record if key.startswith("loss/")))
    whole = [
        Series("training", values(records, "loss"), 0),
        Series("held out", values(records, "eval_loss"), 1),
    ]
    by_stage = [
        Series(key[5:].lower(), values(records, key), i % TASK_COLOURS) for i, key in enumerate(stages)
    ]
    log = _spans_decades(records, "loss")
    charts = [
        line_chart("Loss", "Cross-entropy of the trace's tokens.", steps, whole, log=log),
        line_chart("Loss by stage", "The same, of each stage alone.", steps, by_stage, log=log),
    ]
    return [chart for chart in charts if chart]


def _reward_span(metrics: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> tuple[float, float] | None:
    """0 to 1 for rewards that keep to it; the data's own range for others."""
    seen = [v for task in tasks for v in column(metrics, f"reward/{task}")]
    return (0.0, 1.0) if seen and min(seen) >= 0 and max(seen) <= 1 else None


def _spans_decades(records: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [v for v in column(records, key) if v > 0]
    return bool(values) and max(values) > 30 * min(values)

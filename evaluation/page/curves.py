"""The charts of the report: RL by step, SFT by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from evaluation.page.charts import Series, area_chart, line_chart
from evaluation.page.run_folder import RunFolder
from evaluation.page.values import column, gap_limits, is_number, values

TASK_COLOURS = 8  # the style sheet's palette starts with the colours of tasks
PHASES = ("generate", "reward", "update", "sync", "rest")  # of one step, in order
PHASE_COLOURS = (0, 5, 1, 2, 7)


@dataclass(frozen=True)
class _Log:
    """The records of metrics.jsonl and their step numbers."""

    records: Sequence[Mapping[str, Any]]
    steps: Sequence[float]

    def curve(self, name: str, key: str, colour: int = 0, peaks: bool = False) -> Series:
        return Series(name, values(self.records, key), colour, peaks)


def budget_charts(evaluation: Mapping[str, Any], labels: Mapping[str, str]) -> list[Markup]:
    """Charts of the reward against the budget of turns, one for each data set, with a curve for each checkpoint."""
    studies: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, sets in (evaluation.get("episodes") or {}).items():
        for data_set, one in sets.items():
            studies.setdefault(data_set, {})[name] = one["by_budget"]
    charts = []
    for data_set, by_name in studies.items():
        budgets = list(next(iter(by_name.values())))
        curves = [
            Series(labels.get(name, name), tuple(found[b]["mean"] for b in budgets), i % TASK_COLOURS)
            for i, (name, found) in enumerate(by_name.items())
        ]
        title, note = (
            f"Reward by budget of turns: {data_set}",
            "Mean reward of greedy episodes; 0 for those that go over.",
        )
        charts.append(
            line_chart(
                title, note, [float(b) for b in budgets], curves, span=(0, 1), x_label="turns", smooth=False
            )
        )
    return [chart for chart in charts if chart]


def rl_charts(run: RunFolder, step_tasks: Sequence[str], tasks: Sequence[str]) -> list[Markup]:
    """Charts over GRPO steps. `step_tasks`: tasks in the log; `tasks`: all tasks of the page, which set the colours."""
    if not run.metrics:
        return []
    log = _Log(run.metrics, [float(record.get("step", i + 1)) for i, record in enumerate(run.metrics)])
    colours = {task: tasks.index(task) % TASK_COLOURS for task in step_tasks}
    charts = [
        *_answer_charts(log, colours),
        *_policy_charts(log, gap_limits(run)),
        *_task_charts(log, colours),
        *_speed_charts(log),
    ]
    return [chart for chart in charts if chart]


def _answer_charts(log: _Log, colours: Mapping[str, int]) -> list[Markup]:
    """Rewards, lengths and grammar of the sampled answers. `colours`: by task."""

    def by_task(kind: str) -> list[Series]:
        return [log.curve(task, f"{kind}/{task}", colour) for task, colour in colours.items()]

    return [
        line_chart(
            "Reward by task",
            "Mean reward of the sampled answers (T = 1).",
            log.steps,
            by_task("reward"),
            span=_reward_span(log.records, list(colours)),
        ),
        line_chart(
            "Reward over all rollouts",
            "Mean over the whole batch.",
            log.steps,
            [log.curve("reward", "reward/mean")],
        ),
        line_chart("Length by task", "Tokens per answer.", log.steps, by_task("length")),
        line_chart(
            "Answers in the grammar",
            "Share of answers that follow the stage grammar.",
            log.steps,
            [log.curve("share", "in_grammar/mean", 2)],
            span=(0.0, 1.0),
        ),
        line_chart(
            "Groups without signal",
            "Share of prompts whose answers all got the same reward: nothing to learn from them.",
            log.steps,
            [log.curve("share", "groups/zero_signal", 7)],
            span=(0.0, 1.0),
        ),
    ]


def _policy_charts(log: _Log, limits: Mapping[str, float]) -> list[Markup]:
    """Log-prob gap, gradient norm and entropy. `limits`: of the mean and max gap, in nats."""
    return [
        line_chart(
            "vLLM against trainer",
            "Gap of log-probabilities, mean and largest of each step; dashed: limits.",
            log.steps,
            [
                log.curve("mean gap", "logprob_gap/mean", 0),
                log.curve("largest gap", "logprob_gap/max", 1, peaks=True),
            ],
            log=True,
            limits=[
                (f"limit of the {'mean' if kind == 'mean' else 'largest'}", limit)
                for kind, limit in limits.items()
                if is_number(limit)
            ],
            smooth=False,
        ),
        line_chart(
            "Gradient norm",
            "Before clipping.",
            log.steps,
            [log.curve("gradient norm", "grad_norm", 3)],
            log=_spans_decades(log.records, "grad_norm"),
        ),
        line_chart(
            "Entropy",
            "Of the policy at each token, in nats.",
            log.steps,
            [log.curve("entropy", "entropy", 4)],
        ),
    ]


def _task_charts(log: _Log, colours: Mapping[str, int]) -> list[Markup]:
    """Distance to a teacher, and how the tasks' gradients agree, where the run measures them."""
    start, end = "interference/cosine/", "/all"
    cosines = dict.fromkeys(
        key for record in log.records for key in record if key.startswith(start) and key.endswith(end)
    )
    pairs = [
        Series(
            key.removeprefix(start).removesuffix(end), values(log.records, key), i % TASK_COLOURS, dots=True
        )
        for i, key in enumerate(cosines)
    ]
    return [
        line_chart(
            "Reverse KL to the teacher",
            "Estimate per sampled token, in nats.",
            log.steps,
            [log.curve(task, f"reverse_kl/{task}", colour) for task, colour in colours.items()],
        ),
        line_chart(
            "Agreement of the tasks",
            "Cosine of the gradients of each pair of tasks on the same step's rollouts.",
            log.steps,
            pairs,
            span=(-1.0, 1.0),
            smooth=False,
        ),
    ]


def _speed_charts(log: _Log) -> list[Markup]:
    """Time per step by phase, and generation speed."""
    phases = [phase for phase in PHASES if any(f"seconds/{phase}" in record for record in log.records)]
    return [
        area_chart(
            "Seconds per step",
            "Stacked by phase.",
            log.steps,
            [
                log.curve(phase, f"seconds/{phase}", PHASE_COLOURS[i % len(PHASE_COLOURS)])
                for i, phase in enumerate(phases)
            ],
        ),
        line_chart(
            "Tokens per second",
            "Sampled tokens, while generating.",
            log.steps,
            [log.curve("tokens/s", "tokens_per_second", 2)],
        ),
    ]


def sft_charts(run: RunFolder) -> list[Markup]:
    """Loss charts of the SFT log: `loss` and `eval_loss`, and `loss/<stage>` by stage."""
    by_step: dict[float, dict[str, Any]] = {}
    for record in run.sft_metrics:  # training and held-out losses are logged on separate lines
        by_step.setdefault(float(record["step"]), {}).update(record)
    steps, records = list(by_step), list(by_step.values())
    keys = list(dict.fromkeys(key for record in records for key in record if key.startswith("loss/")))
    whole = [
        Series("training", values(records, "loss"), 0),
        Series("held out", values(records, "eval_loss"), 1),
    ]
    by_stage = [
        Series(key.removeprefix("loss/").lower(), values(records, key), i % TASK_COLOURS)
        for i, key in enumerate(keys)
    ]
    log = _spans_decades(records, "loss")
    charts = [
        line_chart("Loss", "Cross-entropy of the trace's tokens.", steps, whole, log=log),
        line_chart("Loss by stage", "Cross-entropy of each stage's tokens.", steps, by_stage, log=log),
    ]
    return [chart for chart in charts if chart]


def _reward_span(metrics: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> tuple[float, float] | None:
    """(0, 1) if all rewards lie in it, else None (the range of the data)."""
    seen = [v for task in tasks for v in column(metrics, f"reward/{task}")]
    return (0.0, 1.0) if seen and min(seen) >= 0 and max(seen) <= 1 else None


def _spans_decades(records: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [v for v in column(records, key) if v > 0]
    return bool(values) and max(values) > 30 * min(values)

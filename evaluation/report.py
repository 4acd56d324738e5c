"""The run report: one HTML file that shows what a run did, and loads nothing.

    python -m evaluation.report runs/demo

reads the run folder's files (`evaluation.run_folder` lists them; most are optional) and writes `report.html` beside
them: the run in plain words, before and after by task, curves of the training, and a gallery of answers drawn on their
images and videos. Everything a model wrote is escaped; a content security policy allows the page's own script alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from evaluation.charts import Series, area_chart, interval_chart, line_chart
from evaluation.gallery import group_view
from evaluation.pictures import Shelf
from evaluation.run_folder import RunFolder, pick_held_out_groups, pick_training_groups, read_run_folder
from evaluation.tables import OVERALL, difference_of, entry_of, percent, task_names

TEMPLATES = Path(__file__).parent / "templates"
MEDIA_BUDGET = 3_000_000  # bytes of images in the page, before base64: with the texts it stays below 6 MB
GAP_LIMITS = {"mean": 1e-4, "max": 5e-2}  # fp32; a run's own limits, where summary.json has them, win
LABELS = {"untrained": "untrained", "sft": "after SFT", "rl": "after RL"}  # in running text
CHECKPOINT_COLOURS, CHECKPOINT_COLOUR_COUNT, TASK_COLOURS = 8, 4, 8  # places in the style sheet's palette
NOT_TASKS = {"mean", "std", "min", "max", "total", "overall"}  # `reward/<name>` that is no task


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` for a run folder (finished or still running) and return its path.

    Raises:
        RunFolderError: The folder holds none of the main files, or one of them is broken (file and line are named).
    """
    run = read_run_folder(run_dir)
    evaluation = run.evaluation or _evaluation_from_summary(run.summary)
    names = list(evaluation.get("checkpoints", {}))
    labels = {name: _label(name) for name in names}
    steps_tasks = sorted(
        {key[7:] for record in run.metrics for key in record if key.startswith("reward/")} - NOT_TASKS
    )
    tasks = sorted({*steps_tasks, *(task_names(evaluation) if evaluation else ())})

    shelf = Shelf(run.path.resolve(), MEDIA_BUDGET)
    held_out, answers = pick_held_out_groups(run)
    training, rollouts = pick_training_groups(run)
    groups = [*held_out, *training]
    for group in groups:
        for member in group.members:
            member["_root"] = str(shelf.root)
    views = [group_view(group, shelf, labels) for group in groups]
    css, script = ((TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    page = _environment().get_template("report.html.jinja").render(
        name=run.path.resolve().name,
        headline=_headline(run, evaluation),
        tiles=_tiles(run, evaluation, labels),
        notes=run.notes,
        results=_results(evaluation, labels, "greedy") if evaluation else None,
        sampled=_results(evaluation, labels, "sampled") if any(c.get("sampled") for c in evaluation.get("checkpoints", {}).values()) else None,
        rl_charts=_rl_charts(run, steps_tasks, tasks),
        gap_sentence=_gap_sentence(run),
        sft_charts=_sft_charts(run),
        groups=views,
        card_count=sum(len(view["members"]) for view in views),
        gallery_about=_gallery_about(groups, answers, rollouts),
        kinds=sorted({group.kind for group in groups}),
        tasks=sorted({group.task for group in groups}),
        whens=[{"value": name, "label": f"held-out, {LABELS.get(name, name)}"} for name in names if held_out]
        + [{"value": str(step), "label": f"training step {step}"} for step in sorted({g.step for g in training if g.step is not None})],
        card=_data_card(run.data_card),
        files=[file.name for file in run.files.values()],
        definitions=shelf.definitions,
        css=Markup(css),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    target = run.path / "report.html"
    target.write_text(page, encoding="utf-8")
    return target


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


# ------------------------------------------------------------------------------------------------------- plain words


def _headline(run: RunFolder, evaluation: Mapping[str, Any]) -> list[str]:
    sentences = []
    trained = [name for name in evaluation.get("checkpoints", {}) if name != "untrained"]
    if run.metrics or "rl" in trained:
        sentences.append(
            "A vision-language model learned first from written examples (SFT), then by trial and error (GRPO): it answered "
            "each question several times, programs checked the answers, and those better than their group's average became "
            "more likely. vLLM sampled every answer from exactly the weights that were then updated."
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
            text += f" The last step changed it by {change['mean']:+.2f} (95 % confidence: {low:+.2f} to {high:+.2f}, same questions)."
        sentences.append(text)
    if run.metrics and not evaluation:
        last = run.metrics[-1]
        sentences.append(
            f"{len(run.metrics)} steps so far, mean reward of the last one {_number(last.get('reward/mean'))}; not evaluated yet."
        )
    return sentences


def _tiles(run: RunFolder, evaluation: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = []
    names = list(evaluation.get("checkpoints", {}))
    for name in names:
        entry = entry_of(evaluation, name, "greedy", OVERALL)
        if entry and entry.get("mean") is not None:
            low, high = entry.get("ci95") or (None, None)
            note = f"mean reward, {low:.2f} to {high:.2f}" if low is not None else "mean reward"
            tiles.append(
                {
                    "label": labels[name],
                    "value": f"{entry['mean']:.2f}",
                    "note": note,
                    "strong": name == names[-1] and len(names) > 1,
                }
            )
    seconds = run.summary.get("seconds_total")
    if seconds is not None:
        tiles.append({"label": "Whole run", "value": _duration(seconds), "note": None, "strong": False})
    grpo = run.summary.get("grpo", {})
    steps = grpo.get("steps", len(run.metrics) or None)
    if steps is not None:
        spent = sum(v for v in (grpo.get("seconds") or {}).values() if v is not None)
        tiles.append(
            {
                "label": "GRPO steps",
                "value": str(steps),
                "note": f"in {_duration(spent)}" if spent else None,
                "strong": False,
            }
        )
    gap = grpo.get("mean_logprob_gap", _mean(run.metrics, "logprob_gap/mean"))
    if gap is not None:
        tiles.append(
            {
                "label": "vLLM–trainer gap",
                "value": f"{gap:.1e}",
                "note": "mean difference of log-probs",
                "strong": False,
            }
        )
    return tiles


def _gap_sentence(run: RunFolder) -> str | None:
    means, largest = (_column(run.metrics, f"logprob_gap/{kind}") for kind in ("mean", "max"))
    if not means or not largest:
        return None
    limits = _gap_limits(run)
    over = sum(m > limits["mean"] or x > limits["max"] for m, x in zip(means, largest, strict=False))
    verdict = (
        f"{over} of {len(means)} steps were above a limit"
        if over
        else f"all {len(means)} steps stayed below both limits"
    )
    return (
        f"On-policy check: the trainer recomputes the log-probability of every token vLLM sampled. The mean gap of a step was at "
        f"most {max(means):.1e} (limit {limits['mean']:.0e}), the largest of any token {max(largest):.1e} (limit {limits['max']:.0e}); {verdict}."
    )


def _gallery_about(groups: Sequence[Any], answers: int, rollouts: int) -> str:
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
            "step, not chosen by reward. All rollouts of a prompt form its group; the advantage says how far above the group's mean each is."
        )
    return " ".join(parts)


# ------------------------------------------------------------------------------------------------------------- tables


def _results(evaluation: Mapping[str, Any], labels: Mapping[str, str], mode: str) -> dict[str, Any]:
    names = list(evaluation["checkpoints"])
    colours = {name: CHECKPOINT_COLOURS + i % CHECKPOINT_COLOUR_COUNT for i, name in enumerate(names)}
    settings = evaluation.get("settings") or {}
    has_difference = mode == "greedy" and len(names) > 1 and bool(evaluation.get("differences"))
    rows = []
    for task in [*task_names(evaluation), OVERALL]:
        entries = {name: entry_of(evaluation, name, mode, task) for name in names}
        change = difference_of(evaluation, names[-2], names[-1], task) if has_difference else None
        rows.append(
            {
                "task": "all rows" if task == OVERALL else task,
                "total": task == OVERALL,
                "n": max((entry.get("n") or 0 for entry in entries.values() if entry), default=0) or "–",
                "cells": [_value(entry) for entry in entries.values()],
                "graph": interval_chart(
                    [(labels[name], colours[name], entry) for name, entry in entries.items()]
                ),
                "difference": _difference(change),
            }
        )
    limit = f", at most {settings['max_tokens']} tokens" if settings.get("max_tokens") else ""
    how = (
        "most likely token each time (greedy)"
        if mode == "greedy"
        else f"{settings.get('samples', '')} samples a row at temperature 1"
    )
    return {
        "title": f"Mean reward by task, {how}{limit}",
        "about": "Mean reward on held-out rows with its 95 % confidence interval; below it, how many answers kept to the four-stage grammar.",
        "checkpoints": [{"label": labels[name], "colour": colours[name]} for name in names],
        "difference": f"{labels[names[-1]]} − {LABELS.get(names[-2], names[-2])}" if has_difference else None,
        "rows": rows,
    }


def _value(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not entry or entry.get("mean") is None:
        return None
    low, high = entry.get("ci95") or (None, None)
    grammar = entry.get("in_grammar")
    return {
        "mean": f"{entry['mean']:.2f}",
        "ci": "" if low is None or high is None else f"{low:.2f} – {high:.2f}",
        "grammar": None if grammar is None else percent(grammar),
    }


def _difference(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not entry or entry.get("mean") is None:
        return None
    low, high = entry["ci95"]
    sign = "up" if low > 0 else "down" if high < 0 else "flat"
    words = {"up": "better", "down": "worse", "flat": "no clear change"}
    return {
        "mean": f"{entry['mean']:+.2f}".replace("-", "−"),
        "ci": f"{low:+.2f} to {high:+.2f}".replace("-", "−"),
        "sign": sign,
        "verdict": words[sign],
    }


def _evaluation_from_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an evaluation that summary.json holds, for run folders without eval.json."""
    overall, intervals = summary.get("overall") or {}, summary.get("overall_ci95") or {}
    checkpoints = {}
    for name, tasks in (summary.get("eval") or {}).items():
        total = {
            "mean": overall.get(name),
            "ci95": intervals.get(name),
            "n": sum(entry["n"] for entry in tasks.values()),
        }
        checkpoints[name] = {"greedy": {"tasks": tasks, "overall": total}}
    return (
        {
            "checkpoints": checkpoints,
            "differences": summary.get("differences") or [],
            "settings": summary.get("settings") or {},
        }
        if checkpoints
        else {}
    )


def _data_card(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Any JSON object as text and tables: strings as text, mappings and lists of mappings as tables."""
    if not card:
        return None
    text, tables, facts = [], [], []
    for key, value in card.items():
        title = str(key).replace("_", " ").capitalize()
        if key in ("text", "description", "about"):
            text.append(str(value))
        elif isinstance(value, Mapping) and value and all(isinstance(v, Mapping) for v in value.values()):
            columns = list(dict.fromkeys(c for v in value.values() for c in v))
            body = [[name, *(_plain(v.get(c)) for c in columns)] for name, v in value.items()]
            tables.append(
                {"title": title, "header": ["", *(c.replace("_", " ") for c in columns)], "body": body}
            )
        elif isinstance(value, Mapping) and value:
            tables.append(
                {
                    "title": title,
                    "header": ["", ""],
                    "body": [[str(k).replace("_", " "), _plain(v)] for k, v in value.items()],
                }
            )
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            columns = list(dict.fromkeys(c for v in value for c in v))
            tables.append(
                {
                    "title": title,
                    "header": [c.replace("_", " ") for c in columns],
                    "body": [[_plain(v.get(c)) for c in columns] for v in value],
                }
            )
        else:
            facts.append([title, _plain(value)])
    if facts:
        tables.insert(0, {"title": "Facts", "header": ["", ""], "body": facts})
    return {"text": " ".join(text), "tables": tables}


# ------------------------------------------------------------------------------------------------------------- curves


def _rl_charts(run: RunFolder, step_tasks: Sequence[str], tasks: Sequence[str]) -> list[Markup]:
    metrics = run.metrics
    if not metrics:
        return []
    steps = [float(record.get("step", i + 1)) for i, record in enumerate(metrics)]
    one = lambda name, key, colour=0, peaks=False: Series(name, _values(metrics, key), colour, peaks)  # noqa: E731
    per_task = lambda kind: [
        one(task, f"{kind}/{task}", tasks.index(task) % TASK_COLOURS) for task in step_tasks
    ]  # noqa: E731
    limits = _gap_limits(run)
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
            limits=[("limit of the mean", limits["mean"]), ("limit of the largest", limits["max"])],
            smooth=False,
        ),
        line_chart(
            "Gradient norm",
            "Before clipping.",
            steps,
            [one("gradient norm", "grad_norm", 3)],
            log=_spans_decades(metrics, "grad_norm"),
        ),
        area_chart(
            "Seconds a step",
            "Stacked by phase.",
            steps,
            [one(phase, f"seconds/{phase}", (0, 5, 1, 2, 7)[i % 5]) for i, phase in enumerate(phases)],
        ),
        line_chart(
            "Tokens per second",
            "Generated, over the whole step.",
            steps,
            [one("tokens/s", "tokens_per_second", 2)],
        ),
    ]
    return [chart for chart in charts if chart]


def _sft_charts(run: RunFolder) -> list[Markup]:
    """Losses of the SFT log: the total one, then one curve per stage (`loss/<stage>` or `loss_<stage>`)."""
    records = [
        record
        for record in run.sft_metrics
        if any(_finite(v) for k, v in record.items() if k.startswith(("loss", "eval_loss")))
    ]
    if not records:
        return []
    steps = [float(record.get("step", record.get("global_step", i + 1))) for i, record in enumerate(records)]
    keys = list(dict.fromkeys(key for record in records for key in record))
    stages = [
        key for key in keys if key.startswith(("loss/", "loss_")) and key not in ("loss/total", "loss/mean")
    ]
    total = next((key for key in ("loss", "loss/total", "loss/mean") if key in keys), None)
    log = bool(total) and _spans_decades(records, str(total))
    whole = [Series("training", _values(records, total), 0)] if total else []
    if "eval_loss" in keys:
        whole.append(Series("held out", _values(records, "eval_loss"), 1))
    charts = [
        line_chart("Loss", "Cross-entropy of the trace's tokens.", steps, whole, log=log),
        line_chart(
            "Loss by stage",
            "The same, of each stage alone.",
            steps,
            [
                Series(key[5:].lower(), _values(records, key), i % TASK_COLOURS)
                for i, key in enumerate(stages)
            ],
            log=log,
        ),
    ]
    return [chart for chart in charts if chart]


def _gap_limits(run: RunFolder) -> dict[str, float]:
    own = (run.summary.get("grpo") or {}).get("logprob_gap_limits") or {}
    return {kind: float(own.get(kind) or limit) for kind, limit in GAP_LIMITS.items()}


def _reward_span(metrics: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> tuple[float, float] | None:
    """0 to 1 for rewards that keep to it; the data's own range for others."""
    seen = [v for task in tasks for v in _column(metrics, f"reward/{task}")]
    return (0.0, 1.0) if seen and min(seen) >= 0 and max(seen) <= 1 else None


def _spans_decades(records: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [v for v in _column(records, key) if v > 0]
    return bool(values) and max(values) > 30 * min(values)


def _values(records: Sequence[Mapping[str, Any]], key: str | None) -> tuple[float | None, ...]:
    return tuple(float(record[key]) if key in record and _finite(record[key]) else None for record in records)  # type: ignore[index]


def _column(records: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [value for value in _values(records, key) if value is not None]


def _mean(records: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = _column(records, key)
    return sum(values) / len(values) if values else None


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any) -> str:
    return f"{value:.2f}" if _finite(value) else "not logged"


def _label(name: str) -> str:
    """Name of a checkpoint as a heading."""
    text = LABELS.get(name, name)
    return text[:1].upper() + text[1:] if name in LABELS else text


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value)
    return str(value)


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `python -m evaluation.report RUN_DIR`."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.report", description="Write report.html for a run folder."
    )
    parser.add_argument(
        "run_dir", type=Path, help="folder with summary.json, metrics.jsonl, rollouts.jsonl, eval.json, …"
    )
    print(write_report(parser.parse_args(argv).run_dir))


if __name__ == "__main__":
    main()

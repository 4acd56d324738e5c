"""Tables of the page: results by task before and after training, and the data card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.page.charts import interval_chart
from evaluation.page.values import LABELS, plain
from evaluation.tables import OVERALL, difference_of, entry_of, percent, task_names

CHECKPOINT_COLOURS, CHECKPOINT_COLOUR_COUNT = 8, 4  # first palette index of checkpoints, and their number


def results_table(evaluation: Mapping[str, Any], labels: Mapping[str, str], mode: str) -> dict[str, Any]:
    """The template's variables for the table of one decoding mode, "greedy" or "sampled"."""
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
        "greedy decoding"
        if mode == "greedy"
        else f"{settings.get('samples', '')} samples per row at temperature 1"
    )
    return {
        "title": f"Mean reward by task, {how}{limit}",
        "about": "Mean reward on held-out rows with its 95 % confidence interval, and the share of answers that follow the four-stage grammar.",
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


def evaluation_from_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation as far as summary.json contains it, for run folders without eval.json."""
    overall, intervals = summary.get("overall") or {}, summary.get("overall_ci95") or {}
    checkpoints = {}
    for name, tasks in (summary.get("eval") or {}).items():
        total = {
            "mean": overall.get(name),
            "ci95": intervals.get(name),
            "n": sum(entry["n"] for entry in tasks.values()),
        }
        checkpoints[name] = {"greedy": {"tasks": tasks, "overall": total}}
    if not checkpoints:
        return {}
    rest = {"differences": summary.get("differences") or [], "settings": summary.get("settings") or {}}
    return {"checkpoints": checkpoints, **rest}


def data_card(card: Mapping[str, Any]) -> dict[str, Any] | None:
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
            body = [[name, *(plain(v.get(c)) for c in columns)] for name, v in value.items()]
            tables.append(
                {"title": title, "header": ["", *(c.replace("_", " ") for c in columns)], "body": body}
            )
        elif isinstance(value, Mapping) and value:
            tables.append(
                {
                    "title": title,
                    "header": ["", ""],
                    "body": [[str(k).replace("_", " "), plain(v)] for k, v in value.items()],
                }
            )
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            columns = list(dict.fromkeys(c for v in value for c in v))
            tables.append(
                {
                    "title": title,
                    "header": [c.replace("_", " ") for c in columns],
                    "body": [[plain(v.get(c)) for c in columns] for v in value],
                }
            )
        else:
            facts.append([title, plain(value)])
    if facts:
        tables.insert(0, {"title": "Facts", "header": ["", ""], "body": facts})
    return {"text": " ".join(text), "tables": tables}

"""Tables of benchmarks: figures by benchmark and model, and what was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.benchmarks.benchmark import Benchmark

BENCHMARKS_ABOUT = (
    "Official benchmarks by their official rules, greedy answers, percent [95 % confidence interval]; difference: paired by question; n: questions, or groups of"
    " them that count once; unread: answers in which the rules find nothing."
)


def benchmark_cells(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table with a line for each benchmark, model and metric, in percent with 95 % intervals; the main
    metric also has the paired difference to the model before.

    found: benchmark's title -> model -> `scoring.figures`.
    """
    body = []
    for title, models in found.items():
        for model, one in models.items():
            for i, (metric, value) in enumerate(one["metrics"].items()):
                change = one.get("difference") if i == 0 else None
                words = f"{_percent(change, signed=True)} to {change['before']}" if change else ""
                body.append(
                    [title, model, metric, _percent(value), words, str(value["n"]), str(one["unread"])]
                )
    header = ["benchmark", "model", "metric", "percent", "difference", "n", "unread"]
    kept = [i for i, name in enumerate(header) if name != "difference" or any(line[i] for line in body)]
    return [header[i] for i in kept], [[line[i] for i in kept] for line in body]


def benchmark_caption(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """What the figures are, and once each what they leave out."""
    notes = [note for models in found.values() for one in models.values() for note in one.get("notes", ())]
    return " ".join([BENCHMARKS_ABOUT, *dict.fromkeys(notes)])


def benchmark_csv(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """One line for each benchmark, model, metric and group (field and value, empty for all questions); shares, not percent."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["benchmark", "model", "metric", "group", "value", "mean", "low", "high", "n", "unread"])
    for title, models in found.items():
        for model, one in models.items():
            parts = [("", "", one["metrics"])]
            parts += [
                (f, value, metrics)
                for f, values in one["groups"].items()
                for value, metrics in values.items()
            ]
            for field, value, metrics in parts:
                for metric, figure in metrics.items():
                    numbers = [figure["mean"], *figure["ci95"], figure["n"]]
                    writer.writerow(
                        [title, model, metric, field, value, *numbers, "" if field else one["unread"]]
                    )
    return file.getvalue()


def unmeasured(benchmark: Benchmark, found: Mapping[str, Any], questions: int) -> list[str]:
    """Sentences on what the figures leave out: the official judge, and questions without a prediction."""
    lines = []
    judge = found.get("judge")
    if judge is not None:
        lines.append(
            f"{benchmark.title}: the judge was asked about {judge.get('asked', 0)} answers ({judge.get('judge/cached', 0)} replies from the cache);"
            f" {judge.get('unreadable', 0)} verdicts could not be read, where the rules' stand."
        )
    elif benchmark.judge is not None:
        lines.append(
            f"{benchmark.title} officially needs an LLM judge: {benchmark.judge.official}. Measured here:"
            f" {benchmark.judge.without}."
        )
    if questions > found["n"]:
        lines.append(
            f"{questions - found['n']} of {questions} questions have no prediction and are left out."
        )
    return lines


def plain(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Aligned text, for terminals and logs."""
    widths = [max(len(line[i]) for line in (header, *body)) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *body]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines) + "\n"


def as_markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in line] for line in body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _percent(value: Mapping[str, Any], *, signed: bool = False) -> str:
    if value["mean"] is None:
        return "–"
    (low, high), sign = value["ci95"], "+" if signed else ""
    return f"{100 * value['mean']:{sign}.2f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"

"""Predictions against questions: each scored by the benchmark's rule, and the figures over all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.statistics import RowReward, estimate_mean
from evaluation.benchmarks.benchmark import Benchmark, BenchmarkError, Metric, rule
from evaluation.benchmarks.questions import Question

OVERALL = "overall"


@dataclass(frozen=True)
class Scored:
    """A question's answer. prediction: None where the rules found nothing in it. scores: by name, in [0, 1]."""

    question: Question
    answer: Any
    prediction: Any
    scores: Mapping[str, float]


def score_all(
    benchmark: Benchmark,
    questions: Sequence[Question],
    predictions: Mapping[str, Mapping[str, Any]],
    *,
    partial: bool = False,
) -> list[Scored]:
    """Every question's prediction, scored. partial: questions without a prediction are left out (and counted by the caller).

    Raises BenchmarkError for predictions of other questions, and without `partial` for questions without a prediction.
    """
    known = {question["id"] for question in questions}
    if strangers := [own for own in predictions if own not in known]:
        raise BenchmarkError(
            f"{benchmark.title}: expected predictions for its questions, got {len(strangers)} for others, e.g. {strangers[0]!r}"
        )
    missing = [question["id"] for question in questions if question["id"] not in predictions]
    if missing and not partial:
        raise BenchmarkError(
            f"{benchmark.title}: expected a prediction for each of {len(questions)} questions, got none for {len(missing)},"
            f" e.g. {missing[0]!r} (--partial scores the others)"
        )
    return [
        score_one(benchmark, question, predictions[question["id"]])
        for question in questions
        if question["id"] in predictions
    ]


def score_one(benchmark: Benchmark, question: Question, given: Mapping[str, Any]) -> Scored:
    """One prediction: `given["answer"]`, or what was extracted from it already."""
    answer, column = given["answer"], benchmark.predictions.extracted
    if column is not None and given.get(column) is not None:
        prediction = given[column]
    else:
        prediction = rule(benchmark.extract)("" if answer is None else answer, question)
    return scored(benchmark, question, answer, prediction)


def scored(benchmark: Benchmark, question: Question, answer: Any, prediction: Any) -> Scored:
    """A prediction with its scores by the benchmark's rule."""
    found = rule(benchmark.rule)(prediction, question)
    scores = found if isinstance(found, Mapping) else {"correct": found}
    return Scored(question, answer, prediction, {name: float(value) for name, value in scores.items()})


def figures(benchmark: Benchmark, answers: Sequence[Scored]) -> dict[str, Any]:
    """`{"n", "unread", "metrics": {name: {"mean", "ci95", "n"}}, "groups": {field: {value: {name: …}}}}`.

    n: answers. unread: those in which the rules found nothing. A metric's n counts groups where it is over groups.
    """
    groups: dict[str, dict[str, Any]] = {}
    for field in benchmark.groups:
        parts: dict[str, list[Scored]] = {}
        for one in answers:
            parts.setdefault(str(one.question.get(field))[:60], []).append(one)
        groups[field] = {value: _metrics(benchmark, part) for value, part in sorted(parts.items())}
    return {
        "n": len(answers),
        "unread": sum(one.prediction is None for one in answers),
        "metrics": _metrics(benchmark, answers),
        "groups": groups,
    }


def _metrics(benchmark: Benchmark, answers: Sequence[Scored]) -> dict[str, Any]:
    return {
        name: estimate_mean(values_of(metric, answers).values()).as_json()
        for name, metric in benchmark.metrics.items()
    }


def values_of(metric: Metric, answers: Sequence[Scored]) -> dict[str, float]:
    """What a metric is the mean of, by question: the scores of answers; or by group: its lowest score."""
    values: dict[str, float] = {}
    for one in answers:
        question = one.question
        if metric.leave_out and all(str(question.get(k)) == str(v) for k, v in metric.leave_out.items()):
            continue
        key = json.dumps([str(question.get(field)) for field in metric.all_of or ["id"]])
        values[key] = min(values.get(key, 1.0), one.scores[metric.score])
    return values


def main_values(benchmark: Benchmark, answers: Sequence[Scored]) -> list[RowReward]:
    """What the main metric is the mean of, for paired differences between models."""
    return list(values_of(next(iter(benchmark.metrics.values())), answers).items())

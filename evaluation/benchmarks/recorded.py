"""The table of rules: our figures on published predictions, beside those that were published with them.

`recorded.yaml` names files of the official repositories, as `owner/name/path` below one folder with clones of them:

    git clone https://github.com/mathllm/MATH-V clones/mathllm/MATH-V
    python -m evaluation.benchmarks rules clones
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from core.config import Section, read_config
from evaluation.benchmarks.benchmark import Benchmark, Form, Predictions, load
from evaluation.benchmarks.predictions import read_predictions
from evaluation.benchmarks.questions import read_questions
from evaluation.benchmarks.scoring import figures, score_all

LIST = Path(__file__).with_name("recorded.yaml")
RIGHT = (True, "correct", "Correct", 1)
"""Values of a column of verdicts that mean right."""


class Recorded(Section):
    """Published predictions with their published figures."""

    benchmark: str
    """Name of the benchmark."""
    what: str
    """Whose predictions, and how many."""
    questions: Path
    """File of the questions."""
    predictions: Path | None = None
    """File of the predictions; null: that of the questions."""
    columns: dict[str, Any] = {}
    """Fields of `benchmark.Predictions` that differ from the benchmark's."""
    form: dict[str, Any] = {}
    """Fields of `benchmark.Form` that differ from the benchmark's, in files of another layout."""
    rule: str | None = None
    """The rule by which the figure was recorded, where it is not the official one."""
    partial: bool = False
    """The predictions are of a part of the questions."""
    verdicts: str | None = None
    """Column of the predictions with the published verdict on each."""
    figures: dict[str, float] = {}
    """Published figures in percent, by metric, with as many digits as were published."""
    where: str = ""
    """Where the figures were published."""
    note: str = ""
    """Why some figure or verdict is known to differ."""


class RecordedList(Section):
    """A list of recorded figures."""

    recorded: list[Recorded] = Field(min_length=1)
    """In the order of the table."""


@dataclass(frozen=True)
class Line:
    """A line of the table. ours: figures in percent. agreeing: verdicts equal to the published ones. missing: a file that is
    not there; nothing was compared."""

    entry: Recorded
    benchmark: Benchmark
    n: int = 0
    ours: Mapping[str, float] | None = None
    agreeing: int | None = None
    differing: tuple[str, ...] = ()
    missing: Path | None = None

    @property
    def equal(self) -> bool:
        """Whether something was compared, and all of it is equal."""
        compared = self.ours is not None and bool(self.entry.figures or self.entry.verdicts)
        return compared and not self.differing and self.agreeing in (None, self.n)


def read_list(path: Path = LIST) -> list[Recorded]:
    """The entries of a list. Raises ConfigError."""
    return read_config(RecordedList, path).recorded


def compare(entry: Recorded, folder: Path) -> Line:
    """Score the predictions of an entry. Raises BenchmarkError for files that are there and wrong."""
    benchmark = _adapted(load(entry.benchmark), entry)
    questions_file = folder / entry.questions
    predictions_file = folder / (entry.predictions or entry.questions)
    for path in (questions_file, predictions_file):
        if not path.exists():
            return Line(entry, benchmark, missing=path)
    questions = read_questions(benchmark, questions_file, need_images=False)
    predictions = read_predictions(benchmark, predictions_file)
    answers = score_all(benchmark, questions, predictions, partial=entry.partial)
    metrics = figures(benchmark, answers)["metrics"]
    ours = {name: 100 * one["mean"] for name, one in metrics.items()}
    agreeing = None
    if entry.verdicts is not None:
        agreeing = sum(
            (predictions[one.question["id"]].get(entry.verdicts) in RIGHT) == bool(one.scores["correct"])
            for one in answers
        )
    differing = tuple(
        name for name, value in entry.figures.items() if _as_published(ours[name], value) != value
    )
    return Line(entry, benchmark, len(answers), ours, agreeing, differing)


def cells(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table."""
    header = ["benchmark", "predictions", "recorded", "ours", "verdicts equal", "", "official rule"]
    body = []
    for line in lines:
        entry = line.entry
        recorded = ", ".join(f"{name} {value:g}" for name, value in entry.figures.items())
        ours, verdicts, mark = "–", "–", "not there"
        if line.ours is not None:
            shown = entry.figures or dict(list(line.ours.items())[:1])
            ours = ", ".join(f"{name} {_shown(line.ours[name], value)}" for name, value in shown.items())
            mark = "equal" if line.equal else f"differs{': ' + entry.note if entry.note else ''}"
        if line.agreeing is not None:
            verdicts = f"{line.agreeing} of {line.n}"
        body.append(
            [line.benchmark.title, entry.what, recorded or "–", ours, verdicts, mark, line.benchmark.source]
        )
    return header, body


def _adapted(benchmark: Benchmark, entry: Recorded) -> Benchmark:
    changes: dict[str, Any] = {"rule": entry.rule or benchmark.rule}
    if entry.form:
        kind = "json"
        form = Form.model_validate(benchmark.files[kind].model_dump() | entry.form)  # type: ignore[index]
        changes["files"] = {**benchmark.files, kind: form}
    if entry.columns:
        changes["predictions"] = Predictions.model_validate(
            benchmark.predictions.model_dump() | entry.columns
        )
    return benchmark.model_copy(update=changes)


def _as_published(value: float, published: float) -> float:
    return round(value, _digits(published))


def _shown(value: float, published: float) -> str:
    return f"{value:.{max(_digits(published), 1)}f}"


def _digits(value: float) -> int:
    text = f"{value:g}"
    return len(text.partition(".")[2])

"""Files of predictions: JSON lines, a JSON array, an object {id: answer}, TSV or CSV, and `evaluate.py`'s own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_recipes.readers.files import json_items, json_pairs
from data_recipes.readers.folders import records
from data_recipes.records import Record, SourceError
from evaluation.benchmarks.benchmark import Benchmark, BenchmarkError
from evaluation.benchmarks.questions import LISTED, table

TABLES = {".tsv": "\t", ".csv": ","}


def read_predictions(benchmark: Benchmark, path: Path) -> dict[str, dict[str, Any]]:
    """By the question's id: the columns of the prediction, with `answer` what the model said (text, or numbers as given).

    Raises BenchmarkError with one line per broken prediction: file, row and column.
    """
    if not path.is_file():
        raise BenchmarkError(f"{path}: expected a file of predictions, got no such file")
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    delimiter = TABLES.get(path.suffix.lower())
    try:
        for record in table(path, delimiter) if delimiter else _records(benchmark, path):
            data = record.data
            if record.problem is not None:
                problems.append(f"{record.where}: {record.problem}")
                continue
            if not isinstance(data, Mapping):  # {id: answer}
                data = {"id": record.at, "answer": data}
            columns = benchmark.predictions
            own = next((data[name] for name in columns.id if name in data), None)
            if own is None and isinstance(record.at, str):
                own = record.at
            answer = next((name for name in columns.answer if name in data), None)
            if own is None or answer is None:
                wanted = columns.id if own is None else columns.answer
                problems.append(
                    f"{record.where}: expected a column {' or '.join(wanted)}, got {', '.join(map(str, data))[:200]}"
                )
            elif str(own) in found:
                problems.append(f"{record.where}: expected one prediction for {own!r}, got another")
            else:
                found[str(own)] = {**data, "answer": data[answer]}
    except (SourceError, OSError) as error:
        raise BenchmarkError(f"{path}: {error}") from None
    if problems:
        more = [f"and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
        raise BenchmarkError("\n".join(problems[:LISTED] + more))
    if not found:
        raise BenchmarkError(f"{path}: expected at least one prediction, got none")
    return found


def _records(benchmark: Benchmark, path: Path) -> Iterator[Record]:
    """Records of a JSON file, those of `{id: text}` one by one."""
    if benchmark.predictions.section is not None:
        return json_items(path, benchmark.predictions.section)
    first = next(iter(records(path)), None)
    if first is None or not isinstance(first.data, Mapping) or not isinstance(first.at, int):
        return records(path)
    texts = not any(isinstance(value, Mapping) for value in first.data.values())
    keyed = path.suffix.lower() == ".json" and not set(benchmark.predictions.id) & set(first.data)
    return json_pairs(path) if keyed and texts else records(path)

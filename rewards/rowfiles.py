"""Rows and completions for the command line: JSONL (plain or .gz) or Parquet, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.errors import RewardDataError

TEXTS = ("answer", "trace")
"""Columns that a Parquet file may hold as JSON text."""


def read_records(path: Path, limit: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Records of a file as (`FILE:LINE`, record); the line of a Parquet file is its row, counted from 1."""
    if not path.is_file():
        raise RewardDataError(f"{path}: expected a JSONL or Parquet file, found none")
    records: list[tuple[str, dict[str, Any]]] = []
    for place, record in _parquet(path) if path.suffix == ".parquet" else _jsonl(path):
        if limit is not None and len(records) >= limit:
            break
        records.append((place, record))
    if not records:
        raise RewardDataError(f"{path}: expected at least one record, found none")
    return records


def read_rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows in file order; each must have a unique string `id`."""
    rows: dict[str, dict[str, Any]] = {}
    for place, row in read_records(path, limit):
        name = row.get("id")
        if not isinstance(name, str):
            raise RewardDataError(f"{place}: field 'id': expected a string, got {name!r:.200}")
        if name in rows:
            raise RewardDataError(f"{place}: field 'id': '{name}' was already used in this file")
        rows[name] = row
    return list(rows.values())


def read_completions(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str]]:
    """Pairs of (row, completion) from records {"id" or "row_id": …, "completion": …}, in file order."""
    by_id = {row["id"]: row for row in rows}
    pairs = []
    for place, record in read_records(path):
        name = record.get("id", record.get("row_id"))
        if not isinstance(name, str) or name not in by_id:
            raise RewardDataError(f"{place}: field 'id': expected the id of a row, got {name!r:.200}")
        text = record.get("completion")
        if not isinstance(text, str):
            raise RewardDataError(
                f"{place}: field 'completion': expected a string, got {type(text).__name__}"
            )
        pairs.append((by_id[name], text))
    return pairs


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", _record(line, f"{path}:{number}")
    except (EOFError, OSError, zlib.error) as error:
        raise RewardDataError(f"{path}:{number + 1}: cannot be read: {error}") from None


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RewardDataError(
            f"{place}: expected UTF-8 text, found byte {line[error.start]:#04x} at {error.start}"
        ) from None
    except RecursionError:
        raise RewardDataError(f"{place}: expected JSON, found it nested too deep") from None
    except ValueError as error:  # not JSON, or a number of thousands of digits
        raise RewardDataError(f"{place}: expected JSON: {error!s:.200}") from None
    if not isinstance(record, dict):
        raise RewardDataError(f"{place}: expected an object, got {type(record).__name__}")
    return record


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise RewardDataError(f"{path}: expected a Parquet file: {error}") from None
    number = 0
    for batch in file.iter_batches():
        for record in batch.to_pylist():
            number += 1
            place = f"{path}:{number}"
            # one column cannot hold "4,656" and 3, so answers and traces may be written as JSON text (docs/data_format.md)
            yield (
                place,
                {k: _from_text(v, f"{place}: field '{k}'") if k in TEXTS else v for k, v in record.items()},
            )


def _from_text(value: Any, place: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RewardDataError(f"{place}: expected JSON text: {error!s:.200}") from None

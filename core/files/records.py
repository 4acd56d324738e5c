"""Records (JSON objects) of a file or folder, each with the place to name in errors: JSONL, Parquet, `datasets` folders."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import RowError

RECORD_FILES = (".jsonl", ".jsonl.gz", ".parquet")
SHARDS = "rows-*.jsonl"  # in a folder, also with .gz; other names may be other splits
JSON_TEXT = ("answer", "trace")
"""Columns that a columnar file may hold as JSON text, because their values differ in type from row to row."""


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of a record that could not be read."""

    expected: str
    problem: str

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.problem}"


def read_records(path: Path) -> Iterator[tuple[str, Any, Path]]:
    """(place, record, folder that relative media paths start from) of every record, in the order of the files.

    Args:
        path: a `.jsonl`, `.jsonl.gz` or `.parquet` file, a folder of `.parquet` or `rows-*.jsonl` shards, or a folder made by
            `datasets.Dataset.save_to_disk`. The place is FILE:LINE; the line of a columnar file is its row, counted from 1.

    A line that is not JSON is yielded as `Unreadable`; JSON that is not an object is yielded unchanged.

    Raises:
        RowError: no such file, an unknown kind of file, or a damaged one.
    """
    for shard in shards_of(path):
        yield from (_datasets_folder(shard) if shard.is_dir() else _reader(shard.name)(shard))


def shards_of(path: Path) -> list[Path]:
    """The files that hold the records of a file or folder, in order; of a `datasets` folder the folder itself.

    Raises RowError: no such file, or an unknown kind of file.
    """
    if path.is_file() and path.name.endswith(RECORD_FILES):
        return [path]
    if path.is_dir() and (path / "state.json").is_file():
        return [path]
    if path.is_dir() and (shards := sorted(path.glob("*.parquet"))):
        return shards
    if path.is_dir() and (shards := sorted([*path.glob(SHARDS), *path.glob(f"{SHARDS}.gz")])):
        return shards
    if not path.exists():
        raise RowError(f"rows not found: {path}")
    splits = sorted(p.name for p in path.iterdir() if (p / "state.json").is_file()) if path.is_dir() else []
    hint = f"; it holds the splits {', '.join(splits)}: name one" if splits else ""
    raise RowError(
        f"{path}: expected a .jsonl file, a .parquet file (or .jsonl.gz), a folder of .parquet or {SHARDS} files, or a"
        f" folder written by datasets' save_to_disk{hint}"
    )


def without_filling(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a columnar file with JSON text parsed, and without the nulls that its answer has for the keys of other rows.

    JSON text that cannot be parsed stays a string, which the checks of rows refuse.
    """
    for field in JSON_TEXT:
        if isinstance(record.get(field), str):
            try:
                record[field] = json.loads(record[field])
            except (ValueError, RecursionError):
                pass
    answer = record.get("answer")
    if isinstance(answer, dict):
        record["answer"] = {key: value for key, value in answer.items() if value is not None} or None
    return record


def _reader(name: str) -> Callable[[Path], Iterator[tuple[str, Any, Path]]]:
    return _parquet if name.endswith(".parquet") else _jsonl


def _jsonl(path: Path) -> Iterator[tuple[str, Any, Path]]:
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", parse_line(line), path.parent.resolve()
    except (EOFError, OSError, zlib.error) as error:
        raise RowError(f"{path}:{number + 1}: cannot be read: {error}") from None


def parse_line(line: bytes) -> Any:
    """One line of a JSONL file, or `Unreadable`."""
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Unreadable(
            "one JSON object in UTF-8", f"byte {line[error.start]:#04x} at position {error.start}"
        )
    except RecursionError:
        return Unreadable("one JSON object", "JSON nested too deeply")
    except ValueError as error:  # not JSON, or a number of thousands of digits
        return Unreadable("one JSON object", f"no valid JSON ({error!s:.200})")


def _parquet(path: Path) -> Iterator[tuple[str, Any, Path]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise RowError(f"{path}: expected a Parquet file: {error}") from None
    number = 0
    for batch in file.iter_batches(batch_size=256):
        for record in batch.to_pylist():
            number += 1
            yield f"{path}:{number}", without_filling(record), path.parent.resolve()


def _datasets_folder(path: Path) -> Iterator[tuple[str, Any, Path]]:
    from datasets import load_from_disk

    table = load_from_disk(str(path)).with_format("arrow")  # as stored: media columns stay undecoded
    for number in range(len(table)):
        (record,) = table[number].to_pylist()
        yield f"{path}:{number + 1}", without_filling(record), path.resolve()

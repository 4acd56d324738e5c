"""Streaming through JSON lines, JSON arrays and objects, Parquet and text: one Record per entry, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from data_recipes.records import Record, Rejected


def json_lines(path: Path) -> Iterator[Record]:
    """Records of a .jsonl file; `at` is the line. A line that is no JSON becomes a record with a `problem`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield Record.unread(line, path, number)


def json_items(path: Path, prefix: str = "item") -> Iterator[Record]:
    """Elements of the array at `prefix` of a .json file (ijson's notation; "item": the top-level array).

    `at` is the index from 0. A file that breaks off ends with a record that has a `problem`.
    """
    with path.open("rb") as file:
        index = -1
        try:
            for index, data in enumerate(ijson.items(file, prefix, use_float=True)):
                yield Record(data, path, index)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            yield Record(None, path, index + 1, f"expected JSON, got no valid JSON ({error})")


def json_pairs(path: Path, prefix: str = "") -> Iterator[Record]:
    """Values of the object at `prefix` of a .json file ("": the top-level object); `at` is the key."""
    with path.open("rb") as file:
        key = ""
        try:
            for key, data in ijson.kvitems(file, prefix, use_float=True):
                yield Record(data, path, key)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            yield Record(None, path, f"after {key}", f"expected JSON, got no valid JSON ({error})")


def parquet_rows(path: Path) -> Iterator[Record]:
    """Rows of a .parquet file as dicts; `at` is the number from 1."""
    import pyarrow.parquet as pq

    number = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
        for data in batch.to_pylist():
            number += 1
            yield Record(data, path, number)


def text_lines(path: Path) -> Iterator[Record]:
    """Non-empty lines of a text file without their ends; `at` is the line from 1."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield Record(line.rstrip("\r\n"), path, number)


def records(path: Path) -> Iterator[Record]:
    """Records of a file whose layout is told by its name and first byte: .jsonl, .parquet, or a .json array or object."""
    if path.suffix == ".parquet":
        return parquet_rows(path)
    if path.suffix == ".jsonl":
        return json_lines(path)
    with path.open("rb") as file:
        first = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return json_pairs(path) if first == b"{" else json_items(path)


def need(data: Any, field: str, kind: type | tuple[type, ...], expected: str) -> Any:
    """`data[field]` if it is of `kind` (a bool is no number); Rejected says what was expected and what came."""
    if not isinstance(data, dict):
        raise Rejected(f"expected a JSON object, got {show(data)}")
    value = data.get(field)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise Rejected(
            f"field '{field}': expected {expected}, got {show(value) if field in data else 'nothing'}"
        )
    return value


def show(value: Any) -> str:
    """A value in an error message: short, with its type."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = "null" if value is None else repr(value)
    return (text if len(text) <= 60 else f"{text[:57]}…") + (
        "" if value is None else f" ({type(value).__name__})"
    )

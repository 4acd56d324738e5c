"""Onsight's own rows (docs/data_format.md) as a source: JSONL, Parquet, or a folder of shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_recipes.readers.files import json_lines, need, parquet_rows
from data_recipes.records import Format, Options, Record, Rejected
from vlm.rows import SHARDS, Row, without_filling


def read(path: Path, options: Options) -> Iterator[Record]:
    """Rows of a .jsonl or .parquet file, or of all shards of a folder."""
    files = sorted([*path.glob("*.parquet"), *path.glob(SHARDS)]) if path.is_dir() else [path]
    for file in files:
        yield from parquet_rows(file) if file.suffix == ".parquet" else json_lines(file)


def convert(record: Record, options: Options) -> Iterator[Row]:
    """The row itself; the recipe checks it. `source` becomes a dict, so that it can carry the source's name."""
    need(record.data, "id", str, "a non-empty string")
    row = without_filling(dict(record.data))
    source = row.get("source")
    if source is not None and not isinstance(source, (str, dict)):
        raise Rejected(f"field 'source': expected a string, an object or null, got {type(source).__name__}")
    yield row | {"images": row.get("images") or [], "videos": row.get("videos") or []}


def looks_like(path: Path, first: Any) -> bool:
    return isinstance(first, dict) and {"id", "task", "prompt"} <= set(first)


FORMATS = (Format("rows", "Onsight's own rows", read, convert, looks_like),)

"""Onsight's own rows (docs/data_format.md) as a source: JSONL, Parquet, or a folder of shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.files.records import without_filling
from core.rows import Row
from data_recipes.readers.files import need
from data_recipes.readers.folders import records
from data_recipes.records import Format, Options, Record, Rejected


class RowsOptions(Options):
    """Options of `rows`."""

    split: str | None = None
    """The split to read from a folder with several (`train-00000-of-00004.parquet`, `test-…`)."""


def read(path: Path, options: RowsOptions) -> Iterator[Record]:
    """Rows of a .jsonl or .parquet file, of all shards of a folder, or of a folder written by `save_to_disk`."""
    return records(path, options.split)


def convert(record: Record, options: Options) -> Iterator[Row]:
    """The row itself, which the recipe checks. `source` becomes a dict, so that the source's name can be added."""
    need(record.data, "id", str, "a non-empty string")
    row = without_filling(dict(record.data))
    source = row.get("source")
    if source is not None and not isinstance(source, (str, dict)):
        raise Rejected(f"field 'source': expected a string, an object or null, got {type(source).__name__}")
    yield row | {"images": row.get("images") or [], "videos": row.get("videos") or []}


def looks_like(path: Path, first: Any) -> bool:
    return isinstance(first, dict) and {"id", "task", "prompt"} <= set(first)


FORMATS = (Format("rows", "Onsight's own rows", read, convert, looks_like, RowsOptions),)

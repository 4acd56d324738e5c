"""Rows as Parquet: one schema for rows of all tasks and of all shards, found in a first pass over the rows on disk.

Columns whose values have no common Arrow type (answers are "4,656" in one task and 3 in another) are stored as JSON
text, which `core.rows` reads back for `answer` and `trace`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.rows import Row
from data_recipes.files.media_store import map_media

BATCH = 256  # rows in memory at a time


Types = dict[str, pa.DataType | None]
"""Column -> its Arrow type; None: stored as JSON text."""


def write_parquet(rows: Iterable[Row], path: Path, *, embed: bool = False) -> Path:
    """Write rows, whole or not at all. embed: media as bytes with their file names, in place of paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spool = path.with_name(path.name + ".spool")
    encode(spool, spool_rows(rows, spool), path, embed=embed)
    spool.unlink()
    return path


def spool_rows(rows: Iterable[Row], spool: Path) -> Types:
    """Write rows as JSON lines on their way to Parquet; the types of their columns."""
    types: Types = {}
    with spool.open("w", encoding="utf-8") as file:
        for batch in _batches(map(_columnar, rows)):
            _join(types, batch)
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch)
    return types


def encode(spool: Path, types: Types, path: Path, *, embed: bool = False) -> None:
    """Write spooled rows as Parquet with columns of the given types, which may be those of further files, too."""
    types = {name: None if kind is None or _has_empty(kind) else kind for name, kind in types.items()}
    schema = pa.schema([(name, pa.string() if kind is None else kind) for name, kind in types.items()])
    if embed:
        schema = _with_bytes(schema)
    temporary = path.with_name(path.name + ".part")
    with (
        spool.open(encoding="utf-8") as file,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for batch in _batches(map(json.loads, file)):
            stored = [_stored(row, types, path.parent, embed) for row in batch]
            writer.write_table(pa.Table.from_pylist(stored, schema))
    temporary.replace(path)


def unify(all_types: Iterable[Types]) -> Types:
    """Types that hold the columns of all files, so that every shard of a set has the same schema."""
    joined: Types = {}
    for types in all_types:
        for name, kind in types.items():
            known = joined.get(name, pa.null())
            joined[name] = None if kind is None or known is None else _wider(known, kind)
    return joined


def types_to_json(types: Types) -> list[list[str | None]]:
    """Types as JSON, in the order of the columns."""
    return [
        [n, None if kind is None else base64.b64encode(pa.schema([(n, kind)]).serialize()).decode()]
        for n, kind in types.items()
    ]


def types_from_json(value: list[list[str | None]]) -> Types:
    return {
        str(name): None
        if kind is None
        else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(kind))).field(0).type
        for name, kind in value
    }


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _columnar(row: Row) -> Row:
    """The row with values of one shape: contents are lists of parts, media are dicts."""
    row = map_media(row, lambda m: dict(m) if isinstance(m, dict) else {"path": m})
    for field in ("prompt", "trace"):
        if isinstance(row.get(field), list):
            row = row | {field: [m | {"content": _parts(m["content"])} for m in row[field]]}
    return row


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _join(types: Types, batch: list[Row]) -> None:
    """Widen the columns' types so that they hold the batch too."""
    for name in {name: None for row in batch for name in row}:
        if name in types and types[name] is None:
            continue
        try:
            kind = pa.array([row.get(name) for row in batch]).type
        except (*_MIXED, OverflowError):
            types[name] = None
        else:
            types[name] = _wider(types.get(name, pa.null()), kind)


_MIXED = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def _wider(a: Any, b: pa.DataType) -> pa.DataType | None:
    """A type that holds values of both, None if there is none."""
    try:
        schemas = [pa.schema([("x", kind)]) for kind in (a, b)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except _MIXED:
        return None


def _has_empty(kind: pa.DataType) -> bool:
    """Whether a struct without fields is in the type, which Parquet cannot hold."""
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return (pa.types.is_struct(kind) and not inner) or any(map(_has_empty, inner))


def _with_bytes(schema: pa.Schema) -> pa.Schema:
    for name in ("images", "videos"):
        index = schema.get_field_index(name)
        if index >= 0 and pa.types.is_struct(getattr(schema.field(name).type, "value_type", pa.null())):
            inner = schema.field(name).type.value_type
            fields = [inner.field(i) for i in range(inner.num_fields)] + [pa.field("bytes", pa.binary())]
            schema = schema.set(index, pa.field(name, pa.list_(pa.struct(fields))))
    return schema


def _stored(row: Row, types: dict[str, pa.DataType | None], folder: Path, embed: bool) -> Row:
    row = {
        name: value if value is None or types[name] is not None else json.dumps(value, ensure_ascii=False)
        for name, value in row.items()
    }
    if embed:
        return map_media(
            row, lambda m: m | {"bytes": Path(m["path"]).read_bytes(), "path": Path(m["path"]).name}
        )
    return map_media(row, lambda m: m | {"path": _relative(m["path"], folder)})


def _relative(path: str, folder: Path) -> str:
    return os.path.relpath(path, folder.resolve())

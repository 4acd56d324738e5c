"""Streaming from JSON lines, JSON arrays and objects, Parquet, Arrow and text: one Record per entry, in bounded memory.

An unreadable entry becomes a Record with a `problem`, and reading continues after it. OSError means that a file cannot be
opened, SourceError that a path is not what was expected.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from data_recipes.files import json_text
from data_recipes.files.json_text import Piece, parse_json
from data_recipes.records import Record, Rejected

COMPRESSED = (".gz", ".zst")
UTF16 = (b"\xff\xfe", b"\xfe\xff")
HEAD = 1 << 20  # bytes read to detect a file's layout
_NO_VALUE = (ValueError, TypeError, ArithmeticError, LookupError, pa.ArrowException)
"""Raised for Arrow values that Python cannot represent: text that is not UTF-8, a date after the year 9999."""
BROKEN = (OSError, EOFError, zlib.error, pa.ArrowException)  # raised for truncated or damaged files


def kind_of(path: Path) -> str:
    """A file's extension in lower case, ignoring compression: ".jsonl" for a.jsonl.gz."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading its uncompressed bytes."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".gz":
            yield gzip.GzipFile(fileobj=file)  # type: ignore[misc]  # an IO[bytes] but in name
        elif path.suffix.lower() == ".zst":
            yield io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file), "zstd"))
        else:
            yield file


def _pieces(path: Path, split: Callable[[IO[bytes]], Iterator[Piece]]) -> Iterator[Record]:
    """Records of the pieces that `split` finds in a file; if the file is damaged, the last record says so."""
    last: int | str = 0
    with opened(path) as file:
        try:
            for piece in split(file):
                last = piece.at
                yield Record.piece(piece, path)
        except BROKEN as error:
            yield Record(
                None, path, f"after {last}", f"expected a whole file, got one that is damaged: {error}"
            )


def json_items(path: Path, section: str | None = None) -> Iterator[Record]:
    """Elements of a .json file that is an array, or of the array under the key `section`; `at` is the index from 0."""
    if section is None:
        return _pieces(path, json_text.items)
    return _pieces(path, lambda file: (piece for _, piece in json_text.sections(file, (section,))))


def json_pairs(path: Path) -> Iterator[Record]:
    """Values of a .json file that is an object; `at` is the key."""
    with opened(path) as file:
        first = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first != b"{":
        got = repr(first.decode("latin-1")) if first else "an empty file"
        yield Record(None, path, 1, f"expected a JSON object, {{key: record}}, got {got} at its beginning")
        return
    yield from _pieces(path, json_text.pairs)


def json_records(path: Path) -> Iterator[Record]:
    """Records of a JSON file of any layout and name: lines, an array, an object of records, or concatenated records."""
    with opened(path) as file:
        try:
            head = file.read(HEAD)
        except BROKEN as error:
            head = b""
            yield Record(None, path, 1, f"expected a whole file, got one that is damaged: {error}")
            return
    if head[:2] in UTF16:
        yield Record(
            None, path, 1, "expected JSON in UTF-8, got UTF-16 (convert it: iconv -f UTF-16 -t UTF-8)"
        )
        return
    layout = _layout(head.removeprefix(b"\xef\xbb\xbf"), lines=kind_of(path) == ".jsonl")
    yield from _pieces(path, layout)


def _layout(head: bytes, *, lines: bool) -> Callable[[IO[bytes]], Iterator[Piece]]:
    """The function that splits a file starting with `head` into records. lines: the file's extension means JSON lines."""
    whole = [line for line in head.split(b"\n")[:-1] if line.strip()][:3]
    complete = [_is_json(line) for line in whole]
    first = head.lstrip()[:1]
    follows = len(head.split(b"\n", 1)) == 2 and head.split(b"\n", 1)[1].strip() != b""
    if complete[1:] == [True, True] or (complete[:1] == [True] and follows):
        return json_text.lines
    if first == b"[":
        second = len(whole) > 1 and complete[1] and whole[0].strip() != b"["
        return json_text.lines if lines and second else json_text.items
    if lines or first != b"{":
        return json_text.lines
    text = json_text.Text(io.BytesIO(head))
    text.next_byte()
    text.position += 1
    objects: list[bool] = []
    while len(objects) < 3 and text.next_byte() not in (b"", b"}") and text.key() is not None:
        objects.append(text.next_byte() == b"{")
        if not objects[-1] or text.value(0).problem:
            break
    return json_text.pairs if objects and all(objects) else json_text.values


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict | list)
    except ValueError:
        return False


def parquet_rows(path: Path) -> Iterator[Record]:
    """Rows of a .parquet file as dicts; `at` is the number from 1. Every row of a damaged row group is a problem."""
    import pyarrow.parquet as pq

    with path.open("rb") as opened_file:
        try:
            file = pq.ParquetFile(opened_file)
        except (*BROKEN, ValueError) as error:
            yield Record(None, path, 1, f"expected a Parquet file, got one that cannot be opened: {error}")
            return
        end = 0
        for group in range(file.num_row_groups):
            number, end = end, end + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(batch_size=64, row_groups=[group]):
                    yield from table_rows(batch, path, number)
                    number += batch.num_rows
            except (*BROKEN, ValueError) as error:
                problem = f"expected row group {group + 1} to decode, got: {error}"
                yield from (Record(None, path, lost, problem) for lost in range(number + 1, end + 1))


def table_rows(table: Any, path: Path, before: int) -> Iterator[Record]:
    """Rows of an Arrow table or batch as dicts, numbered from `before` + 1; values Python cannot represent are problems."""
    try:
        rows = table.to_pylist()
    except _NO_VALUE:  # find out which row
        rows = None
    if rows is not None:
        yield from (Record(row, path, before + i) for i, row in enumerate(rows, 1))
        return
    for i in range(table.num_rows):
        row, problem = {}, None
        for name, column in zip(table.schema.names, table.columns, strict=True):
            try:
                row[name] = column[i].as_py()
            except _NO_VALUE as error:
                problem = f"field '{name}': expected a value of type {column.type}, got one that does not decode ({error})"
                break
        yield Record(None if problem else row, path, before + i + 1, problem)


def text_lines(path: Path) -> Iterator[Record]:
    """Non-empty lines of a text file without line endings; `at` is the line from 1."""
    with opened(path) as file:
        for piece in json_text.lines(file):
            try:
                text = piece.content.decode("utf-8").rstrip("\r\n")
                yield Record(None if piece.problem else text, path, piece.at, piece.problem)
            except UnicodeDecodeError as error:
                yield Record(None, path, piece.at, f"expected text in UTF-8, got {error}")


def file_record(path: Path, at: int | str, read: Callable[[bytes], Any], kind: str) -> Record:
    """The record of a file that holds one; `read` raises ValueError (or SyntaxError) if the content is not of this `kind`."""
    try:
        if path.stat().st_size > json_text.MAX_BYTES:
            return Record(
                None, path, at, f"expected a file of at most {json_text.MAX_BYTES >> 20} MiB, got more"
            )
        return Record(read(path.read_bytes()), path, at)
    except OSError as error:
        return Record(None, path, at, f"expected a readable file, got: {error.strerror}")
    except (ValueError, SyntaxError, LookupError) as error:  # LookupError: an unknown encoding
        return Record(None, path, at, f"expected {kind}, got no valid {kind} ({error})")


def need(data: Any, field: str, kind: type | tuple[type, ...], expected: str) -> Any:
    """`data[field]` if it is of type `kind` (a bool is not a number); Rejected names what was expected and found."""
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
    """A value for an error message: short, with its type."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    try:
        text = "null" if value is None else repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = "a huge number"
    return (text if len(text) <= 60 else f"{text[:57]}…") + (
        "" if value is None else f" ({type(value).__name__})"
    )

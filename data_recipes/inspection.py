"""Looking at a file: which format it may be, its first rows, and what is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.rows import Row
from data_recipes.checks.accept import accept, media_roots
from data_recipes.checks.validate import Validation, make_check
from data_recipes.hub_sources import local_path
from data_recipes.readers import FORMATS
from data_recipes.readers.files import kind_of, text_lines
from data_recipes.readers.folders import records
from data_recipes.readers.refused import refused
from data_recipes.records import Format, Options, Record, Rejected, SourceError

SHOWN = 3
LISTED = 10
CUT = 160  # characters of a text shown
SHOWN_FIELDS = (
    *("id", "task", "prompt", "images", "videos", "answer", "trace"),
    *("chosen", "rejected", "margin", "source"),
)


LOOKED_AT = 50  # records among which the first readable one is looked for


def first_records(path: Path) -> list[Record]:
    """The first records of a file or a folder of rows, up to the first readable one; none for other kinds of files."""
    found: list[Record] = []
    try:
        if path.is_dir() or kind_of(path) in (".json", ".jsonl", ".parquet", ".arrow"):
            entries = records(path)
        elif path.suffix in (".txt", ".csv", ".xml"):
            entries = text_lines(path)
        else:
            return []
        for record in islice(entries, LOOKED_AT):
            found.append(record)
            if record.problem is None:
                break
    except SourceError:
        pass  # a folder that is no set of rows may be one of annotations
    return found


def first_record(path: Path) -> Any:
    """The data of the first readable record, from which the format is guessed, or None."""
    return next((record.data for record in first_records(path) if record.problem is None), None)


def guess(path: Path) -> list[Format]:
    """Formats that the file may be of, the likeliest (by the order of registration) first."""
    first = first_record(path)
    return [f for f in FORMATS.values() if not f.generates and _may_be(f, path, first)]


def _may_be(kind: Format, path: Path, first: Any) -> bool:
    try:
        return kind.looks_like(path, first)
    except Exception:  # noqa: BLE001  values that do not belong there: a record of no known format
        return False


def inspect(
    path: Path,
    name: str | None,
    options: dict[str, Any],
    *,
    limit: int | None = None,
    root: Path | None = None,
    good: list[Row] | None = None,
) -> Iterator[str]:
    """Lines that tell what the file is: its format, three rows, counts by task, and the reasons of rejection.

    good: takes in the good rows, with absolute media paths.

    Raises ValueError for a file that is not there, an unknown format, or wrong options.
    """
    path, options = local_path(path, _named(name) if name else None, options)
    if not path.exists():
        raise ValueError(f"expected a file or folder, found nothing at {path}")
    other = None if name else refused(path, first_record(path))
    if other is not None:
        yield f"{path}: {other.name}: not read. What to do: {other.remedy}."
        return
    found = [_named(name)] if name else guess(path)
    if not found:
        yield from _unknown(path)
        return
    kind = found[0]
    others = f" (or {', '.join(f.name for f in found[1:])})" if len(found) > 1 else ""
    yield f"{path}: {kind.name}{others}: {kind.summary}"
    try:
        typed = kind.options.model_validate(options)
    except ValidationError as error:
        raise ValueError(
            "; ".join(f"option {'.'.join(map(str, m['loc']))}: {m['msg']}" for m in error.errors())
        ) from None
    roots = media_roots(path, getattr(typed, "media", None), root)
    yield from _rows(kind, path, typed, limit, roots, good)


def _unknown(path: Path) -> Iterator[str]:
    """What is to be said of a file of no known format."""
    found = first_records(path)
    if found and found[-1].problem is not None:
        yield f"{path}: no record of it can be read"
        yield from (f"{record.where}: {record.problem}" for record in found[:LISTED])
    else:
        first = json.dumps(found[-1].data if found else None, default=str)
        yield f"{path}: no known format; its first entry is {first[:CUT]}"


def _rows(
    kind: Format,
    path: Path,
    options: Options,
    limit: int | None,
    roots: tuple[str, ...],
    good: list[Row] | None,
) -> Iterator[str]:
    check = make_check(Validation())
    tasks: Counter[str] = Counter()
    wrong: list[str] = []
    ids: dict[str, str] = {}
    read = 0
    shown = 0
    for record in islice(kind.read(path, options), limit):
        read += 1
        for made in kind.rows(record, options):
            problem = _problem(made, record, check, ids, roots, good)
            if not isinstance(made, Rejected):
                tasks.update([made["task"]] if problem is None else [])
                shown += 1
                if shown <= SHOWN:
                    yield ""
                    yield from _shown(made | ({"wrong": problem} if problem else {}))
            if problem is not None:
                wrong.append(f"{record.where}: {problem}")
    yield ""
    by_task = ", ".join(f"{task} {count}" for task, count in tasks.most_common()) or "none"
    yield f"{read} records; {sum(tasks.values())} good rows ({by_task}); {len(wrong)} rejected"
    yield from wrong[:LISTED]
    if len(wrong) > LISTED:
        yield f"and {len(wrong) - LISTED} more; the commonest reasons:"
        reasons = Counter(_kind_of(line) for line in wrong)
        yield from (f"  {count:6} x {reason}" for reason, count in reasons.most_common(5))


def _problem(
    made: Row | Rejected,
    record: Record,
    check: Callable[[Row], None],
    ids: dict[str, str],
    roots: tuple[str, ...],
    good: list[Row] | None,
) -> str | None:
    """What is wrong with a row, if anything; `ids` are those of the rows so far, with their places."""
    if isinstance(made, Rejected):
        return str(made)
    try:
        folder = record.file.parent.resolve()
        row = accept(made, folder, check, roots=roots, store=None, left_out=Counter())
        if row["id"] in ids:
            raise Rejected(f"field 'id': {row['id']!r} stands at {ids[row['id']]} already")
        ids[row["id"]] = record.where
        if good is not None:
            good.append(row)
    except Rejected as error:
        return str(error)
    return None


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"unknown format '{name}'; known: {', '.join(sorted(FORMATS))}")
    return FORMATS[name]


def _shown(row: Row) -> Iterator[str]:
    for field in (*SHOWN_FIELDS, "wrong"):
        if row.get(field):
            text = (
                row[field]
                if isinstance(row[field], str)
                else json.dumps(row[field], ensure_ascii=False, default=_bytes)
            )
            yield f"  {field:8} {text if len(text) <= CUT else text[: CUT - 1] + '…'}"


def _bytes(value: Any) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _kind_of(line: str) -> str:
    """A complaint without its place and its values."""
    return line.split(": ", 1)[1].split(", got", 1)[0][:100]

"""Questions of a benchmark from its published files: original formats, and VLMEvalKit's TSV with base64 images.

A question is a dict: the columns of its record, those that the benchmark's file renames, `id` (text), `images` and `videos`.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import fnmatch
import json
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2

from data_recipes.readers.chat import locate
from data_recipes.readers.files import json_items, show, text_lines
from data_recipes.readers.folders import records
from data_recipes.records import Record, Rejected, SourceError
from evaluation.benchmarks.benchmark import Benchmark, BenchmarkError, Form, template

Question = dict[str, Any]
LISTED = 10  # broken records named in one message; the rest is counted
KEY = "@key"
_SHORT = 64  # VLMEvalKit: a shorter text in place of an image is the index of the row that has it


def read_questions(
    benchmark: Benchmark,
    path: Path,
    *,
    media: Path | None = None,
    limit: int | None = None,
    need_images: bool = True,
) -> list[Question]:
    """The questions of a file or folder in order.

    media: folder that relative image and video paths start from, in place of the file's own. need_images: False for scoring, which
    looks at no image: they are not kept in memory then.

    Raises BenchmarkError with one line per broken record (file, row and column), or if there is no question.
    """
    form = benchmark.form(path)
    if not path.exists():
        raise BenchmarkError(f"{path}: expected the questions of {benchmark.title}, got no such file")
    found: list[Question] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    images: dict[str, Any] = {}
    try:
        for record in islice(_records(path, form), limit):
            try:
                if record.problem is not None:
                    raise Rejected(record.problem)
                for question in _questions(record, form, media, images, need_images):
                    if question["id"] in first:
                        raise Rejected(
                            f"field 'id': expected a unique id, got {question['id']!r} again (first at {first[question['id']]})"
                        )
                    first[question["id"]] = record.where
                    found.append(question)
            except Rejected as error:
                problems.append(f"{record.where}: {error}")
    except (SourceError, OSError) as error:
        raise BenchmarkError(f"{benchmark.title}: {error}") from None
    if problems:
        more = [f"and {len(problems) - LISTED} more broken records"] if len(problems) > LISTED else []
        raise BenchmarkError("\n".join(problems[:LISTED] + more))
    if not found:
        raise BenchmarkError(f"{path}: expected at least one question of {benchmark.title}, got none")
    return found


# -------------------------------------------------------------------------------------------------------------- records


def _records(path: Path, form: Form) -> Iterator[Record]:
    if form.line is not None and path.suffix.lower() == ".txt":
        return _lines(path, form)
    if path.suffix.lower() == ".tsv":
        return table(path, "\t")
    if form.section is not None and path.is_file() and path.suffix.lower() == ".json":
        return json_items(path, form.section)
    return records(path)


def table(path: Path, delimiter: str) -> Iterator[Record]:
    """Rows of a table with a header; `at` is the line from 1 of the row's beginning."""
    csv.field_size_limit(sys.maxsize)  # base64 images are longer than the default
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, restkey="")
        if len(set(reader.fieldnames or ())) != len(reader.fieldnames or ()):
            raise SourceError(
                f"{path}:1: expected different columns, got {', '.join(reader.fieldnames or ())}"
            )
        line = reader.line_num
        try:
            for row in reader:
                line, start = reader.line_num, line + 1
                if "" in row or None in row.values():
                    wanted = len(reader.fieldnames or ())
                    yield Record(None, path, start, f"expected {wanted} columns, got another number")
                    continue
                yield Record(row, path, start)
        except (csv.Error, UnicodeDecodeError) as error:
            yield Record(None, path, line + 1, f"expected a table in UTF-8, got: {error}")


def _lines(path: Path, form: Form) -> Iterator[Record]:
    pattern = re.compile(form.line or "")
    for record in text_lines(path):
        match = pattern.fullmatch(record.data.strip()) if record.problem is None else None
        if record.problem is None and match is None:
            yield Record(None, path, record.at, f"expected {form.line}, got {show(record.data)}")
        else:
            yield Record(match.groupdict() if match else None, path, record.at, record.problem)


# ------------------------------------------------------------------------------------------------------------ questions


def _questions(
    record: Record, form: Form, media: Path | None, images: dict[str, Any], need_images: bool
) -> Iterator[Question]:
    data = record.data
    if not isinstance(data, Mapping):
        raise Rejected(f"expected an object with columns, got {show(data)}")
    folder = (media or record.file.parent / form.image_folder).absolute()
    for part, at in _spread(data, form, record):
        columns = _image_columns(part, form)
        # once decoded, the text of an image is not kept
        question = {name: v for name, v in _fields(part, at, form).items() if name not in columns}
        question["id"] = _id(question)
        found = _images(part, columns, folder, images) if need_images else []
        images[question["id"]] = found[0] if len(found) == 1 else None
        question["images"] = found
        question["videos"] = _videos(question, form, folder)
        yield question


def _fields(part: Mapping[str, Any], at: str, form: Form) -> Question:
    """The columns of a record under their names as fields, checked and in their types."""
    question = {**part, **form.constants}
    for field, column in form.fields.items():
        question[field] = at if column == KEY else _column({**part, KEY: at}, column)
    for column in form.required:
        _column(part, column)
    for field, text in form.derived.items():
        question[field] = _derived(question, field, text)
    for column in form.numbers:
        question[column] = _number(part, column)
    if form.lettered:
        question["options"] = _lettered(part)
    for field in form.lists:
        question[field] = _list(question, field)
    for field in form.xywh:
        question[field] = _corners(question, field)
    if form.windows:
        question["windows"] = _windows([_column(question, column) for column in form.windows], form.windows)
    return question


def _spread(data: Mapping[str, Any], form: Form, record: Record) -> Iterator[tuple[dict[str, Any], str]]:
    """The questions in a record, each with its key."""
    if not form.spread:
        yield dict(data), str(record.at)
        return
    lists = {column: _column(data, column) for column in form.spread}
    if (
        any(not isinstance(values, list) for values in lists.values())
        or len({*map(len, lists.values())}) != 1
    ):
        raise Rejected(f"fields {', '.join(lists)}: expected lists of one length")
    for i in range(len(next(iter(lists.values())))):
        part = {form.spread[column]: values[i] for column, values in lists.items()}
        yield {**data, **part}, f"{record.at}-{i}"


def _column(data: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of the first of several (`a|b`) that is there."""
    for name in column.split("|"):
        if name in data:
            return data[name]
    wanted = column.replace("|", "' or '")
    raise Rejected(f"column '{wanted}': expected it, got only {', '.join(map(str, data))[:200]}")


def _derived(question: Mapping[str, Any], field: str, text: str) -> str:
    try:
        return template(text).render(question)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise Rejected(f"field '{field}': expected columns to make it of ({text}), got: {error}") from None


def _id(question: Mapping[str, Any]) -> str:
    value = _column(question, "id")
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Rejected(f"column 'id': expected a text or a whole number, got {show(value)}")
    return str(value)


def _number(data: Mapping[str, Any], column: str) -> float:
    try:
        return float(_column(data, column))
    except (TypeError, ValueError):
        raise Rejected(f"column '{column}': expected a number, got {show(data[column])}") from None


def _lettered(data: Mapping[str, Any]) -> list[str]:
    """The texts of the columns A, B, C, … up to the first that is empty."""
    options = []
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        if not (data.get(letter) or "").strip():
            break
        options.append(data[letter])
    return options


def _list(question: Mapping[str, Any], field: str) -> list[Any]:
    value = _column(question, field)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                value = ast.literal_eval(value)  # literals only: nothing is run
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                value = [value] if value else []
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise Rejected(f"column '{field}': expected a list, got {show(value)}")
    return list(value)


def _corners(question: Mapping[str, Any], field: str) -> list[float]:
    box = _column(question, field)
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise Rejected(f"column '{field}': expected [x, y, width, height], got {show(box)}")
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def _windows(values: list[Any], columns: list[str]) -> list[list[float]]:
    """True [start, end] in seconds: a column with one or a list of them, or two columns."""
    found = values[0] if len(values) == 1 else [values]
    if isinstance(found, list) and len(found) == 2 and all(isinstance(v, int | float) for v in found):
        found = [found]
    if not isinstance(found, list) or not all(
        isinstance(w, list) and len(w) == 2 and all(isinstance(v, int | float) for v in w) for w in found
    ):
        raise Rejected(f"column '{columns[0]}': expected [start, end] in seconds, got {show(found)}")
    return found


def _videos(question: Question, form: Form, folder: Path) -> list[str]:
    if form.video is None:
        return []
    name = re.sub(r"\{(\w+)\}", lambda match: str(_column(question, match[1])), form.video)
    return [locate(name, "video", folder)]


# --------------------------------------------------------------------------------------------------------------- images


def _image_columns(data: Mapping[str, Any], form: Form) -> list[str]:
    """The columns of a record that hold images. Raises Rejected where one is missing."""
    columns: list[str] = []
    for pattern in [form.images] if isinstance(form.images, str) else form.images:
        if "*" in pattern:
            columns += sorted(fnmatch.filter(map(str, data), pattern), key=lambda c: (len(c), c))
        else:
            _column(data, pattern)
            columns.append(next(name for name in pattern.split("|") if name in data))
    return columns


def _images(data: Mapping[str, Any], columns: list[str], folder: Path, known: Mapping[str, Any]) -> list[Any]:
    """Images of the columns. Base64 text in a TSV is decoded; a short text there is the index of the row whose image it is."""
    found: list[Any] = []
    for column in columns:
        value = data[column]
        items = _list(data, column) if isinstance(value, str) and value.startswith("[") else value
        found += [
            _image(item, column, folder, known)
            for item in (items if isinstance(items, list) else [items])
            if item not in (None, "")
        ]
    return found


def _image(item: Any, column: str, folder: Path, known: Mapping[str, Any]) -> Any:
    if isinstance(item, bytes):
        return {"bytes": item}
    if isinstance(item, Mapping) and isinstance(item.get("bytes"), bytes):
        return {"bytes": item["bytes"]}
    if isinstance(item, Mapping):
        item = item.get("path")
    if not isinstance(item, str):
        raise Rejected(f"column '{column}': expected an image, got {show(item)}")
    if re.search(r"\.(png|jpe?g|webp|bmp|gif|tiff?)$", item, re.IGNORECASE):
        return locate(item, column, folder)
    if len(item) <= _SHORT:
        if known.get(item) is None:
            raise Rejected(
                f"column '{column}': expected the index of an earlier row with an image, got {item!r}"
            )
        return known[item]
    try:
        return {"bytes": base64.b64decode(item, validate=True)}
    except binascii.Error as error:
        raise Rejected(
            f"column '{column}': expected an image in base64, got {item[:20]!r}… ({error})"
        ) from None

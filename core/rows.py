"""Rows: one schema for SFT, RL and evaluation, read from JSONL, Parquet or a `datasets` directory and checked at once.

| field | type | meaning |
|---|---|---|
| `id` | str | unique in the file |
| `task` | str | routes rewards and metrics |
| `prompt` | list of messages | content is a string or parts `text`, `image`, `video`; media parts are placeholders |
| `document` | str or list of parts | in place of `prompt`: text and media in reading order, for `pretrain.py` alone |
| `images`, `videos` | list | paths (relative to the file), bytes, `{"path"\\|"bytes", …}`; videos may add start, end, fps |
| `answer` | dict or None | typed ground truth |
| `trace` | dict, list or None | the four stages (`summary`, `caption`, `reasoning`, `conclusion`), or messages |
| `source` | str, dict or None | data set, licence |

Every other column is kept unchanged. Media fill the placeholders of the prompt, then those of a multi-turn trace, in
reading order. A file with broken rows is refused as a whole, with one line per broken row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from core.errors import RowError
from core.files.hub.ids import HubError, hub_id
from core.files.hub.paths import rows_files
from core.files.records import Unreadable, read_records
from core.files.replacing import replacing
from core.media.tokens import MEDIA_TOKENS
from core.text import short

Row = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
TRACE_STAGES = ("summary", "caption", "reasoning", "conclusion")
PIXEL_LIMITS = ("min_pixels", "max_pixels", "factor")
FRAME_COLUMNS = (
    "frame_out",
    "image_size",
    "resized_size",
    *PIXEL_LIMITS,
    *(f"model_{n}" for n in PIXEL_LIMITS),
)
"""Optional columns that say in which frame a row's coordinates are (`rewards.geometry.frames`)."""
LISTED_ERRORS = 20  # broken rows named in one message; the rest is counted


class OtherForm(RowError):
    """A data set of the Hub whose columns are not those of rows."""


class BrokenRow(ValueError):
    """One row's first problem. Arguments: the field ("" for the row as a whole), what was expected and what was found."""

    def __str__(self) -> str:
        field, problem = self.args
        return f"field '{field}': {problem}" if field else problem


def read_rows(
    path: str | Path,
    *,
    limit: int | None = None,
    task: str | None = None,
    split: str | None = None,
    check: Callable[[Any, Path], Row] | None = None,
) -> list[Row]:
    """All rows of a file or folder, checked, with media paths made absolute and missing optional fields set.

    Args:
        path: a file or folder that `core.files.records.read_records` reads, or a data set of the Hub (core/files/hub/).
        limit: keep only the first `limit` rows (after `task`); later ones are neither read nor checked.
        task: keep only rows of this task.
        split: of a data set of the Hub that has several, where `path` names none.
        check: turns (record, folder) into a row or raises BrokenRow; `check_row` unless given.

    Raises:
        RowError: no such file, an unknown kind of file, no row left, or broken rows (20 listed, the rest counted).
    """
    check = check or check_row
    rows: list[Row] = []
    errors: list[str] = []
    first_at: dict[str, str] = {}
    tasks: set[str] = set()
    try:
        records: Iterator[tuple[str, Any, Path]] = (
            record for file in rows_files(path, split) for record in read_records(file)
        )
    except HubError as error:
        raise RowError(str(error)) from None
    if task is not None:
        records = _of_task(records, task, tasks)
    for where, record, folder in islice(records, limit):
        if not rows and not errors and _in_another_form(path, record):
            raise OtherForm(
                f"{path}: expected rows (docs/data_format.md: id, task, prompt, answer …), got the columns"
                f" {', '.join(record)}. `python -m data_recipes rows {path}` makes rows of the forms it knows;"
                f" `python -m data_recipes inspect {path}` shows what it is"
            )
        try:
            row = check(record, folder)
            if row["id"] in first_at:
                raise BrokenRow(
                    "id",
                    f"expected a unique id, got {short(row['id'])} again (first at {first_at[row['id']]})",
                )
            first_at[row["id"]] = where
            rows.append(row)
        except BrokenRow as error:
            errors.append(f"{where}: {error}")
    if errors:
        more = [f"and {len(errors) - LISTED_ERRORS} more broken rows"] if len(errors) > LISTED_ERRORS else []
        raise RowError("\n".join(errors[:LISTED_ERRORS] + more))
    if not rows and limit != 0:
        found = f" of task {task!r} (found: {', '.join(sorted(tasks)) or 'no rows at all'})" if task else ""
        raise RowError(f"{path}: expected at least one row{found}, got none")
    return rows


def _in_another_form(path: str | Path, record: Any) -> bool:
    """Whether this is the first record of a Hub data set that nobody has written as rows."""
    known = isinstance(record, Mapping) and not {"id", "task", "prompt"} & set(record)
    return known and hub_id(path, "dataset") is not None


def write_rows(rows: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Write rows as JSONL with media paths relative to the file, atomically; returns the path.

    Raises RowError for media given as bytes, which JSON cannot hold.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    with replacing(path) as file:
        for row in rows:
            record = dict(row)
            for field in ("images", "videos"):
                if record.get(field) is not None:
                    record[field] = [
                        _relative(m, folder, f"row {short(row.get('id'))}: field '{field}[{i}]'")
                        for i, m in enumerate(record[field])
                    ]
            file.write(f"{json.dumps(record, ensure_ascii=False)}\n".encode())
    return path


# ------------------------------------------------------------------------------------------------------------- checks


def check_row(record: Any, folder: Path) -> Row:
    """One record as a row: checked against the contract, media paths absolute (relative ones start at `folder`).

    Raises BrokenRow with the first field that is wrong.
    """
    row = check_id(record, folder)
    _expect(row, "task", "a non-empty string", lambda v: isinstance(v, str) and bool(v))
    if row.get("prompt") is None and row.get("document") is not None:
        raise BrokenRow(
            "prompt", "expected chat messages, got a 'document', which pretrain.py alone trains on"
        )
    row["prompt"] = _messages(row.get("prompt"), "prompt")
    row["trace"] = _trace(row.get("trace"))
    row["source"] = row.get("source")
    turns = row["prompt"] + (row["trace"] if isinstance(row["trace"], list) else [])
    return _with_media(row, turns, folder)


def check_document(record: Any, folder: Path) -> Row:
    """One record as a row of `pretrain.py`: with a `document`, as a list of parts, or with `prompt` and `trace`.

    Raises BrokenRow with the first field that is wrong.
    """
    row = check_id(record, folder)
    if row.get("document") is None:
        return check_row(record, folder)
    for field in ("prompt", "trace"):
        _expect(row, field, "none beside a 'document'", lambda v: v is None)
    _expect(row, "task", "a non-empty string", lambda v: isinstance(v, str) and bool(v))
    parts = row["document"]
    if isinstance(parts, str):
        parts = [{"type": "text", "text": parts}]
    if not isinstance(parts, list) or not parts:
        raise BrokenRow("document", f"expected a string or a non-empty list of parts, got {_show(parts)}")
    row["document"] = [_part(part, f"document[{i}]") for i, part in enumerate(parts)]
    return _with_media(row, [{"content": row["document"]}], folder)


def _with_media(row: Row, turns: Sequence[Mapping[str, Any]], folder: Path) -> Row:
    """The row with its media, of which there must be one for each placeholder in the turns."""
    for field, kind in (("images", "image"), ("videos", "video")):
        row[field] = _media(row.get(field), field, folder)
        wanted = count_placeholders(turns, kind)
        if wanted != len(row[field]):
            raise BrokenRow(
                field,
                f"expected {wanted} {kind}(s), one per placeholder {{'type': '{kind}'}}, got {len(row[field])}",
            )
    return row


def check_id(record: Any, folder: Path) -> Row:
    """One record as a row to score completions with, of which only `id` and `answer` are checked. Raises BrokenRow."""
    if isinstance(record, Unreadable):
        raise BrokenRow("", str(record))
    if not isinstance(record, Mapping):
        raise BrokenRow("", f"expected one JSON object, got {_show(record)}")
    row: Row = dict(record)
    _expect(row, "id", "a non-empty string", lambda v: isinstance(v, str) and bool(v))
    row["answer"] = row.get("answer")
    _expect(row, "answer", "a dict or null", lambda v: v is None or isinstance(v, dict))
    return row


def count_placeholders(messages: Sequence[Mapping[str, Any]], kind: str) -> int:
    """Content parts of type `kind` ("image" or "video") in chat messages."""
    parts = (p for m in messages if not isinstance(m["content"], str) for p in m["content"])
    return sum(part["type"] == kind for part in parts)


def _expect(row: Row, field: str, expected: str, right: Callable[[Any], bool]) -> None:
    value = row.get(field)
    if not right(value):
        raise BrokenRow(field, f"expected {expected}, got {_show(value) if field in row else 'nothing'}")


def _messages(value: Any, field: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise BrokenRow(field, f"expected a non-empty list of chat messages, got {_show(value)}")
    messages = []
    for i, message in enumerate(value):
        at = f"{field}[{i}]"
        if not isinstance(message, Mapping):
            raise BrokenRow(at, f"expected a message {{'role': …, 'content': …}}, got {_show(message)}")
        if message.get("role") not in ROLES:
            raise BrokenRow(
                f"{at}.role", f"expected one of {', '.join(ROLES)}, got {_show(message.get('role'))}"
            )
        content = message.get("content")
        if isinstance(content, str):
            _check_text(content, f"{at}.content")
        elif isinstance(content, list) and content:
            content = [_part(part, f"{at}.content[{j}]") for j, part in enumerate(content)]
        else:
            raise BrokenRow(
                f"{at}.content", f"expected a string or a non-empty list of parts, got {_show(content)}"
            )
        messages.append(dict(message) | {"content": content})
    return messages


def _part(part: Any, at: str) -> dict[str, Any]:
    """A content part without the empty fields that columnar files give to every part."""
    if not isinstance(part, Mapping):
        raise BrokenRow(at, f"expected a content part {{'type': …}}, got {_show(part)}")
    kind = part.get("type")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise BrokenRow(f"{at}.text", f"expected a string, got {_show(part.get('text'))}")
        _check_text(part["text"], f"{at}.text")
        return {"type": "text", "text": part["text"]}
    if kind not in ("image", "video"):
        raise BrokenRow(f"{at}.type", f"expected text, image or video, got {_show(kind)}")
    if part.get(kind) is not None:
        raise BrokenRow(
            f"{at}.{kind}",
            f"expected a placeholder (the medium belongs in '{kind}s'), got {_show(part[kind])}",
        )
    return {"type": kind}


def _check_text(text: str, at: str) -> None:
    for token in MEDIA_TOKENS:
        if token in text:
            raise BrokenRow(at, f"expected text, got {token} in it (media are parts of type image or video)")


def _trace(value: Any) -> dict[str, str] | list[dict[str, Any]] | None:
    if isinstance(value, Mapping):
        if all(stage is None for stage in value.values()):
            return None  # a struct column without a value in this row
        if set(value) != set(TRACE_STAGES):
            raise BrokenRow("trace", f"expected the keys {', '.join(TRACE_STAGES)}, got {short(list(value))}")
        for stage, text in value.items():
            if not isinstance(text, str):
                raise BrokenRow(f"trace.{stage}", f"expected a string, got {_show(text)}")
            _check_text(text, f"trace.{stage}")
        return dict(value)
    if value is None:
        return None
    if isinstance(value, list):
        return _messages(value, "trace")
    raise BrokenRow("trace", f"expected the four stages, a list of messages, or null, got {_show(value)}")


def _media(value: Any, field: str, folder: Path) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BrokenRow(field, f"expected a list, got {_show(value)}")
    return [_medium(medium, f"{field}[{i}]", folder) for i, medium in enumerate(value)]


def _medium(medium: Any, at: str, folder: Path) -> Any:
    if isinstance(medium, bytes) and medium:
        return medium
    if isinstance(medium, str) and medium:
        return _file(medium, at, folder)
    if isinstance(medium, Mapping):
        options = {k: v for k, v in medium.items() if v is not None}
        if isinstance(options.get("bytes"), bytes):
            return options
        if isinstance(options.get("path"), str) and options["path"]:
            return options | {"path": _file(options["path"], f"{at}.path", folder)}
    raise BrokenRow(at, f"expected a path, bytes, or a dict with 'path' or 'bytes', got {_show(medium)}")


def _file(path: str, at: str, folder: Path) -> str:
    absolute = os.path.normpath(os.path.join(folder, path))
    if not os.path.isfile(absolute):
        raise BrokenRow(at, f"expected an existing file, got {short(path)} (no file {short(absolute)})")
    return absolute


def _relative(medium: Any, folder: Path, at: str) -> Any:
    if isinstance(medium, (str, Path)):
        return os.path.relpath(os.path.join(folder, medium), folder)
    if isinstance(medium, Mapping) and not medium.get("bytes"):
        return dict(medium) | {"path": _relative(medium["path"], folder, at)}
    raise RowError(f"{at}: expected a path (JSONL holds no bytes; write Parquet), got {_show(medium)}")


def _show(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if value is None:
        return "null"
    text = repr(value)
    return (text if len(text) <= 60 else f"{text[:57]}…") + f" ({type(value).__name__})"


def _of_task(
    records: Iterable[tuple[str, Any, Path]], task: str, tasks: set[str]
) -> Iterator[tuple[str, Any, Path]]:
    """Records of `task`, and those too broken to have one; the names of all tasks go to `tasks`."""
    for record in records:
        name = record[1].get("task") if isinstance(record[1], dict) else None
        if isinstance(name, str):
            tasks.add(name)
        if name == task or not isinstance(name, str):
            yield record

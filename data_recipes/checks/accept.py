"""Whether what a reader made is a row that can be kept: of the right form, fit for use, and storable as JSON."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from core.rows import BrokenRow, Row, check_document
from data_recipes.files.media_store import store_bytes
from data_recipes.records import Rejected

MEDIA = ("images", "videos")
CONTRACT = (
    *("id", "task", "prompt", "document", "images", "videos", "answer", "trace", "source", "origin"),
    *("chosen", "rejected", "margin"),
)
"""Fields in which nothing may be left out: a value that JSON cannot hold costs the row."""


def accept(
    made: Row,
    folder: Path,
    check: Callable[[Row], None],
    *,
    roots: Iterable[str],
    store: Path | None,
    left_out: Counter[str],
) -> Row:
    """The row checked, media paths absolute from `folder`; raises Rejected, whatever is in it.

    roots: folders that media given by path must lie under, see `media_roots`.
    store: where media that are bytes are put as files; None leaves them as they are.
    left_out: counts what other columns hold that JSON cannot, as "field (kind)".
    """
    try:
        row = check_document(made, folder)
    except BrokenRow as error:
        raise Rejected(str(error)) from None
    except Exception as error:  # noqa: BLE001  a value that the check did not think of costs its row alone
        raise Rejected(f"expected a row, got one that cannot be checked ({_said(error)})") from None
    _confine(row, tuple(roots))
    if store is not None:
        row = store_bytes(row, store)  # an OSError is the disk's, and ends the run
    found: Counter[str] = Counter()
    row = {
        name: _field(name, value, found)
        for name, value in row.items()
        if not _is_unstorable(name, value, found)
    }
    try:
        check(row)
    except Rejected:
        raise
    except Exception as error:  # noqa: BLE001  likewise
        raise Rejected(f"expected a row, got one that cannot be checked ({_said(error)})") from None
    left_out.update(found)
    return row


ANNOTATIONS = ("annotations", "Annotations")  # folders beside those of the images


def media_roots(path: Path, *more: Path | None) -> tuple[str, ...]:
    """Folders that a source's media may lie under, links resolved: its own (of a hub's cache the whole entry) and `more`."""
    own = path if path.is_dir() else path.parent
    own = Path(os.path.abspath(own))
    own = own.parent if own.name in ANNOTATIONS else own
    cached = next(
        (p.parent for p in (own, *own.parents) if p.name == "snapshots" and (p.parent / "blobs").is_dir()),
        own,
    )
    return tuple(os.path.realpath(folder) for folder in (cached, *more) if folder is not None)


def _confine(row: Row, roots: tuple[str, ...]) -> None:
    """Rejected for a row that names a file outside of all roots."""
    for field in MEDIA:
        for i, medium in enumerate(row[field]):
            path = medium.get("path") if isinstance(medium, Mapping) and not medium.get("bytes") else medium
            if not isinstance(path, str):
                continue
            real = os.path.realpath(path)
            if not any(real.startswith(root.rstrip(os.sep) + os.sep) for root in roots):
                link = f", a link to {real}" if real != path else ""
                raise Rejected(
                    f"field '{field}[{i}]': expected a file under {' or '.join(roots)}, got {path}{link} (option `root` of the"
                    " source names a further folder)"
                )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


# ------------------------------------------------------------------------------------------------ what JSON can hold

_TEXTS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((datetime, date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    ((Decimal, UUID), str),
)
"""How values of Parquet's types are written: times in ISO 8601, durations in seconds, decimals digit for digit."""


def _field(name: str, value: Any, left_out: Counter[str]) -> Any:
    if name in MEDIA:
        return [_medium(item, f"{name}[{i}]") for i, item in enumerate(value)]
    return _storable(value, name, left_out, strict=name in CONTRACT)


def _medium(value: Any, at: str) -> Any:
    """A medium; its bytes, where they stay, are no matter of JSON."""
    if isinstance(value, Mapping):
        return {
            k: v if k == "bytes" else _storable(v, f"{at}.{k}", Counter(), strict=True)
            for k, v in value.items()
        }
    return value if isinstance(value, bytes) else _storable(value, at, Counter(), strict=True)


def _is_unstorable(name: str, value: Any, left_out: Counter[str]) -> bool:
    """Whether a whole column is left out; it is counted."""
    if name in CONTRACT or _kind(value) is None:
        return False
    left_out[f"{name} ({_kind(value)})"] += 1
    return True


def _kind(value: Any) -> str | None:
    """What a value that JSON cannot hold is called."""
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(value, float) and not math.isfinite(value):
        return "no finite number"
    known = (
        str,
        int,
        float,
        bool,
        type(None),
        list,
        tuple,
        Mapping,
        datetime,
        date,
        time,
        timedelta,
        Decimal,
        UUID,
    )
    return None if isinstance(value, known) else type(value).__name__


def _storable(value: Any, at: str, left_out: Counter[str], *, strict: bool) -> Any:
    """The value as JSON holds it. What it cannot hold is refused if `strict`, else left out of its object, null in a list."""
    kind = _kind(value)
    if kind is not None:
        if strict:
            raise Rejected(f"field '{at}': expected what JSON can hold, got {value!r:.40} ({kind})")
        left_out[f"{_anywhere(at)} ({kind})"] += 1
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Rejected(
                f"field '{at}': expected text, got half a surrogate pair at character {error.start}"
            ) from None
        return value
    if isinstance(value, Mapping):
        kept = {}
        for key, item in value.items():
            if not strict and _kind(item) is not None:
                left_out[f"{_anywhere(at)}.{key} ({_kind(item)})"] += 1
                continue
            name = key if isinstance(key, str) else str(key)
            kept[_storable(name, f"{at} (a key)", left_out, strict=strict)] = _storable(
                item, f"{at}.{name}", left_out, strict=strict
            )
        return kept
    if isinstance(value, list | tuple):
        return [_storable(item, f"{at}[{i}]", left_out, strict=strict) for i, item in enumerate(value)]
    return next((write(value) for kinds, write in _TEXTS if isinstance(value, kinds)), value)


def _anywhere(at: str) -> str:
    """The place without indices, so that a long list is one line of the report."""
    return re.sub(r"\[\d+\]", "[]", at)

"""Items, outcomes and signatures as JSON: between a trainer and its worker processes, and over HTTP (protocol version 1).

    GET  /health            {"status": "ok", "protocol": 1, "functions": [...], "busy": n}
    GET  /functions         {name: {"style", "columns", "required", "wants", "whole_groups", "whole_text", …}}
    POST /score             {"function", "items": [{"key", "text", "row", "ids", "group"}]}
                         -> {"function", "results": [{"key", "value", "extra", "failure"}], "metrics": [[name, value]]}
    POST /check             {"function", "rows": [...]} -> {"function", "problems": [null or text]}

Every result carries the key of its item, so results cannot be mixed up between rollouts. JSON and not pickle, so that reading
a message never runs code. Values of rows that JSON lacks (bytes, dates, decimals) travel as an object with one key such as
"__bytes__".
"""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from rewards.serving.items import Failure, Item, Outcome
from rewards.serving.signatures import Signature

PROTOCOL = 1
MAX_DEPTH = 100
"""Limit over HTTP for the nesting of lists and objects: deeper values cannot be copied safely."""

_READ: dict[str, Callable[[str], Any]] = {
    "__bytes__": lambda text: base64.b64decode(text, validate=True),
    "__datetime__": datetime.datetime.fromisoformat,
    "__date__": datetime.date.fromisoformat,
    "__time__": datetime.time.fromisoformat,
    "__decimal__": decimal.Decimal,
}


def dumps(message: Any) -> bytes:
    """JSON bytes. Raises TypeError naming a type that cannot be sent."""
    return _ENCODER.encode(message).encode()


def loads(body: bytes) -> Any:
    """The message of `dumps`. Raises ValueError for anything else."""
    return _DECODER.decode(body.decode())


def loads_untrusted(body: bytes) -> Any:
    """`loads` for a message from the network: also raises ValueError for values nested deeper than MAX_DEPTH."""
    try:
        found = loads(body)
    except RecursionError:
        found = None
    if (found is None and body.strip() != b"null") or _deeper_than(found, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return found


def _deeper_than(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep; not recursive."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def item_to_json(key: str, item: Item, signature: Signature) -> dict[str, Any]:
    """One rollout, with only what the function reads of it."""
    row: Mapping[str, Any] = item.row
    if signature.columns is not None:
        names = {"id", *signature.columns, *(["prompt"] if "prompts" in signature.wants else [])}
        row = {name: value for name, value in item.row.items() if name in names}
    wants_ids = "completion_ids" in signature.wants or (
        signature.style == "batch" and signature.columns is None
    )
    ids = [int(token) for token in item.ids] if wants_ids and item.ids is not None else None
    return {"key": key, "text": item.text, "row": row, "ids": ids, "group": item.group}


def item_from_json(found: Any) -> tuple[str, Item]:
    """(key, rollout). Raises ValueError naming the field that is wrong."""
    if not isinstance(found, dict):
        raise ValueError(f"item: expected an object, got {type(found).__name__}")
    for name, kinds in (
        ("key", str),
        ("text", str),
        ("row", dict),
        ("ids", list | None),
        ("group", str | None),
    ):
        if not isinstance(found.get(name), kinds):
            raise ValueError(f"item.{name}: expected {kinds}, got {type(found.get(name)).__name__}")
    return found["key"], Item(found["text"], found["row"], found.get("ids"), found.get("group"))


def outcome_to_json(key: str, outcome: Outcome) -> dict[str, Any]:
    """One result."""
    failure = outcome.failure and asdict(outcome.failure)
    return {"key": key, "value": outcome.value, "extra": outcome.extra, "failure": failure}


def outcome_from_json(found: Mapping[str, Any]) -> Outcome:
    """The outcome in a result. Raises KeyError, TypeError or ValueError if it holds none."""
    failure = Failure(**found["failure"]) if found["failure"] else None
    value = None if found["value"] is None else float(found["value"])
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(f"value: expected a number in [0, 1], got {value}")
    return Outcome(value, dict(found["extra"]), failure)


def signature_from_json(found: Mapping[str, Any]) -> Signature:
    """The signature that `dataclasses.asdict` made an object of."""
    columns = found["columns"]
    lists = {"required": tuple(found["required"]), "wants": tuple(found["wants"])}
    return Signature(**{**found, **lists, "columns": None if columns is None else tuple(columns)})


def _encode(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"__bytes__": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime.datetime):  # before date, which it is a subclass of
        return {"__datetime__": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"__date__": value.isoformat()}
    if isinstance(value, datetime.time):
        return {"__time__": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"__decimal__": str(value)}
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent as JSON")


def _decode(found: dict[str, Any]) -> Any:
    if len(found) != 1:
        return found
    ((tag, text),) = found.items()
    if tag not in _READ or not isinstance(text, str):
        return found
    try:
        return _READ[tag](text)
    except (ValueError, binascii.Error, decimal.InvalidOperation) as error:
        raise ValueError(f"{tag}: {error}") from None


_ENCODER = json.JSONEncoder(default=_encode)  # kept, because making them takes longer than a small message
_DECODER = json.JSONDecoder(object_hook=_decode)

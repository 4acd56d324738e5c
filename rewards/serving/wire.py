"""What the reward service and its client say to each other: JSON, version 1.

    GET  /health            {"status": "ok", "protocol": 1, "functions": [...], "busy": n}
    GET  /functions         {name: {"style", "columns", "required", "wants", "whole_groups", "whole_text", …}}
    POST /score             {"function", "items": [{"key", "text", "row", "ids", "group"}]}
                         -> {"function", "results": [{"key", "value", "extra", "failure"}], "metrics": [[name, value]]}
    POST /check             {"function", "rows": [...]} -> {"function", "problems": [null or text]}

Every result carries the key of its item, so an answer can never be taken for another rollout's. `bytes` in rows
travel as {"__bytes__": base64}.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rewards.serving.calls import Failure, Item, Outcome
from rewards.serving.plugins import Signature

PROTOCOL = 1
MAX_DEPTH = 100
"""Of lists and objects in a message: deeper ones break copying and pickling on their way."""


def dumps(message: Any) -> bytes:
    """JSON bytes; TypeError names a type that cannot travel."""
    return json.dumps(message, default=_encode).encode()


def loads(body: bytes) -> Any:
    """The message of `dumps`; ValueError for anything that is not JSON, or is nested deeper than MAX_DEPTH."""
    try:
        found = json.loads(body, object_hook=_decode)
    except RecursionError:
        found = None
    if (found is None and body.strip() != b"null") or _deeper_than(found, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return found


def _deeper_than(value: Any, limit: int) -> bool:
    """Whether lists and objects stand in each other more than `limit` deep; without recursion."""
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
    """One rollout with only the columns that the function reads."""
    row: Mapping[str, Any] = item.row
    if signature.columns is not None:
        names = {"id", *signature.columns, *(["prompt"] if "prompts" in signature.wants else [])}
        row = {name: value for name, value in item.row.items() if name in names}
    ids = None if item.ids is None else [int(token) for token in item.ids]
    return {"key": key, "text": item.text, "row": row, "ids": ids, "group": item.group}


def item_from_json(found: Any) -> tuple[str, Item]:
    """(key, rollout); ValueError says what is wrong."""
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
    return {"key": key, **asdict(outcome)}


def outcome_from_json(found: Mapping[str, Any]) -> Outcome:
    """The result; KeyError or TypeError if it is none."""
    failure = Failure(**found["failure"]) if found["failure"] else None
    value = None if found["value"] is None else float(found["value"])
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(f"value: expected a number in [0, 1], got {value}")
    return Outcome(value, dict(found["extra"]), failure)


def signature_from_json(found: Mapping[str, Any]) -> Signature:
    """A function's signature as it was before it became JSON."""
    columns = found["columns"]
    lists = {"required": tuple(found["required"]), "wants": tuple(found["wants"])}
    return Signature(**{**found, **lists, "columns": None if columns is None else tuple(columns)})


def _encode(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"__bytes__": base64.b64encode(bytes(value)).decode()}
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent to a reward service")


def _decode(found: dict[str, Any]) -> Any:
    if set(found) == {"__bytes__"} and isinstance(found["__bytes__"], str):
        try:
            return base64.b64decode(found["__bytes__"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"__bytes__: {error}") from None
    return found

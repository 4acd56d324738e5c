"""Actions on a screen as typed JSON: MiMo-VL's action space (arXiv 2506.03569, appendix D).

| action | fields (? may be left out) |
|---|---|
| click | start_point, text? |
| longpress, hover | start_point |
| drag | start_point, end_point |
| scroll | direction (up, down, left, right), scroll_distance?, start_point? |
| input | text, start_point? |
| select | text |
| press | keys |
| open, appswitch | app |
| finished | status |
| wait | |

`{"action": "click", "start_point": [320, 48]}` is one action. A completion states an action if it holds exactly one such
object, alone, in a code fence or in a sentence, that it does not deny; every field must be of the action's, and of its type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rewards.reading.final_answer import marked_answer, standing
from rewards.reading.gold import MAX_COORDINATE

ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "click": (("start_point",), ("text",)),
    "longpress": (("start_point",), ()),
    "hover": (("start_point",), ()),
    "drag": (("start_point", "end_point"), ()),
    "scroll": (("direction",), ("scroll_distance", "start_point")),
    "input": (("text",), ("start_point",)),
    "select": (("text",), ()),
    "press": (("keys",), ()),
    "open": (("app",), ()),
    "appswitch": (("app",), ()),
    "finished": (("status",), ()),
    "wait": ((), ()),
}
"""Fields that each action must have, and those that it may have."""
POINTS, TEXTS = ("start_point", "end_point"), ("text", "app", "status")
DIRECTIONS = ("up", "down", "left", "right")
KEY_NAMES = {
    "control": "ctrl",
    "command": "cmd",
    "return": "enter",
    "escape": "esc",
    "delete": "del",
    "option": "alt",
}
MAX_STARTS = 64
"""Opening braces at which an object is looked for, the last ones of a completion; bounds the time."""
MAX_KEYS = 16


@dataclass(frozen=True)
class Action:
    """name: into ACTIONS. fields: points as (x, y), texts as written, `direction` in lower case, `keys` as a set of lower-case
    names."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class NoAction(ValueError):
    """A value that is no action; the message says what was expected."""


def action_of(value: Any) -> Action:
    """An object as an action. Raises NoAction naming the first field that is wrong."""
    if not isinstance(value, Mapping) or not isinstance(value.get("action"), str):
        raise NoAction("action: expected an object with the name of an action")
    name = value["action"].strip().casefold()
    if name not in ACTIONS:
        raise NoAction(f"action: expected one of {', '.join(ACTIONS)}, got {value['action']!r:.80}")
    needed, free = ACTIONS[name]
    given = {key: v for key, v in value.items() if key != "action" and v is not None}
    if unknown := [key for key in given if key not in (*needed, *free)]:
        raise NoAction(
            f"{unknown[0]}: not a field of {name}, which has {', '.join((*needed, *free)) or 'none'}"
        )
    if missing := [key for key in needed if key not in given]:
        raise NoAction(f"{missing[0]}: expected by {name}, got nothing")
    return Action(name, {key: _value(key, v) for key, v in given.items()})


def read_action(completion: object) -> Action | None:
    """The one action that a completion states; None if it states none, or several different ones."""
    text = marked_answer(completion)
    found = []
    for start, end, value in _objects(text):
        if standing(text[:start], text[end:]) == "denied":
            continue
        if standing(text[:start], text[end:]) == "open":
            return None
        try:
            found.append(action_of(value))
        except NoAction:
            return None
    return found[0] if found and all(action == found[0] for action in found) else None


def normal_keys(value: Any) -> frozenset[str]:
    """Keys as a set of lower-case names: "Ctrl+C", ["ctrl", "c"] and "control c" are the same. Raises NoAction."""
    names = value.replace("+", " ").split() if isinstance(value, str) and value.strip("+ ") else value
    if isinstance(value, str) and value.strip() == "+":
        names = ["+"]
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_KEYS:
        raise NoAction(f"keys: expected one to {MAX_KEYS} keys, as a text or a list, got {value!r:.80}")
    if not all(isinstance(key, str) and key.strip() for key in names):
        raise NoAction(f"keys: expected names of keys, got {value!r:.80}")
    lower = [key.strip().casefold() for key in names]
    return frozenset(KEY_NAMES.get(key, key) for key in lower)


def _value(key: str, value: Any) -> Any:
    if key in POINTS:
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
            raise NoAction(f"{key}: expected [x, y], got {value!r:.80}")
        return float(value[0]), float(value[1])
    if key == "scroll_distance":
        if not _is_number(value) or value <= 0:
            raise NoAction(f"{key}: expected a positive number, got {value!r:.80}")
        return float(value)
    if key == "keys":
        return normal_keys(value)
    if not isinstance(value, str):
        raise NoAction(f"{key}: expected a text, got {value!r:.80}")
    if key == "direction":
        if value.strip().casefold() not in DIRECTIONS:
            raise NoAction(f"{key}: expected one of {', '.join(DIRECTIONS)}, got {value!r:.80}")
        return value.strip().casefold()
    return value


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value) and abs(value) <= MAX_COORDINATE


def _objects(text: str) -> list[tuple[int, int, dict[str, Any]]]:
    """(start, end, value) of the JSON objects with a field `action` in a text, in order; those inside other objects are not
    looked for."""
    starts = [i for i, char in enumerate(text) if char == "{"][-MAX_STARTS:]
    found: list[tuple[int, int, dict[str, Any]]] = []
    end = 0
    for start in starts:
        if start < end or _A_VALUE.search(text[max(0, start - 20) : start]):
            continue
        try:
            value, stop = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        end = stop
        if isinstance(value, dict) and "action" in value:
            found.append((start, stop, value))
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_A_VALUE = re.compile(r"\"\s{0,9}:\s{0,9}\Z")
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)

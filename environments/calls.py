"""Calls as the policy writes them, read as JSON, in the two formats in use:

    <grounding>{"bbox_2d": [0.1, 0.2, 0.3, 0.4], "source": "observation_1"}</grounding>        Mini-o3: always a zoom
    <tool_call>{"name": "zoom", "arguments": {"bbox_2d": […], "source": "…"}}</tool_call>      Qwen, DeepEyes, TRL

A turn ends with the closing tag of its call. Nothing is evaluated, and no text makes reading raise anything but CallError or
take more than linear time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from environments.types import CallError

Format = Literal["grounding", "tool_call"]
STOP = ("</grounding>", "</tool_call>")
"""Texts that end a turn."""
MAX_CALL = 8192  # characters
MAX_DEPTH = 20  # of lists and objects
_TAG = re.compile(r"<(/?)(grounding|tool_call)>")
_ANSWER = "</answer>"


@dataclass(frozen=True)
class Call:
    """A tool's name and arguments, as written: strings, finite numbers, booleans, null, lists and objects of them."""

    name: str
    arguments: Mapping[str, Any]


def call_format(text: str) -> Format | None:
    """The format of the call that a turn ends with, or begins and does not close; None: there is no call.

    Tags that are only mentioned before an answer are no calls.
    """
    tags = list(_TAG.finditer(text))
    if not tags or (not tags[-1].group(1) and text.find(_ANSWER, tags[-1].end()) >= 0):
        return None
    return "grounding" if tags[-1].group(2) == "grounding" else "tool_call"


def read_call(text: str) -> Call | None:
    """The call that a turn ends with; None if there is none. Raises CallError if there is one that cannot be read."""
    form = call_format(text)
    if form is None:
        return None
    value = _object(_between(text, form), form)
    if form == "grounding":
        return Call("zoom", value)
    name, arguments = value.get("name"), value.get("arguments", {})
    if not isinstance(name, str) or not name:
        raise CallError('expected {"name": …, "arguments": {…}} inside <tool_call>, got no name')
    if isinstance(arguments, str):  # OpenAI's form: arguments as JSON text
        arguments = _object(arguments, form)
    if not isinstance(arguments, dict):
        raise CallError('expected "arguments" to be a JSON object with the tool\'s arguments')
    return Call(name, arguments)


def _between(text: str, form: Format) -> str:
    opening, closing = f"<{form}>", f"</{form}>"
    end = text.rfind(closing)
    start = text.rfind(opening, 0, end if end >= 0 else len(text))
    if start < 0:
        raise CallError(f"{closing} without {opening} before it")
    if end < 0 or text.find(opening, end) >= 0:
        raise CallError(f"the call is not closed with {closing}")
    return text[start + len(opening) : end]


def _object(text: str, form: Format) -> dict[str, Any]:
    if len(text) > MAX_CALL:
        raise CallError(f"expected a call of at most {MAX_CALL} characters, got {len(text)}")
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        at = f" (at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise CallError(f"expected one JSON object inside <{form}>, got text that is not JSON{at}") from None
    if not isinstance(value, dict):
        raise CallError(f"expected one JSON object inside <{form}>, got {_kind(value)}")
    _check(value, MAX_DEPTH)
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def _check(value: Any, depth: int) -> None:
    """Raise CallError for what JSON can write and a tool cannot use: numbers beyond a float's range, halves of surrogate pairs,
    values nested deeper than `depth`."""
    if depth < 0:
        raise CallError(f"expected a call nested at most {MAX_DEPTH} deep")
    if isinstance(value, dict | list):
        for inner in [*value.items()] if isinstance(value, dict) else [(None, v) for v in value]:
            _check(inner[0], depth)
            _check(inner[1], depth - 1)
    elif isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise CallError("expected text in the call, got half of a surrogate pair")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            raise CallError("expected finite numbers in the call")


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )

"""What is wrong with a config, one line per mistake: where, which key, what was expected, what came."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from core.config.fields import all_fields, annotation_at, kinds_of, members, models, type_name
from core.config.reading import KeyPath, dotted
from core.text import short

Places = dict[KeyPath, str]


def renamed_keys(model: type[BaseModel], data: Any, places: Places) -> list[str]:
    """A line for each key of `data` that has been renamed (`Section.RENAMED`)."""
    lines = []
    for path in _leaves(data):
        for depth in range(len(path)):
            for kind in models(annotation_at(model, path[:depth])):
                if found := _new_name(getattr(kind, "RENAMED", {}), path[depth:]):
                    new, note = found
                    old, new = dotted(path), dotted((*path[:depth], new))
                    lines.append(f"{_place(places, path)}: key '{old}' is now called '{new}'{note}")
    return lines


def _new_name(renamed: dict[str, str], path: KeyPath) -> tuple[str, str] | None:
    """(new key, " (note)") of a key that stands in `renamed`, itself or in a section that does."""
    for length in range(len(path), 0, -1):
        if target := renamed.get(dotted(path[:length])):
            new, space, note = target.partition(" ")
            return dotted((new, *path[length:])), space + note
    return None


def ill_values(model: type[BaseModel], data: Any, places: Places) -> list[str]:
    """Lines about values that pydantic accepts or explains badly: `true` for a number (read as 1) or for a word, and
    infinity or not-a-number anywhere, in free keys too."""
    lines = []
    for path, value in _values(data):
        where = f"{_place(places, path)}: key '{dotted(path)}'"
        if isinstance(value, float) and not math.isfinite(value):
            lines.append(f"{where}: expected a finite number, got {value} (float)")
        elif isinstance(value, bool):
            annotation = annotation_at(model, path)
            kinds = set(members(annotation))
            words = any(
                typing.get_origin(k) is typing.Literal and True not in typing.get_args(k) for k in kinds
            )
            if bool not in kinds and (kinds & {int, float} or words):
                lines.append(f"{where}: expected {type_name(annotation)}, got {value} (bool)")
    return lines


def explained(
    model: type[BaseModel], data: Any, places: Places, origin: str, mistakes: list[ErrorDetails]
) -> list[str]:
    """The lines for pydantic's errors; a value that fits no member of a union gets one line, not one per member."""
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for mistake in mistakes:
        by_path.setdefault(_data_path(data, mistake["loc"]), []).append(mistake)
    lines = []
    for path, found in by_path.items():
        where = _place(places, path) or origin
        own = {"missing", "extra_forbidden", "value_error", "assertion_error"} | _TAGS
        if len(found) > 1 and path and not any(m["type"] in own for m in found):
            lines.append(_unexpected(where, path, type_name(annotation_at(model, path)), found[0]["input"]))
        else:
            lines += [_explain(model, data, path, where, mistake) for mistake in found]
    return list(dict.fromkeys(lines))


_TAGS = {"union_tag_invalid", "union_tag_not_found"}


def _explain(model: type[BaseModel], data: Any, path: KeyPath, where: str, mistake: ErrorDetails) -> str:
    kind, message = mistake["type"], mistake["msg"].removeprefix("Value error, ")
    if kind == "missing":
        key = (*path, mistake["loc"][-1])
        expected = type_name(annotation_at(model, key))
        return f"{where}: key '{dotted(key)}' is required: expected {expected}, got nothing"
    if kind == "extra_forbidden":
        return f"{where}: {_unknown(model, data, path, mistake)}"
    if kind in _TAGS:
        return _unknown_kind(model, path, where, mistake["input"])
    if not path:
        return f"{where}: {message}"
    if kind in {"model_type", "model_attributes_type"}:
        keys = [name for m in models(annotation_at(model, path)) for name in m.model_fields]
        return _unexpected(where, path, f"a section with the keys {', '.join(keys)}", mistake["input"])
    if kind in {"value_error", "assertion_error"}:
        return f"{where}: key '{dotted(path)}': {message}"
    hint = ""
    if kind == "string_type" and where.startswith("command line"):
        hint = f"; as a string: '{dotted(path)}=\"{mistake['input']}\"'"
    return _unexpected(where, path, message.removeprefix("Input should be "), mistake["input"]) + hint


def _unexpected(where: str, path: KeyPath, expected: str, value: Any) -> str:
    return f"{where}: key '{dotted(path)}': expected {expected}, got {short(value)} ({type(value).__name__})"


def _unknown_kind(model: type[BaseModel], path: KeyPath, where: str, value: Any) -> str:
    """The line for a section whose kind is missing or unknown."""
    kinds = kinds_of(annotation_at(model, path))
    if kinds is None or not isinstance(value, dict):
        return _unexpected(where, path, type_name(annotation_at(model, path)), value)
    key, expected = (*path, kinds.field), " | ".join(map(repr, kinds.models))
    if kinds.field not in value:
        return f"{where}: key '{dotted(key)}' is required: expected {expected}, got nothing"
    return _unexpected(where, key, expected, value[kinds.field])


def _unknown(model: type[BaseModel], data: Any, path: KeyPath, mistake: ErrorDetails) -> str:
    """The line for an unknown key; if another kind of the section has it, the line names that kind."""
    parent, name = path[:-1], str(path[-1])
    if kinds := kinds_of(annotation_at(model, parent)):
        ours = next((str(part) for part in mistake["loc"] if part in kinds.models), None)
        theirs = [repr(kind) for kind, m in kinds.models.items() if name in m.model_fields]
        if theirs and ours:
            tag = dotted((*parent, kinds.field))
            return f"key '{dotted(path)}' is a setting of {kinds.field} {' and '.join(theirs)}; {tag} is '{ours}'"
    return f"unknown key '{dotted(path)}'{_suggestion(model, path)}"


def _suggestion(model: type[BaseModel], path: KeyPath) -> str:
    """ ", did you mean 'a.b'?" for an unknown key: a similar name in the same section, else anywhere."""
    parent, name = path[:-1], str(path[-1])
    neighbours = {
        field: dotted((*parent, field))
        for kind in models(annotation_at(model, parent))
        for field in kind.model_fields
    }
    everywhere = {field.path.rpartition(".")[2]: field.path for field in all_fields(model)}
    for known in (neighbours, everywhere):
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
            return f", did you mean '{known[near[0]]}'?"
    return f"; known here: {', '.join(neighbours)}" if neighbours else ""


def _data_path(data: Any, location: tuple[str | int, ...]) -> KeyPath:
    """Where in `data` an error is: pydantic's location without the members of unions and "[key]" that it names too."""
    path: KeyPath = ()
    for part in location:
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if inside:
            data, path = data[part], (*path, part)
    return path


def _place(places: Places, path: KeyPath) -> str | None:
    """Where the value at `path`, or the nearest one around it, was written."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), None)


def _values(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """(path, value) of everything below `data`."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield (*path, key), value
        yield from _values(value, (*path, key))


def _leaves(data: Any) -> list[KeyPath]:
    """The paths of all values that are not mappings with keys of their own."""
    return [path for path, value in _values(data) if not (isinstance(value, dict) and value)]

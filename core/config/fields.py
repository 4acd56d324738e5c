"""What a config model allows at a key: its annotation, its fields, and their types in words."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from core.config.reading import KeyPath


@dataclass(frozen=True)
class Kinds:
    """A tagged union of models. field: name of the tag. models: by the tag's value."""

    field: str
    models: dict[str, type[BaseModel]]


@dataclass(frozen=True)
class Field:
    """A field as `--help` shows it. path: dotted, <name> and [i] stand for free keys and indices. kinds: in a union of models,
    the kinds that have this field; empty if all have it."""

    path: str
    annotation: Any
    default: Any
    description: str
    kinds: tuple[str, ...] = ()


def members(annotation: Any) -> list[Any]:
    """The members of a union (through Annotated), or the annotation alone."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for member in typing.get_args(annotation) for kind in members(member)]
    return [annotation]


def models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models a value of this annotation may be."""
    return [kind for kind in members(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]


def kinds_of(annotation: Any) -> Kinds | None:
    """The tag of a union of models: a field that all have, with different Literal values."""
    union = models(annotation)
    if len(union) < 2:
        return None
    for name in union[0].model_fields:
        found: dict[str, type[BaseModel]] = {}
        for model in union:
            field = model.model_fields.get(name)
            if field is None or typing.get_origin(field.annotation) is not typing.Literal:
                break
            found |= {str(value): model for value in typing.get_args(field.annotation)}
        else:
            if len(set(found.values())) == len(union):
                return Kinds(name, found)
    return None


def annotation_at(annotation: Any, path: KeyPath) -> Any:
    """The annotation of the value at `path` below a value annotated `annotation`; Any where nothing is known."""
    for part in path:
        below = []
        for kind in members(annotation):
            args = typing.get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
                below.append(kind.model_fields[str(part)].annotation)
            elif typing.get_origin(kind) is dict:
                below.append(args[1])
            elif typing.get_origin(kind) in (list, tuple, Sequence) and isinstance(part, int):
                below.append(args[0])
        if not below:
            return Any
        annotation = typing.Union[tuple(below)]  # noqa: UP007 (built at run time)
    return annotation


def all_fields(model: type[BaseModel], prefix: str = "", above: tuple[type, ...] = ()) -> Iterator[Field]:
    """Every field of `model`, each followed by those of the models in it."""
    for name, field in model.model_fields.items():
        path = prefix + name
        yield _shown(path, field)
        for annotation, suffix in _nested(field.annotation):
            below = f"{path}{suffix}."
            kinds = kinds_of(annotation)
            if kinds is not None:
                yield from _fields_by_kind(kinds, below, field, (*above, model))
                continue
            for kind in models(annotation):
                if kind not in above:
                    yield from all_fields(kind, below, (*above, model, kind))


def _fields_by_kind(kinds: Kinds, prefix: str, field: FieldInfo, above: tuple[type, ...]) -> Iterator[Field]:
    """The tag; then fields that several kinds share, once each; then the rest, with their kinds."""
    default = getattr(_default(field), kinds.field, PydanticUndefined)
    tags = tuple(model.model_fields[kinds.field].annotation for model in kinds.models.values())
    union: Any = typing.Union[tags]  # noqa: UP007
    tag = next(iter(kinds.models.values())).model_fields[kinds.field]
    yield Field(prefix + kinds.field, union, default, tag.description or "")
    merged: dict[tuple[str, str], Field] = {}
    for kind, model in kinds.models.items():
        for found in all_fields(model, prefix, (*above, model)):
            if found.path != prefix + kinds.field:
                key = (found.path, repr(replace(found, kinds=())))
                before = merged.get(key, found)
                merged[key] = replace(found, kinds=(*before.kinds, kind))
    for found in merged.values():
        yield replace(found, kinds=()) if len(found.kinds) == len(kinds.models) else found


def _shown(path: str, field: FieldInfo) -> Field:
    return Field(path, field.annotation, _default(field), " ".join((field.description or "").split()))


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _nested(annotation: Any, suffix: str = "") -> Iterator[tuple[Any, str]]:
    """Annotations with models inside an annotation, and the keys that lead to them."""
    if models(annotation):
        yield typing.Union[tuple(models(annotation))], suffix  # noqa: UP007
    for kind in members(annotation):
        if typing.get_origin(kind) is dict:
            yield from _nested(typing.get_args(kind)[1], suffix + ".<name>")
        elif typing.get_origin(kind) in (list, tuple, Sequence):
            yield from _nested(typing.get_args(kind)[0], suffix + ".[i]")


def type_name(annotation: Any) -> str:
    """`int`, `list[str] | null`, "'a' | 'b'"; without module names."""
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(annotation)))
    if kinds := kinds_of(annotation):
        return f"a section of {kinds.field} {' | '.join(map(repr, kinds.models))}"
    if len(union := members(annotation)) > 1:
        return " | ".join(map(type_name, union))
    if union[0] is type(None):
        return "null"
    if isinstance(union[0], type) and not typing.get_args(union[0]):
        return union[0].__name__
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(annotation))

"""Every field of a config model, for `--help`."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from core.config.fields import Field, all_fields, type_name


def describe(model: type[BaseModel]) -> str:
    """Every field of `model`, nested ones with their dotted path: type, default, docstring. A field that only some kinds of a
    section have names these."""
    lines = []
    for field in all_fields(model):
        if isinstance(field.default, BaseModel):
            continue  # its fields follow
        lines.append(f"  {field.path}: {type_name(field.annotation)}{_ending(field)}")
        if field.description:
            lines.append(f"      {field.description}")
    return "\n".join(lines)


def _ending(field: Field) -> str:
    only = f"  [kind: {', '.join(field.kinds)}]" if field.kinds else ""
    if field.default is not PydanticUndefined:
        return f" = {field.default!r}{only}"
    return f"  (required){only}"

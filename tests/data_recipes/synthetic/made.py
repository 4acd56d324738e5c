"""Rows made by a world, read as recipes read them."""

from __future__ import annotations

from pathlib import Path

from data_recipes.readers import FORMATS


def made(name: str, folder: Path, **options) -> list[dict]:
    world = FORMATS[name]
    typed = world.options(**options)
    return [row for record in world.read(folder, typed) for row in world.convert(record, typed)]

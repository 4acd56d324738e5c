"""Readers of public file formats, by name."""

from __future__ import annotations

from data_recipes.readers import rows
from data_recipes.records import Format

MODULES = (rows,)
FORMATS: dict[str, Format] = {f.name: f for module in MODULES for f in module.FORMATS}

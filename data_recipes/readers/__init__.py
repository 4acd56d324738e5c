"""Readers of public file formats, by name."""

from __future__ import annotations

from data_recipes.readers import easyr1, math_sets, tabmwp
from data_recipes.records import Format

_MODULES = (tabmwp, math_sets, easyr1)

FORMATS: dict[str, Format] = {f.name: f for module in _MODULES for f in module.FORMATS}

"""Readers of public file formats, by name."""

from __future__ import annotations

from data_recipes.records import Format

FORMATS: dict[str, Format] = {}

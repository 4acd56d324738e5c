"""Readers of public file formats, by name."""

from __future__ import annotations

from data_recipes.readers import boxes_json, coco, gui, refcoco, rows, temporal, voc
from data_recipes.records import Format

MODULES = (rows, coco, voc, refcoco, boxes_json, gui, temporal)
FORMATS: dict[str, Format] = {f.name: f for module in MODULES for f in module.FORMATS}

"""All made worlds."""

from __future__ import annotations

from data_recipes.records import Format
from data_recipes.synthetic import counting, events, grounding, ocr, search
from data_recipes.synthetic.gui import tasks as gui_tasks
from data_recipes.synthetic.gui import world as gui
from data_recipes.synthetic.shapes import world as shapes

FORMATS: tuple[Format, ...] = tuple(
    f for module in (shapes, ocr, grounding, counting, events, search, gui, gui_tasks) for f in module.FORMATS
)

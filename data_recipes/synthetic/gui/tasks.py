"""Tasks of several steps on a page, played in the browser: rows for the environment `environments.gui.environment:Screens`.

A task is a few changes of a form or of settings, and the button to press then. It is solved once while the row is made, by the
actions that the trace shows, and the page that this leaves is the answer: a row whose own solution does not end in the state that
was asked for is not made.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from core.rows import Row
from data_recipes.records import Format, Record, Rejected, SourceError
from data_recipes.synthetic.gui import vocabulary as v
from data_recipes.synthetic.gui.content import page
from data_recipes.synthetic.gui.questions import Named
from data_recipes.synthetic.gui.theme import theme
from data_recipes.synthetic.gui.world import (
    NARROW,
    ScreenOptions,
    html,
    in_frame,
    middle,
    need_chromium,
    view_of,
)
from data_recipes.synthetic.hold_out import is_held_out
from data_recipes.synthetic.world import DraftRow, never, row_of, whole_knob
from environments.dialogue import as_message
from environments.gui.chromium import BrowserError
from environments.gui.environment import Screens, page_state
from environments.gui.screen import Element, View

NAME = "synthetic_gui_tasks"
ATTEMPTS = 40
ASK = (
    '{task}\nYou see the screen and give one action a turn, as a JSON object: {{"action": "click", "start_point": [x, y]}},'
    ' "input" (with "text", and "start_point" of the field), "select" (with "text"; click on the list first), "scroll" (with'
    ' "direction"), "press" (with "keys"), and "finished" (with "status") when all is done. Points are in {unit}.'
)


class GuiTaskOptions(ScreenOptions):
    """Options of `synthetic_gui_tasks`. Reproducible as `synthetic_gui` is."""

    kinds: tuple[Literal["form", "settings"], ...] = ("form", "settings")
    """Kinds of page, in turn."""
    changes: int | None = Field(None, ge=1, le=8)
    """Fields to change before the button is pressed; 1 to 5 by difficulty."""
    trace: bool = True
    """Whether rows have the solution as a trace, a dialogue of actions and screens; false: the question alone, for RL."""


@dataclass(frozen=True)
class Step:
    """wish: what it is good for, as the task says it. actions: that do it, boxes in place of points. holds: what the page's fields
    hold then, by name."""

    wish: str
    actions: list[dict[str, Any]]
    holds: dict[str, Any]


def read(path: Path, options: GuiTaskOptions) -> Iterator[Record]:
    """One record per row. Raises SourceError where there is no browser."""
    need_chromium(NAME)
    return (Record({"index": index}, path, index) for index in range(options.rows))


def convert_task(record: Record, options: GuiTaskOptions) -> Iterator[Row]:
    """The row of one task. Raises Rejected if the options leave no room for it."""
    index = record.data["index"]
    kind = options.kinds[index % len(options.kinds)]
    for attempt in range(ATTEMPTS):
        rng = random.Random(f"{NAME}-{options.split}-{options.seed}-{index}-{attempt}")
        view = view_of(rng, options, NAME)
        content = page(rng, kind, "input", options.difficulty * rng.random(), view.width < NARROW)
        if is_held_out(json.dumps(content)) != (options.split == "test"):
            continue
        shown = html(content, theme(rng, options.difficulty, options.fonts, view.height))
        posed = {
            "page": {"css": shown.css, "body": shown.body},
            "view": [view.width, view.height, view.scale],
        }
        try:
            made = _made(rng, posed, view, options)
        except BrowserError as error:
            raise SourceError(f"{NAME}: {error}") from None
        if made is not None:
            yield row_of(NAME, made, kind, index, options, record.file.absolute())
            return
    raise Rejected(
        f"field 'options': expected options with room for {kind!r}, but {ATTEMPTS} pages had too few fields"
    )


_players: dict[tuple[int, str], Screens] = {}


def _player(frame: str) -> Screens:
    """This process's environment."""
    return _players.setdefault((os.getpid(), frame), Screens(frame))  # type: ignore[arg-type]


def _made(rng: random.Random, posed: dict[str, Any], view: View, options: GuiTaskOptions) -> DraftRow | None:
    player = _player(options.frame)
    state = player.reset(posed)
    elements = player.screen().elements()
    images: list[Image.Image | bytes] = [player.screen().screenshot(options.image_format)]
    steps = _steps(rng, elements, whole_knob(options.changes, 1, 5, options.difficulty))
    if steps is None:
        return None
    before = page_state(elements)
    fields = {**before["fields"]}
    for step in steps[:-1]:
        fields.update(step.holds)
    wanted = {**before, "fields": fields, "pressed": [steps[-1].holds["pressed"]]}
    wishes = [step.wish for step in steps]
    task = f"{', '.join(wishes[:-1])}, and then {wishes[-1]}.".replace(" ,", ",")
    turns: list[dict[str, Any]] = []
    for action in (action for step in steps for action in step.actions):
        written = json.dumps(_written(action, view, options), ensure_ascii=False)
        screen = player.respond(state, written)
        assert screen is not None  # only `finished` ends an episode
        turns += [{"role": "assistant", "content": written}, as_message((screen,))]
        images.append(player.screen().screenshot(options.image_format))
    turns.append({"role": "assistant", "content": json.dumps({"action": "finished", "status": "success"})})
    if player.outcome(state)["state"] != wanted:
        return None
    unit = "pixels" if options.frame == "pixel" else "thousandths of the image's width and height"
    return DraftRow(
        "gui",
        ASK.format(task=task[0].upper() + task[1:], unit=unit),
        {"outcome": {"state": wanted}},
        turns if options.trace else None,
        tuple(images if options.trace else images[:1]),
        columns={**posed, "image_size": list(view.pixels), "steps": len(turns) // 2},
    )


def _steps(rng: random.Random, elements: list[Element], changes: int) -> list[Step] | None:
    """So many changes in random order, and the button; None if the page has too few."""
    named = Named(elements)
    possible = [
        step
        for element, words in named.usable("textbox", "combobox", "checkbox", "radio", "switch")
        if (step := _step(rng, named, element, words))
    ]
    groups = {e.item for e in elements if e.role == "radio"}
    radios = {group: [s for s in possible if f"{group}: " in "".join(s.holds)] for group in groups}
    dropped = [s for some in radios.values() for s in rng.sample(some, max(0, len(some) - 1))]
    possible = [s for s in possible if s not in dropped]  # one of a group
    buttons = [(e, words) for e, words in named.usable("button") if e.item is None and "icon" not in e.data]
    if len(possible) < changes or not buttons:
        return None
    button, words = buttons[-1]
    last = Step(f"press {words}", [{"action": "click", "start_box": button.box}], {"pressed": button.name})
    return [*rng.sample(possible, changes), last]


def _step(rng: random.Random, named: Named, element: Element, words: str) -> Step | None:
    key = f"{element.item}: {element.name}" if element.item else element.name
    box = element.label or element.box
    click = {"action": "click", "start_box": box}
    if element.role == "textbox":
        if element.state.get("value"):
            return None
        text = v.field_value(rng, element.name)
        return Step(
            f"fill {words} with '{text}'", [{"action": "input", "text": text, "start_box": box}], {key: text}
        )
    if element.role == "combobox":
        option = rng.choice([o for o in element.state["options"] if o != element.state["value"]])
        return Step(
            f"set {words} to '{option}'", [click, {"action": "select", "text": option}], {key: option}
        )
    is_on = bool(element.state["checked"])
    if element.role == "radio":
        others = {
            f"{e.item}: {e.name}": False
            for e in named.elements
            if e.role == "radio" and e.item == element.item
        }
        return None if is_on else Step(f"choose {words}", [click], {**others, key: True})
    verb = {"checkbox": ("tick", "untick"), "switch": ("turn on", "turn off")}[element.role][is_on]
    return Step(f"{verb} {words}", [click], {key: not is_on})


def _written(action: dict[str, Any], view: View, options: GuiTaskOptions) -> dict[str, Any]:
    """The action as the policy should write it: a point in the middle of its box."""
    if "start_box" not in action:
        return action
    rest = {key: value for key, value in action.items() if key != "start_box"}
    return {**rest, "start_point": middle(in_frame(action["start_box"], options.frame, view.pixels))}


FORMATS = (
    Format(
        NAME,
        "Made: tasks of several steps on pages drawn by Chromium, for the environment that plays them",
        read,
        convert_task,
        never,
        GuiTaskOptions,
        generates=True,
    ),
)

"""The browser as an environment: the policy writes one action a turn, as typed JSON, and is shown the new screen.

    environment:
      name: environments.gui.environment:Screens
      arguments: {frame: norm1000}

A row has its page: `page` {"css", "body"} and `view` [width, height, scale], as `synthetic_gui_tasks` makes them. `finished` ends the
episode. What the page's fields hold in the end is the episode's outcome, which the reward `outcome` compares with the row's answer.

The state is the page and the actions so far, so any worker can go on: one whose browser does not show this episode as it stands
plays the actions again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image

from core.media.images import load_image
from core.rows import PIXEL_LIMITS
from environments.gui.chromium import BrowserError
from environments.gui.control import Point, perform
from environments.gui.screen import Element, Page, Screen, View, script
from environments.types import CallError
from rewards.geometry.frames import convert, smart_resize
from rewards.reading.actions import POINTS, Action, action_of, read_action

HELD = ("textbox", "searchbox", "combobox")
SWITCHED = ("checkbox", "radio", "switch")
MAX_SIDE, MAX_BODY = 4000, 1_000_000  # CSS pixels; characters


class Screens:
    """See the module. frame: of the points that the policy writes; `resized` follows the row's `model_…` pixel limits."""

    stop = ()

    def __init__(self, frame: Literal["pixel", "resized", "norm1000", "norm1"] = "pixel") -> None:
        if frame not in ("pixel", "resized", "norm1000", "norm1"):
            raise ValueError(f"frame: expected pixel, resized, norm1000 or norm1, got {frame!r}")
        self.frame = frame
        self._screen: Screen | None = None
        self._shown: str | None = None  # the history of the episode that the browser stands at

    def reset(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ValueError for a row without a page, BrowserError where there is no browser."""
        page, view = row.get("page"), row.get("view")
        if not isinstance(page, Mapping) or not all(isinstance(page.get(k), str) for k in ("css", "body")):
            raise ValueError("field 'page': expected {'css': text, 'body': text}")
        if len(page["body"]) + len(page["css"]) > MAX_BODY:
            raise ValueError(f"field 'page': expected at most {MAX_BODY} characters")
        if not isinstance(view, list) or len(view) != 3 or not all(isinstance(v, int | float) for v in view):
            raise ValueError(f"field 'view': expected [width, height, scale], got {view!r:.80}")
        if not (all(100 <= side <= MAX_SIDE for side in view[:2]) and 0.5 <= view[2] <= 4):
            raise ValueError(f"field 'view': expected sides of 100 to {MAX_SIDE} and a scale of 0.5 to 4")
        limits = {key: row[f"model_{key}"] for key in PIXEL_LIMITS if f"model_{key}" in row}
        state = {"page": dict(page), "view": view, "limits": limits, "actions": [], "now": None}
        self._at(state)
        state["now"] = self._state()
        return state

    def respond(self, state: dict[str, Any], text: str) -> Image.Image | None:
        """The screen after the action; None after `finished`. Raises CallError for what is no action or cannot be done."""
        action = read_action(text)
        if action is None:
            raise CallError(
                'expected exactly one action as JSON, such as {"action": "click", "start_point": [x, y]}'
            )
        if action.name == "finished":
            return None
        try:
            return self._turn(state, action)
        except BrowserError:  # it crashed: once more in a new one
            self._close()
            return self._turn(state, action)

    def outcome(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """What the page holds: fields by name, and what was pressed, in order."""
        return {"state": state["now"], "steps": len(state["actions"])}

    def _turn(self, state: dict[str, Any], action: Action) -> Image.Image:
        self._at(state)
        self._shown = None  # until the action is done
        self._do(state, action)
        image = load_image(self.screen().screenshot())
        now = self._state()
        keys = {"keys": sorted(action.fields["keys"])} if "keys" in action.fields else {}
        points = {key: list(action.fields[key]) for key in POINTS if key in action.fields}
        state["actions"].append({"action": action.name, **action.fields, **keys, **points})
        state["now"], self._shown = now, _history(state)
        return image

    def _at(self, state: Mapping[str, Any]) -> None:
        """Bring the browser to where the episode stands."""
        if self._shown is not None and self._shown == _history(state):
            return
        self._shown, screen = None, self.screen()
        screen.evaluate("pageEvents.start()")
        screen.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        screen.show(Page(**state["page"]), _view(state))
        for done in state["actions"]:
            self._do(state, action_of(done))
        self._shown = _history(state)

    def _do(self, state: Mapping[str, Any], action: Action) -> None:
        view = _view(state)
        size = view.pixels
        limits = state["limits"]
        resized = smart_resize(size[1], size[0], **limits)[::-1] if self.frame == "resized" else None
        points: list[Point] = []
        for key in POINTS:
            if key in action.fields:
                x, y = convert(action.fields[key], self.frame, "pixel", size, resized)
                points.append((x, y))
        perform(self.screen(), action, view, points)

    def _state(self) -> dict[str, Any]:
        return {
            **page_state(self.screen().elements()),
            "pressed": self.screen().evaluate("pageEvents.pressed()"),
        }

    def screen(self) -> Screen:
        """The browser, started when first needed."""
        if self._screen is None or self._screen.browser.closed:
            self._screen, self._shown = Screen(), None
            self._screen.evaluate(script("behaviour.js"))
        return self._screen

    def _close(self) -> None:
        if self._screen is not None:
            self._screen.close()
        self._screen, self._shown = None, None


def page_state(elements: list[Element]) -> dict[str, Any]:
    """What the fields of a page hold: texts, chosen options, switched on or off, values of sliders, the open tab, and the order of
    its entries. Names are those of the elements, after their entry's where they have one."""
    fields: dict[str, Any] = {}
    for element in elements:
        name = f"{element.item}: {element.name}" if element.item else element.name
        if element.role in SWITCHED:
            fields[name] = bool(element.state.get("checked"))
        elif element.role in HELD:
            fields[name] = element.state.get("value") or ""
        elif element.role == "slider":
            fields[name] = int(element.state["value"])
    tabs = [e.name for e in elements if e.role == "tab" and e.state.get("selected")]
    order = [e.name for e in elements if e.role == "listitem"]
    return {"fields": fields, "tab": tabs[0] if tabs else None, "order": order}


def _view(state: Mapping[str, Any]) -> View:
    width, height, scale = state["view"]
    return View(int(width), int(height), float(scale))


def _history(state: Mapping[str, Any]) -> str:
    return json.dumps([state["page"], state["view"], state["actions"]], sort_keys=True)

"""Carries an action out on a screen: mouse and keyboard events of the browser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from environments.gui.screen import Screen, View
from environments.types import CallError
from rewards.reading.actions import Action

Point = tuple[float, float]
KEYS: dict[str, tuple[str, int]] = {
    "enter": ("Enter", 13),
    "tab": ("Tab", 9),
    "esc": ("Escape", 27),
    "backspace": ("Backspace", 8),
    "del": ("Delete", 46),
    "home": ("Home", 36),
    "end": ("End", 35),
    "left": ("ArrowLeft", 37),
    "up": ("ArrowUp", 38),
    "right": ("ArrowRight", 39),
    "down": ("ArrowDown", 40),
    "space": (" ", 32),
}
"""DOM key and Windows key code of what `press` takes."""
MODIFIERS = {"alt": 1, "ctrl": 2, "shift": 8}
SELECT_ALL = frozenset({"ctrl", "a"})
STEP = 0.6
"""How far a scroll without a distance goes, as a share of the window."""
MAX_TEXT = 2000
DIRECTIONS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


def perform(screen: Screen, action: Action, view: View, points: Sequence[Point]) -> None:
    """Do what an action says. points: its start and end in pixels of the screenshot. Raises CallError for what cannot be done here,
    and BrowserError."""
    for x, y in points:
        if not (0 <= x < view.pixels[0] and 0 <= y < view.pixels[1]):
            raise CallError(f"expected a point on the screen of {view.pixels[0]} x {view.pixels[1]} pixels")
    at = [(x / view.scale, y / view.scale) for x, y in points]
    if action.name == "click":
        _click(screen, at[0])
    elif action.name == "hover":
        _mouse(screen, "mouseMoved", at[0])
    elif action.name == "drag":
        _drag(screen, *at)
    elif action.name == "scroll":
        _scroll(screen, action, view, at[0] if at else (view.width / 2, view.height / 2))
    elif action.name == "input":
        _input(screen, action.fields["text"], at)
    elif action.name == "select":
        _select(screen, action.fields["text"])
    elif action.name == "press":
        _press(screen, action.fields["keys"])
    elif action.name != "wait":
        raise CallError(f"this screen has no {action.name}")


def _mouse(screen: Screen, kind: str, at: Point, **more: Any) -> None:
    screen.browser.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **more)


def _click(screen: Screen, at: Point) -> None:
    _mouse(screen, "mouseMoved", at)
    _mouse(screen, "mousePressed", at, button="left", clickCount=1)
    _mouse(screen, "mouseReleased", at, button="left", clickCount=1)


def _drag(screen: Screen, start: Point, end: Point) -> None:
    _mouse(screen, "mouseMoved", start)
    _mouse(screen, "mousePressed", start, button="left", clickCount=1)
    for share in (0.5, 1.0):
        there = (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
        _mouse(screen, "mouseMoved", there, button="left", buttons=1)
    _mouse(screen, "mouseReleased", end, button="left", clickCount=1)


def _scroll(screen: Screen, action: Action, view: View, at: Point) -> None:
    dx, dy = DIRECTIONS[action.fields["direction"]]
    distance = min(action.fields.get("scroll_distance", 0.0) / view.scale, 1e6)
    by = (dx * (distance or STEP * view.width), dy * (distance or STEP * view.height))
    if not screen.evaluate(f"pageEvents.scroll({at[0]}, {at[1]}, {by[0]}, {by[1]})"):
        raise CallError(f"nothing here can be scrolled {action.fields['direction']}")


def _input(screen: Screen, text: str, at: Sequence[Point]) -> None:
    if len(text) > MAX_TEXT:
        raise CallError(f"expected a text of at most {MAX_TEXT} characters, got {len(text)}")
    if at:
        _click(screen, at[0])
    if not screen.evaluate("pageEvents.ready()"):
        raise CallError("no field has the cursor, so nothing was typed")
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    screen.browser.call("Input.insertText", text=line)


def _select(screen: Screen, text: str) -> None:
    wanted = json.dumps(text.strip().lower())
    lists = screen.evaluate(f"pageEvents.choose({wanted})")
    if lists == 0:
        raise CallError("no drop-down list has this entry")
    if lists > 1:
        raise CallError(f"{lists} drop-down lists have this entry; click on one first")


def _press(screen: Screen, keys: frozenset[str]) -> None:
    held = sum(MODIFIERS[key] for key in keys if key in MODIFIERS)
    rest = [key for key in keys if key not in MODIFIERS]
    more: dict[str, Any] = {}
    if keys == SELECT_ALL:
        name, code, more = "a", 65, {"commands": ["selectAll"]}
    elif len(rest) == 1 and rest[0] in KEYS and not held & ~MODIFIERS["shift"]:
        name, code = KEYS[rest[0]]
        if name in ("Enter", " "):
            more = {"text": "\r" if name == "Enter" else " "}
    else:
        raise CallError(f"expected one of {', '.join(KEYS)} or ctrl+a, got {'+'.join(sorted(keys))[:80]}")
    event: dict[str, Any] = {"key": name, "windowsVirtualKeyCode": code, "modifiers": held}
    screen.browser.call("Input.dispatchKeyEvent", type="keyDown", **event, **more)
    screen.browser.call("Input.dispatchKeyEvent", type="keyUp", **event)

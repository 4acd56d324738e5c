"""A page shown in the browser: its screenshot, and its elements with box, role, name and state from the DOM."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from environments.gui.chromium import BrowserError, Chromium

Box = list[int]
"""[x1, y1, x2, y2] in whole pixels of the screenshot."""
WHOLE = 0.999


def nearest(value: float) -> int:
    """Rounded as the browser rounds pixels: halves up."""
    return math.floor(value + 0.5)


@dataclass(frozen=True)
class View:
    """width, height: of the window in CSS pixels. scale: screenshot pixels for one CSS pixel (device pixel ratio)."""

    width: int
    height: int
    scale: float = 1.0

    @property
    def pixels(self) -> tuple[int, int]:
        """(width, height) of the screenshot."""
        return nearest(self.width * self.scale), nearest(self.height * self.scale)


@dataclass(frozen=True)
class Page:
    """What is shown: style sheet, body (both HTML text without scripts) and language."""

    css: str
    body: str
    lang: str = "en"


@dataclass(frozen=True)
class Element:
    """An element of the page, its role and name as assistive technology is told them.

    box: all of it, seen or not; of texts, their lines alone. inside: share of it inside the window and the scrolled boxes around
        it. top: share of probed points of that part where nothing lies above it.
    beyond: where it is if none of it is inside: up, down, left or right.
    item: the entry (row, card, group) that it is part of. label: box that a click counts in as well, of check boxes and the like.
    state: checked, disabled, focused, value, …, where they apply. data: its data- attributes.
    """

    role: str
    name: str
    box: Box
    inside: float
    top: float
    beyond: str | None = None
    item: str | None = None
    label: Box | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """All of it can be seen."""
        return self.inside >= WHOLE and self.top == 1.0

    @property
    def shown(self) -> bool:
        """Some of it is inside the window, though something may lie above it."""
        return self.inside > 0


class Screen:
    """One browser over all pages that are shown, one after the other. Raises BrowserError like `Chromium`."""

    def __init__(self, flags: tuple[str, ...] = ()) -> None:
        self.browser = Chromium(flags)
        self._view: View | None = None
        try:
            frame = self.browser.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
            self.browser.call("Page.setDocumentContent", frameId=frame, html=_document())
            still = {"name": "prefers-reduced-motion", "value": "reduce"}
            self.browser.call("Emulation.setEmulatedMedia", features=[still])
            self.evaluate(script("probe.js"))
        except BaseException:
            self.close()
            raise

    def show(self, page: Page, view: View) -> None:
        """Replace what is shown."""
        if view != self._view:
            size = {"width": view.width, "height": view.height, "deviceScaleFactor": view.scale}
            self.browser.call("Emulation.setDeviceMetricsOverride", **size, mobile=False)
            self._view = view
        self.evaluate(
            f"onsight.show({json.dumps(page.css)}, {json.dumps(page.body)}, {json.dumps(page.lang)})"
        )

    def elements(self) -> list[Element]:
        """All elements with a role, in the order of the document; those that cannot be seen as well."""
        scale = self._view.scale if self._view else 1.0
        return [_element(found, scale) for found in self.evaluate("onsight.elements()")]

    def screenshot(self, image_format: Literal["png", "jpeg"] = "png") -> bytes:
        """The window as an image file."""
        quality = {"quality": 95} if image_format == "jpeg" else {"optimizeForSpeed": True}
        return base64.b64decode(
            self.browser.call("Page.captureScreenshot", format=image_format, **quality)["data"]
        )

    def evaluate(self, script: str) -> Any:
        """The value of a script of ours in the page. Raises BrowserError with what it raised."""
        answer = self.browser.call("Runtime.evaluate", expression=script, returnByValue=True)
        if problem := answer.get("exceptionDetails"):
            said = problem.get("exception", {}).get("description", problem.get("text"))
            raise BrowserError(f"Chromium: a script in the page failed: {said:.300}")
        return answer["result"].get("value")

    def close(self) -> None:
        self.browser.close()


@cache
def script(name: str) -> str:
    """The text of a script beside this file."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _document() -> str:
    """An empty page that loads nothing and runs no script of its own."""
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'"
    )
    return (
        f'<!doctype html><html><head><meta http-equiv="Content-Security-Policy" content="{policy}"></head>'
        "<body></body></html>"
    )


def _element(found: Mapping[str, Any], scale: float) -> Element:
    whole_label = found["label"] is not None and found["label_top"] == 1.0
    return Element(
        role=found["role"],
        name=found["name"],
        box=_pixels(found["box"], scale),
        inside=found["inside"],
        # a box of several lines holds more than the element
        top=found["top"] if found["lines"] == 1 else 0.0,
        beyond=found["beyond"],
        item=found["item"],
        label=_pixels(found["label"], scale) if whole_label else None,
        state={key: value for key, value in found["state"].items() if value is not None},
        data=found["data"],
    )


def _pixels(box: list[float], scale: float) -> Box:
    """As the browser draws it: edges on the nearest pixel."""
    return [nearest(value * scale) for value in box]

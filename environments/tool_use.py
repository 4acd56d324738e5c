"""The environment of a set of tools: reads the turn's call, looks up what it names, and shows the result.

Images are numbered by their place in the list of observations, so a failed call shifts none: `original_image`,
`observation_1`, … Each can be looked at again from its full resolution: what is shown is fitted to pixel limits, what a tool
gets is not. A turn without a call ends the episode.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from core.media.images import load_image
from core.media.sources import Source
from core.rows import Row
from environments.calls import STOP, Call, call_format, read_call
from environments.dialogue import failed, images_of, observed, pixels_of, shown
from environments.messages import content_from_json, image_to_json
from environments.text import check_plain, plain
from environments.tools import Tool, ToolSignature
from environments.types import CallError, Content, Done, Observation
from environments.workers import Workers
from rewards.geometry.frames import convert, smart_resize

T = TypeVar("T")
MAX_OUTSIDE = 0.5
"""Share of an image's side by which a box may lie outside of it; it is clipped. What lies further out is in another frame."""


@dataclass(frozen=True)
class View:
    """An image of an episode. full: in full resolution. seen: (width, height) in which the model got it."""

    full: Image.Image
    seen: tuple[int, int]


@dataclass
class Views:
    """What an episode can look at, and how many calls it has made. limits: the model's pixel limits, for "resized"."""

    images: dict[str, View]
    videos: dict[str, Mapping[str, Any]]
    limits: Mapping[str, int]
    most_pixels: int
    calls: int = 0
    observations: int = 0


@dataclass(frozen=True)
class Runnable:
    """A tool, and where it runs: in worker processes, or here."""

    signature: ToolSignature
    tool: Tool | None = None
    workers: Workers | None = None


class ToolEnvironment:
    """`environments.types.Environment` of tools.

    frame: of the boxes that the policy writes (`rewards.geometry.frames`). pixels: (least, most) of an observation as shown.
    special: control tokens of the model. seconds_per_call: limit of a call in a worker process, which is then killed.
    late_call_ends: such a call ends the episode, over the budget "seconds"; else it is a failed call like any other.
    """

    stop: tuple[str, ...] = STOP

    def __init__(
        self,
        tools: Sequence[Runnable],
        *,
        frame: str,
        pixels: tuple[int, int],
        special: tuple[str, ...],
        seconds_per_call: float,
        late_call_ends: bool,
    ) -> None:
        self._tools = {tool.signature.name: tool for tool in tools}
        self._frame, self._pixels, self._special = frame, pixels, special
        self._seconds, self._late_call_ends = seconds_per_call, late_call_ends

    def reset(self, row: Row) -> Views:
        limits = {
            name.removeprefix("model_"): int(row[name])
            for name in ("model_min_pixels", "model_max_pixels", "model_factor")
            if row.get(name) is not None
        }
        images = [i if isinstance(i, Image.Image) else load_image(i) for i in row.get("images") or ()]
        views = [View(image, _resized(image.size, limits)) for image in images]
        videos = [_video(source) for source in row.get("videos") or ()]
        most = max([self._pixels[1], *(image.width * image.height for image in images)])
        return Views(_named("original_image", views), _named("original_video", videos), limits, most)

    def respond(self, state: Views, text: str) -> Observation | Done:
        form = call_format(text)
        if form is None:
            return Done()
        action, state.calls = state.calls, state.calls + 1
        call: Call | None = None
        details: dict[str, Any] = {}
        try:
            call = read_call(text)
            assert call is not None  # there is a format
            content = self._result(state, call, details)
            first = state.observations + 1
            content = self._shown(state, content)
            return Observation(observed(form, action, first, content), _as_json(call), details=details)
        except CallError as error:
            if error.late and self._late_call_ends:
                return Done("seconds")
            problem = plain(str(error), self._special)
            return Observation(failed(form, action, problem), _as_json(call), problem, details)

    def close(self) -> None:
        for tool in self._tools.values():
            if tool.workers is not None:
                tool.workers.close()

    def _result(self, state: Views, call: Call, details: dict[str, Any]) -> Content:
        if call.name not in self._tools:
            raise CallError(f"unknown tool '{call.name[:40]}'; there are {', '.join(self._tools)}")
        tool = self._tools[call.name]
        media, boxes, values = self._looked_up(state, tool.signature, call, details)
        try:
            if tool.workers is None:
                assert tool.tool is not None
                return tool.tool.call({**values, **media, **boxes})
            return content_from_json(
                tool.workers.ask(
                    {
                        "call": json.dumps(values),
                        "tool": call.name,
                        "media": _media_to_json(media),
                        "boxes": boxes,
                    },
                    self._seconds,
                )
            )
        except CallError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a tool raises is a failed call
            raise CallError(f"{call.name} failed: {type(error).__name__}: {error}") from None

    def _looked_up(
        self, state: Views, signature: ToolSignature, call: Call, details: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """(images and videos, boxes in pixels, all other arguments) of a call, by parameter."""
        kinds, given = signature.parameters, call.arguments
        if unknown := [name for name in given if name not in kinds]:
            raise CallError(f"{call.name} has no argument '{unknown[0][:40]}'; it takes {', '.join(kinds)}")
        media: dict[str, Any] = {}
        view: View | None = None
        for name, kind in kinds.items():
            if kind == "image":
                view = _find(state.images, given.get(name, "original_image"), name)
                media[name] = view.full
                details[name] = given.get(name, "original_image")
            elif kind == "video":
                media[name] = _find(state.videos, given.get(name, "original_video"), name)
        if view is None:
            view = state.images.get("original_image")
        boxes = {}
        for name, kind in kinds.items():
            if kind == "box" and name in given:
                if view is None:
                    raise CallError(f"{name}: there is no image")
                boxes[name] = _box(given[name], name, view, self._frame)
                details["box"] = list(boxes[name])
        if missing := [n for n, kind in kinds.items() if kind == "box" and n not in boxes]:
            raise CallError(f"argument {missing[0]} is missing")
        return media, boxes, {name: value for name, value in given.items() if kinds[name] == "value"}

    def _shown(self, state: Views, content: Content) -> Content:
        """The content with images as the model sees them; they join the episode's views."""
        check_plain(content, self._special)
        low, high = self._pixels
        full = [_within(image, state.most_pixels) for image in images_of(content)]
        seen = [shown(image, min_pixels=low, max_pixels=high) for image in full]
        for image, as_shown in zip(full, seen, strict=True):
            state.observations += 1
            state.images[f"observation_{state.observations}"] = View(
                image, _resized(as_shown.size, state.limits)
            )
        rest = iter(seen)
        return tuple(part if isinstance(part, str) else next(rest) for part in content)


def _resized(size: tuple[int, int], limits: Mapping[str, int]) -> tuple[int, int]:
    """(width, height) after the model's processor. limits: min_pixels, max_pixels, factor; none: Qwen2-VL's."""
    height, width = smart_resize(size[1], size[0], **limits)
    return width, height


def _within(image: Image.Image, most_pixels: int) -> Image.Image:
    """An image of at most so many pixels, in RGB: turning again and again would make it ever larger."""
    image = image.convert("RGB")
    area = image.width * image.height
    if area <= most_pixels:
        return image
    scale = math.sqrt(most_pixels / area)
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def _video(source: Source) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    return {"bytes" if isinstance(source, bytes) else "path": source}


def _named(name: str, items: Sequence[T]) -> dict[str, T]:
    """The first as `name`, all as `name_1`, `name_2`, … where there are several."""
    named = {f"{name}_{i}": item for i, item in enumerate(items, start=1)} if len(items) > 1 else {}
    return ({name: items[0]} if items else {}) | named


def _find(known: Mapping[str, T], name: Any, argument: str) -> T:
    if not isinstance(name, str) or name not in known:
        asked = f"'{name[:40]}'" if isinstance(name, str) else "something else than a name"
        raise CallError(
            f"{argument}: expected one of {', '.join(known) or '(nothing to look at)'}, got {asked}"
        )
    return known[name]


def _box(value: Any, name: str, view: View, frame: str) -> tuple[int, int, int, int]:
    """A box that the policy wrote, in pixels of the view's full resolution, inside it."""
    if not (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in value)
    ):
        raise CallError(f"{name}: expected four numbers [x1, y1, x2, y2]")
    x1, y1, x2, y2 = (float(v) for v in value)
    if x1 >= x2 or y1 >= y2:
        raise CallError(f"{name}: expected x1 < x2 and y1 < y2")
    box = convert((x1, y1, x2, y2), frame, "norm1", view.full.size, view.seen)
    box = tuple(round(value, 9) for value in box)  # 98 / 392 is a quarter: pixels are rounded down
    if min(box) < -MAX_OUTSIDE or max(box) > 1 + MAX_OUTSIDE:
        raise CallError(f"{name}: expected a region of the image, got one far outside ({_unit(frame)})")
    try:
        return pixels_of(box, view.full.size)
    except ValueError:
        raise CallError(
            f"{name}: expected a region of at least one pixel of the image ({_unit(frame)})"
        ) from None


def _unit(frame: str) -> str:
    return {
        "norm1": "coordinates from 0 to 1",
        "norm1000": "coordinates from 0 to 1000",
        "pixel": "coordinates in pixels",
        "resized": "coordinates in pixels of the image as shown",
    }[frame]


def _media_to_json(media: Mapping[str, Any]) -> dict[str, Any]:
    return {n: image_to_json(m) if isinstance(m, Image.Image) else dict(m) for n, m in media.items()}


def _as_json(call: Call | None) -> dict[str, Any] | None:
    return None if call is None else {"name": call.name, "arguments": dict(call.arguments)}

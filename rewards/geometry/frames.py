"""Conversion between the coordinate frames of boxes and points. Mistaken frames are the most common silent bug in grounding.

    pixel      pixels of the original image (width, height)
    resized    pixels of the image that the Qwen processor passes to the model (smart_resize of the original)
    norm1000   0 to 1000 in both axes
    norm1      0 to 1 in both axes

A row's answer declares its `frame`; `frame_out` (row column or reward option) is the frame that the model was asked to answer
in, by default the same. Conversion between frames scales the axes: x_to = x_from * extent_to / extent_from.

If data were made for other pixel limits than the model's, the resized image of the truth (`min_pixels`, `max_pixels` and
`factor` of the row) differs from the model's (`model_min_pixels`, `model_max_pixels` and `model_factor`, columns that programs
with a model add to every row by `with_model_limits`, so that limits are configured once).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from core.rows import PIXEL_LIMITS as LIMITS
from rewards.reading.gold import number, numbers, sequence

FRAMES = ("pixel", "resized", "norm1000", "norm1")
Size = tuple[float, float]  # (width, height) in pixels


def smart_resize(
    height: int, width: int, *, factor: int = 28, min_pixels: int = 56 * 56, max_pixels: int = 28 * 28 * 1280
) -> tuple[int, int]:
    """(height, width) after Qwen2-VL's resizing rule: multiples of `factor`, area within the limits, aspect ratio kept.

    `factor` is patch size times merge size: 28 for Qwen2-VL and Qwen2.5-VL, 32 for Qwen3-VL. The limits are those of the
    processor in use (defaults: Qwen2-VL's). Raises ValueError on an empty side or an aspect ratio above 200, as Qwen does.
    """
    if min(height, width) <= 0 or max(height, width) / min(height, width) > 200:
        raise ValueError(
            f"image size: expected positive sides with an aspect ratio of at most 200, got {width}x{height}"
        )
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        h = max(factor, math.floor(height / scale / factor) * factor)
        w = max(factor, math.floor(width / scale / factor) * factor)
    elif h * w < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        h = math.ceil(height * scale / factor) * factor
        w = math.ceil(width * scale / factor) * factor
    return h, w


def extent(frame: str, size: Size | None, resized: Size | None = None) -> Size:
    """(width, height) of a whole image in a frame. Raises ValueError if the frame, or the size that it needs, is unknown."""
    if frame == "norm1":
        return 1.0, 1.0
    if frame == "norm1000":
        return 1000.0, 1000.0
    known = {"pixel": size, "resized": resized}
    if frame not in known:
        raise ValueError(f"frame: expected one of {', '.join(FRAMES)}, got {frame!r}")
    found = known[frame]
    if found is None:
        raise ValueError(f"image_size: needed to convert coordinates of frame {frame!r}, but unknown")
    return found


def convert(
    coordinates: Sequence[float],
    source: str,
    target: str,
    size: Size | None = None,
    resized: Size | None = None,
) -> tuple[float, ...]:
    """Coordinates x, y, x, y, … (a box, a point, any number of pairs) from one frame to another."""
    if source == target and source in FRAMES:
        return tuple(coordinates)
    (from_w, from_h), (to_w, to_h) = extent(source, size, resized), extent(target, size, resized)
    scale = (to_w / from_w, to_h / from_h)
    return tuple(value * scale[i % 2] for i, value in enumerate(coordinates))


def frames_of(
    answer: Mapping[str, Any], row: Mapping[str, Any], frame_out: str | None = None
) -> tuple[str, str]:
    """(frame the model answers in, frame of the ground truth)."""
    gold = answer.get("frame") or "pixel"
    out = frame_out or row.get("frame_out") or gold
    for name, frame in (("answer.frame", gold), ("frame_out", out)):
        if frame not in FRAMES:
            raise ValueError(f"{name}: expected one of {', '.join(FRAMES)}, got {frame!r}")
    return out, gold


def sizes_of(
    answer: Mapping[str, Any], row: Mapping[str, Any], *, of_model: bool = False
) -> tuple[Size | None, Size | None]:
    """(original size, resized size) of the image that an answer is about, each (width, height) or None.

    Original: `image_size` [width, height] of the answer or the row, else from the header of the row's image number
    `answer.image` (default 0). Resized: `resized_size` likewise, else smart_resize with the row's `min_pixels`, `max_pixels`
    and `factor`, else with the model's limits. of_model: always with the model's limits, that is, as the model sees it.
    """
    given = answer.get("image_size", None)
    given = row.get("image_size") if given is None else given
    size = _size(given, "image_size") if given is not None else _size_of_file(answer, row)
    of_the_model = {
        name: int(row[f"model_{name}"]) for name in LIMITS if row.get(f"model_{name}") is not None
    }
    own = {name: int(row[name]) for name in LIMITS if row.get(name) is not None}
    given = answer.get("resized_size", None)
    given = row.get("resized_size") if given is None else given
    if given is not None and not (of_model and of_the_model):
        return size, _size(given, "resized_size")
    if size is None:
        return None, None
    limits = of_the_model if of_the_model and (of_model or not own) else own
    height, width = smart_resize(round(size[1]), round(size[0]), **limits)
    return size, (float(width), float(height))


def with_model_limits(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, int]) -> list[dict[str, Any]]:
    """The rows with columns that say how the model's processor resizes images. limits: LIMITS by name (`vlm.load.pixel_limits`)."""
    columns = {f"model_{name}": limits[name] for name in LIMITS}
    return [{**row, **columns} for row in rows]


def from_model(
    coordinates: Sequence[float], source: str, target: str, answer: Mapping[str, Any], row: Mapping[str, Any]
) -> tuple[float, ...]:
    """Convert coordinates that a model wrote in frame `source` to the truth's frame `target`. Sizes are only looked up if needed."""
    if source == target and source != "resized":
        return tuple(coordinates)
    size, resized = sizes_of(answer, row)
    seen = sizes_of(answer, row, of_model=True)[1]
    if source == target and seen == resized:
        return tuple(coordinates)
    (from_w, from_h), (to_w, to_h) = extent(source, size, seen), extent(target, size, resized)
    scale = (to_w / from_w, to_h / from_h)
    return tuple(value * scale[i % 2] for i, value in enumerate(coordinates))


def to_gold_frame(
    coordinates: Sequence[Sequence[float]],
    answer: Mapping[str, Any],
    row: Mapping[str, Any],
    frame_out: str | None,
) -> list[tuple[float, ...]]:
    """A model's boxes or points in the frame of the row's answer."""
    source, target = frames_of(answer, row, frame_out)
    return [from_model(item, source, target, answer, row) for item in coordinates]


def check_frames(answer: Mapping[str, Any], row: Mapping[str, Any], frame_out: str | None = None) -> None:
    """Raise ValueError if a frame is unknown, or the image size needed to convert is."""
    source, target = frames_of(answer, row, frame_out)
    from_model((0.0, 0.0), source, target, answer, row)


def _size(value: Any, name: str) -> Size:
    width, height = numbers(value, 2, name)
    if width <= 0 or height <= 0:
        raise ValueError(f"{name}: expected a positive [width, height], got {value!r:.80}")
    return width, height


def _size_of_file(answer: Mapping[str, Any], row: Mapping[str, Any]) -> Size | None:
    images = row.get("images")
    images = [] if images is None else sequence(images, "images")
    index = int(number(answer["image"], "answer.image")) if answer.get("image") is not None else 0
    if not 0 <= index < len(images):
        return None
    image = images[index]
    image = image.get("bytes") or image.get("path") if isinstance(image, Mapping) else image
    if isinstance(image, bytes):
        return _read_size(image)
    return _size_at(str(image)) if isinstance(image, str) or hasattr(image, "__fspath__") else None


@lru_cache(maxsize=4096)
def _size_at(path: str) -> Size:
    return _read_size(path)


def _read_size(source: str | bytes) -> Size:
    """Size as displayed (orientation applied); reads only the header."""
    from core.media.images import image_size

    try:
        width, height = image_size(source)
    except ValueError as error:
        raise ValueError(f"images: cannot read the size: {error}") from None
    return float(width), float(height)

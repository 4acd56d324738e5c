"""Contents, tool signatures and requests as JSON: between a run and the worker processes of its tools and environments.

JSON and not pickle, so that reading a worker's answer never runs code. Images travel as their pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from core.media.sources import check_shape
from environments.tools import ToolSignature
from environments.types import CallError, Content


def image_to_json(image: Image.Image) -> dict[str, Any]:
    """{"size", "pixels"} of an image, as RGB."""
    rgb = image.convert("RGB")
    return {"size": list(rgb.size), "pixels": rgb.tobytes()}


def image_from_json(found: Mapping[str, Any]) -> Image.Image:
    """The image. Raises ValueError (MediaError) for anything that is none."""
    width, height = found["size"]
    check_shape(width, height, "image")
    return Image.frombytes("RGB", (width, height), found["pixels"])


def content_to_json(content: Content) -> list[Any]:
    return [part if isinstance(part, str) else image_to_json(part) for part in content]


def content_from_json(found: list[Any]) -> Content:
    """The content. Raises CallError for anything that is none: the plugin may have changed what its process sends."""
    try:
        return tuple(part if isinstance(part, str) else image_from_json(part) for part in found)
    except (ValueError, KeyError, TypeError) as error:
        raise CallError(f"the result cannot be shown: {error}") from None


def row_to_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose images are decoded."""
    return {**row, "images": [image_to_json(image) for image in row.get("images") or ()]}


def row_from_json(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**found, "images": [image_from_json(image) for image in found["images"]]}


def signature_from_json(found: Mapping[str, Any]) -> ToolSignature:
    return ToolSignature(found["name"], found["parameters"], found["schema"])

"""Forms of a medium in a row, and the errors for media that cannot be used."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError

MAX_ASPECT = 200  # Qwen's processors refuse more
MAX_PIXELS = 178_956_970  # of a picture or a frame: PIL's limit against decompression bombs

Source = str | Path | bytes | Mapping[str, Any]
"""A path, encoded bytes, or `{"path" | "bytes": …}` as in Parquet."""


class MediaError(UserError, ValueError):
    """A medium that is missing, does not decode, or cannot be shown to the model; the message names it."""


def content_of(source: Any, kind: str) -> tuple[str | bytes, str]:
    """(path or encoded bytes, name for messages) of an image or video (`kind`)."""
    content = source.get("bytes") or source.get("path") if isinstance(source, Mapping) else source
    if isinstance(content, bytes) and content:
        return content, f"{len(content)} bytes"
    if isinstance(content, str | Path) and str(content):
        if not Path(content).is_file():
            raise MediaError(f"{kind} not found: expected a file, got {content}")
        return str(content), str(content)
    raise MediaError(f"{kind}: expected a path or encoded bytes, got {type(content).__name__}")


def readable(content: str | bytes) -> Any:
    """What PIL and PyAV open."""
    return io.BytesIO(content) if isinstance(content, bytes) else content


def check_shape(width: int, height: int, name: str) -> None:
    """MediaError for sizes that no processor takes, or that are meant to exhaust memory."""
    if width < 1 or height < 1 or max(width, height) > MAX_ASPECT * min(width, height):
        raise MediaError(
            f"{name}: expected positive sides with an aspect ratio of at most {MAX_ASPECT}, got {width}x{height}"
        )
    if width * height > MAX_PIXELS:
        raise MediaError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got {width}x{height}")

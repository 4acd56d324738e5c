"""Whether a medium decodes, and how large or long it is, remembered for the last files asked about.

Annotations of one image or video usually stand together. Sizes and lengths are those of `vlm.media`, which gives media to
the model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from vlm import media
from vlm.media import MediaError, Size, Source

REMEMBERED = 256  # files of each kind


def image_size(medium: Source, *, decode: bool = True) -> Size:
    """(width, height), as shown, of an image given as path, bytes or {"path"|"bytes"}; `decode` reads all its pixels,
    too. Raises MediaError."""
    path = _path(medium)
    if path is None:
        return media.image_size(medium, decode=decode)
    return _image_at(path, *_stamp(path, "an image"), decode)


def video_length(medium: Source, *, decode: bool = True) -> float:
    """Seconds from the first frame to the end of the last one; `decode` decodes every frame, else packets are read.

    Without `decode` a file with undecodable frames passes, and lengths are the same. Raises MediaError, also where the
    frames end more than a second before the container says (a download that broke off).
    """
    path = _path(medium)
    if path is None:
        return media.video_length(medium, decode=decode)
    return _video_at(path, *_stamp(path, "a video"), decode)


def part_shown(medium: Source) -> tuple[float, float]:
    """(start, end) in seconds of the part of a video that a row shows: all of it, or from its `start` to its `end`.
    Raises MediaError."""
    length = video_length(medium, decode=False)
    if not isinstance(medium, Mapping):
        return 0.0, length
    return float(medium.get("start") or 0.0), min(float(medium.get("end") or length), length)


def _path(medium: Source) -> str | None:
    value = (
        medium if isinstance(medium, str | os.PathLike | bytes) else medium.get("bytes") or medium.get("path")
    )
    return None if isinstance(value, bytes) or value is None else str(value)


def _stamp(path: str, kind: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        raise MediaError(f"expected {kind} file, got no file {path}") from None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=REMEMBERED)
def _image_at(path: str, modified: int, size: int, decode: bool) -> Size:
    return media.image_size(path, decode=decode)


@lru_cache(maxsize=REMEMBERED)
def _video_at(path: str, modified: int, size: int, decode: bool) -> float:
    return media.video_length(path, decode=decode)

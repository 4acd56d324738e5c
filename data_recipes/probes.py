"""Whether a medium decodes, and how large or long it is, without keeping it: one frame in memory at a time.

Sizes and lengths agree with what `vlm.media` gives the model. Results are remembered for the last files asked about,
since annotations of one image or video usually stand together.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import av
from PIL import Image

Size = tuple[int, int]  # (width, height) in pixels
REMEMBERED = 256  # files of each kind

# What PIL raises for files that are no image, broken off, or meant to exhaust memory.
_IMAGE_ERRORS = (OSError, SyntaxError, ValueError, IndexError, struct.error, Image.DecompressionBombError)


class ProbeError(ValueError):
    """A medium that is missing or does not decode; the message says what was expected and what came."""


def image_size(medium: Any, *, decode: bool = True) -> Size:
    """(width, height) of an image given as path, bytes or {"path"|"bytes"}; `decode` reads all its pixels, too."""
    content = _content(medium)
    if isinstance(content, bytes):
        return _read_image(io.BytesIO(content), f"{len(content)} bytes", decode)
    return _image_at(content, *_stamp(content, "an image"), decode)


def video_length(medium: Any, *, decode: bool = True) -> float:
    """Seconds from the first frame to the end of the last one; `decode` decodes every frame, else packets are read.

    Without `decode` a file with undecodable frames passes, and lengths are the same. Raises ProbeError where the frames
    end more than a second before the container says (a download that broke off).
    """
    content = _content(medium)
    if isinstance(content, bytes):
        return _read_video(io.BytesIO(content), f"{len(content)} bytes", decode)
    return _video_at(content, *_stamp(content, "a video"), decode)


def _content(medium: Any) -> str | bytes:
    value = medium.get("bytes") or medium.get("path") if isinstance(medium, Mapping) else medium
    if isinstance(value, str | bytes) and value:
        return value
    raise ProbeError(f"expected a path or encoded bytes, got {type(value).__name__}")


def _stamp(path: str, kind: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        raise ProbeError(f"expected {kind} file, got no file {path}") from None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=REMEMBERED)
def _image_at(path: str, modified: int, size: int, decode: bool) -> Size:
    return _read_image(path, path, decode)


@lru_cache(maxsize=REMEMBERED)
def _video_at(path: str, modified: int, size: int, decode: bool) -> float:
    return _read_video(path, path, decode)


def _read_image(file: Any, name: str, decode: bool) -> Size:
    try:
        with Image.open(file) as image:
            if decode:
                image.load()
            return image.size
    except _IMAGE_ERRORS as error:
        raise ProbeError(f"expected an image that decodes, got {name} ({error})") from None


def _read_video(file: Any, name: str, decode: bool) -> float:
    try:
        with av.open(file) as container:
            if not container.streams.video:
                raise ProbeError(f"expected a video, got {name} without a video stream")
            stream = container.streams.video[0]
            first, end = _frames_range(container, stream) if decode else _packets_range(container, stream)
            declared = float(stream.duration * stream.time_base) if stream.duration else None
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, ProbeError):
            raise
        raise ProbeError(f"expected a video that decodes, got {name} ({error})") from None
    if end is None:
        raise ProbeError(f"expected a video that decodes, got {name} without any frame")
    length = end - first
    if declared is not None and length < declared - 1.0:
        raise ProbeError(
            f"expected {declared:.2f} s of frames as the file declares, got {length:.2f} s ({name} breaks off)"
        )
    return length


def _frames_range(container: Any, stream: Any) -> tuple[float, float | None]:
    """(first time, end of the last frame) of the decoded frames, which are dropped one by one."""
    rate = float(stream.average_rate or 2.0)
    first, end = 0.0, None
    for number, frame in enumerate(container.decode(stream)):
        time = number / rate if frame.time is None else float(frame.time)
        if number == 0:
            first = time
        end = time + 1.0 / rate
    return first, end


def _packets_range(container: Any, stream: Any) -> tuple[float, float | None]:
    """The same from the packets' times; packets without one are passed over."""
    rate = float(stream.average_rate or 2.0)
    first, end = float("inf"), None
    for packet in container.demux(stream):
        if packet.pts is not None and packet.size:
            time = float(packet.pts * packet.time_base)
            first, end = min(first, time), max(time + 1.0 / rate, end or 0.0)
    return (first, end) if end is not None else (0.0, None)

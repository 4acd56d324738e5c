"""Images and videos of a row, decoded: PIL images, and frames with their times."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

DEFAULT_FPS = 2.0  # frames per second, MiMo-VL's and Qwen2.5-VL's evaluation setting
FRAME_FACTOR = 2  # the vision tower joins frames in pairs (temporal_patch_size)
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
MEDIA_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", IMAGE, VIDEO)
"""Tokens that stand for media; a policy must never sample them."""


class MediaError(ValueError):
    """A medium that is missing, does not decode, or has an impossible range; the message names it."""


@dataclass(frozen=True)
class Video:
    """A decoded clip.

    frames: (N, H, W, 3) uint8, N even and at least 2.
    fps: frames per second of `frames` (after sampling, not of the file).
    start: time in the file, in seconds, of the first frame; spans in answers count from here.
    """

    frames: np.ndarray
    fps: float
    start: float = 0.0

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.frames) / self.fps

    def metadata(self) -> dict[str, Any]:
        """The clip's timing in the form in which both the processor and vLLM take it: sampled already."""
        return {
            "fps": self.fps,
            "duration": self.duration,
            "total_num_frames": len(self.frames),
            "frames_indices": list(range(len(self.frames))),
            "height": self.frames.shape[1],
            "width": self.frames.shape[2],
            "video_backend": "pyav",
            "do_sample_frames": False,
        }


def load_image(source: str | Path | bytes | Mapping | Image.Image) -> Image.Image:
    """An RGB image from a path, encoded bytes, `{"bytes"|"path": …}` (as in Parquet) or a PIL image.

    Raises:
        MediaError: the file is missing or does not decode; the message names it.
    """
    if isinstance(source, Mapping):
        source = source.get("bytes") or source.get("path")  # type: ignore[assignment]
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:  # type: ignore[arg-type]
            return image.convert("RGB")
    except FileNotFoundError:
        raise MediaError(f"image not found: {name}") from None
    except (UnidentifiedImageError, OSError, TypeError, AttributeError) as error:
        raise MediaError(f"image does not decode: {name} ({error})") from None


def load_video(
    source: str | Path | bytes | Mapping, *, fps: float | None = None, max_frames: int = 256
) -> Video:
    """Decode a clip and sample it at `fps`, taking for each time the last frame shown by then.

    source: path, encoded bytes, or `{"path"|"bytes", "start", "end", "fps"}` with times in seconds; a row's own `fps`
        wins over the argument, the default of both is `DEFAULT_FPS`.
    max_frames: a clip that would give more frames is sampled at a lower rate over its whole length.

    Raises:
        MediaError: missing file, no video stream, or a range outside the clip.
    """
    options: Mapping = source if isinstance(source, Mapping) else {"path": source}
    content = options.get("bytes") or options.get("path")
    name = f"{len(content)} bytes" if isinstance(content, bytes) else str(content)
    frames, times, length = _decode(content, name)
    start, end = float(options.get("start") or 0.0), float(options.get("end") or length)
    if not 0.0 <= start < end <= length + 1.0:
        raise MediaError(f"video {name}: range {start} to {end} s lies outside the clip of {length:.2f} s")
    wanted = float(options.get("fps") or fps or DEFAULT_FPS)
    count = max(FRAME_FACTOR, round((end - start) * wanted) // FRAME_FACTOR * FRAME_FACTOR)
    if count > max_frames:
        count = max_frames // FRAME_FACTOR * FRAME_FACTOR
        wanted = count / (end - start)
    at = start + np.arange(count) / wanted
    picked = np.searchsorted(times, at + 1e-6, side="right") - 1
    return Video(frames=frames[picked.clip(0, len(frames) - 1)], fps=wanted, start=start)


def _decode(content: Any, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """All frames (N, H, W, 3), their presentation times (N,) from the first frame, and the length in seconds."""
    if isinstance(content, (str, Path)):
        path = Path(content)
        if not path.is_file():
            raise MediaError(f"video not found: {name}")
        stat = path.stat()
        return _decode_file(str(path), stat.st_mtime_ns, stat.st_size)
    if not isinstance(content, bytes):
        raise MediaError(f"video must be a path or encoded bytes, got {type(content).__name__}")
    return _decode_stream(io.BytesIO(content), name)


@lru_cache(maxsize=64)
def _decode_file(path: str, modified: int, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    return _decode_stream(path, path)


def _decode_stream(file: Any, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    try:
        with av.open(file) as container:
            if not container.streams.video:
                raise MediaError(f"video {name}: the file has no video stream")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or DEFAULT_FPS)
            decoded = [(f.to_ndarray(format="rgb24"), f.time) for f in container.decode(stream)]
    except av.FFmpegError as error:
        raise MediaError(f"video does not decode: {name} ({error})") from None
    if not decoded:
        raise MediaError(f"video {name}: no frame decodes")
    times = np.array([i / rate if t is None else t for i, (_, t) in enumerate(decoded)])
    times = times - times[0]
    return np.stack([frame for frame, _ in decoded]), times, float(times[-1] + 1.0 / rate)


def load_media(row: Mapping[str, Any], *, max_frames: int = 256) -> tuple[list[Image.Image], list[Video]]:
    """The row's images and videos, decoded, in the order of their placeholders."""
    images: Sequence = row.get("images") or ()
    videos: Sequence = row.get("videos") or ()
    try:
        return [load_image(i) for i in images], [load_video(v, max_frames=max_frames) for v in videos]
    except MediaError as error:
        raise MediaError(f"row {row.get('id')!r}: {error}") from None

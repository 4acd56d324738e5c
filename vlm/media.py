"""Images and videos of a row, decoded: PIL images, and frames with their times."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import av
import numpy as np
from cachetools import LRUCache, cached
from PIL import Image, UnidentifiedImageError

DEFAULT_FPS = 2.0  # frames per second, MiMo-VL's and Qwen2.5-VL's evaluation setting
REMEMBERED_BYTES = 256 * 2**20  # of sampled frames
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
    if isinstance(content, bytes):
        return _sample(io.BytesIO(content), name, options, fps, max_frames)
    if not isinstance(content, (str, Path)):
        raise MediaError(f"video must be a path or encoded bytes, got {type(content).__name__}")
    if not Path(content).is_file():
        raise MediaError(f"video not found: {name}")
    stat = Path(content).stat()
    asked = tuple(options.get(key) for key in ("start", "end", "fps"))
    return _sample_file(name, stat.st_mtime_ns, stat.st_size, asked, fps, max_frames)


def _size(video: Video) -> int:
    return video.frames.nbytes


# Runs go through their rows again and again. Larger clips than fit are decoded each time.
@cached(LRUCache(REMEMBERED_BYTES, getsizeof=_size), lock=Lock())
def _sample_file(
    path: str,
    modified: int,
    size: int,
    asked: tuple[float | None, ...],  # start, end, fps
    fps: float | None,
    max_frames: int,
) -> Video:
    return _sample(path, path, dict(zip(("start", "end", "fps"), asked)), fps, max_frames)


def _sample(file: Any, name: str, options: Mapping, fps: float | None, max_frames: int) -> Video:
    """Two passes: the clip's length from its packets, then its frames, of which only the wanted ones are kept."""
    try:
        with av.open(file) as container:
            length = _length(container, name)
        if isinstance(file, io.BytesIO):
            file.seek(0)
        start, end = float(options.get("start") or 0.0), float(options.get("end") or length)
        if not 0.0 <= start < end <= length + 1.0:
            raise MediaError(
                f"video {name}: range {start} to {end} s lies outside the clip of {length:.2f} s"
            )
        wanted = float(options.get("fps") or fps or DEFAULT_FPS)
        count = max(FRAME_FACTOR, round((end - start) * wanted) // FRAME_FACTOR * FRAME_FACTOR)
        if count > max_frames:
            count = max_frames // FRAME_FACTOR * FRAME_FACTOR
            wanted = count / (end - start)
        with av.open(file) as container:
            frames = _frames_at(start + np.arange(count) / wanted, container)
    except av.FFmpegError as error:
        raise MediaError(f"video does not decode: {name} ({error})") from None
    if not frames:
        raise MediaError(f"video {name}: no frame decodes")
    return Video(frames=np.stack(frames), fps=wanted, start=start)


def _length(container: Any, name: str) -> float:
    """Seconds from the first frame to the end of the last, by the packets' times; nothing is decoded."""
    if not container.streams.video:
        raise MediaError(f"video {name}: the file has no video stream")
    stream = container.streams.video[0]
    rate = float(stream.average_rate or DEFAULT_FPS)
    packets = [p for p in container.demux(stream) if p.size]
    times = [float(p.pts * p.time_base) for p in packets if p.pts is not None]
    if not packets:
        raise MediaError(f"video {name}: no frame decodes")
    return max(times) - min(times) + 1.0 / rate if len(times) == len(packets) else len(packets) / rate


def _frames_at(times: np.ndarray, container: Any) -> list[np.ndarray]:
    """For each time (s, rising, from the first frame) the last frame shown by then, (H, W, 3) uint8."""
    stream = container.streams.video[0]
    rate = float(stream.average_rate or DEFAULT_FPS)
    picked: list[np.ndarray] = []
    shown, first = None, 0.0
    for number, frame in enumerate(container.decode(stream)):
        time = number / rate if frame.time is None else frame.time
        first = first if number else time
        due = np.searchsorted(
            times + 1e-6, time - first, side="left"
        )  # times at which this frame was not yet there
        if shown is not None and due > len(picked):
            picked += [shown.to_ndarray(format="rgb24")] * int(due - len(picked))
        if len(picked) == len(times):
            return picked
        shown = frame
    if shown is not None:
        picked += [shown.to_ndarray(format="rgb24")] * (len(times) - len(picked))
    return picked


def load_media(row: Mapping[str, Any], *, max_frames: int = 256) -> tuple[list[Image.Image], list[Video]]:
    """The row's images and videos, decoded, in the order of their placeholders."""
    images: Sequence = row.get("images") or ()
    videos: Sequence = row.get("videos") or ()
    try:
        return [load_image(i) for i in images], [load_video(v, max_frames=max_frames) for v in videos]
    except MediaError as error:
        raise MediaError(f"row {row.get('id')!r}: {error}") from None

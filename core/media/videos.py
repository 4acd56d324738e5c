"""Videos as players show them: the video stream, not its cover picture, turned by the display matrix, in square pixels.

A clip whose frames change their size, or whose frames end long before the file says, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from cachetools import LRUCache, cached

from core.media.sources import MediaError, Source, check_shape, content_of, readable

DEFAULT_FPS = 2.0  # frames per second, MiMo-VL's and Qwen2.5-VL's evaluation setting
REMEMBERED_BYTES = 256 * 2**20  # of sampled frames
MAX_BYTES = 8 * 2**30  # of one clip's sampled frames
FRAME_FACTOR = 2  # the vision tower joins frames in pairs (temporal_patch_size)
BREAKS_OFF = 1.0  # seconds of frames that may be missing from what the file declares


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


def load_video(source: Source, *, fps: float | None = None, max_frames: int = 256) -> Video:
    """Decode a clip and sample it at `fps`, taking for each time the last frame shown by then.

    source: path, encoded bytes, or `{"path"|"bytes", "start", "end", "fps"}` with times in seconds; a row's own `fps`
        wins over the argument, the default of both is `DEFAULT_FPS`.
    max_frames: a clip that would give more frames is sampled at a lower rate over its whole length.

    Raises:
        MediaError: missing file, no video stream, a range outside the clip, or frames that cannot be shown.
    """
    content, name = content_of(source, "video")
    options: Mapping = source if isinstance(source, Mapping) else {}
    asked = tuple(options.get(key) for key in ("start", "end", "fps"))
    if isinstance(content, bytes):
        return _sample(content, name, asked, fps, max_frames)
    stat = Path(content).stat()
    return _sample_file(content, stat.st_mtime_ns, stat.st_size, asked, fps, max_frames)


def video_length(source: Source, *, decode: bool = False) -> float:
    """Seconds from the first frame to the end of the last one; `decode` decodes every frame, else packets are read.

    Without `decode` a file with undecodable frames passes, and lengths are the same. Raises MediaError.
    """
    content, name = content_of(source, "video")
    with _opened(content, name) as (container, stream):
        length = _length(container, stream, name)
    if decode:
        with _opened(content, name) as (container, stream):
            shape, end = None, 0.0
            for time, frame in _timed(container, stream):
                shape = _check_same(shape, _shape(frame, stream, name), time, name)
                end = time + 1.0 / _rate(stream)
            if shape is None:
                raise MediaError(f"expected a video that decodes, got {name} without any frame")
            length = _check_whole(end, stream, name)
    return length


def frames_at(source: Source, shares: Sequence[float]) -> list[np.ndarray]:
    """Frames (H, W, 3) uint8 at `shares` (0 to 1, rising) of the part of a clip that a row shows. Raises MediaError.

    Found by seeking; a file that cannot be sought in (raw H.264, a short MPEG transport stream) is decoded from its start.
    """
    content, name = content_of(source, "video")
    options: Mapping = source if isinstance(source, Mapping) else {}

    def times(length: float) -> list[float]:
        start = float(options.get("start") or 0.0)
        end = (
            min(float(options.get("end") or length), length) if length else float(options.get("end") or start)
        )
        return [start + share * (end - start) for share in shares]

    try:
        with _opened(content, name) as (container, stream):
            if stream.duration is not None and stream.time_base is not None:
                length = float(stream.duration * stream.time_base)
            else:
                length = (container.duration or 0) / av.time_base
            return [_seek(container, stream, time, name) for time in times(length)]
    except MediaError:
        with _opened(content, name) as (container, stream):
            length = _length(container, stream, name)
        with _opened(content, name) as (container, stream):
            frames = _frames_at(np.array(times(length)), container, stream, name)
    if not frames:
        raise MediaError(f"expected a video that decodes, got {name} without any frame")
    return frames


def _bytes_of(video: Video) -> int:
    return video.frames.nbytes


# Runs go through their rows again and again. Larger clips than fit are decoded each time.
@cached(LRUCache(REMEMBERED_BYTES, getsizeof=_bytes_of), lock=Lock())
def _sample_file(
    path: str,
    modified: int,
    size: int,
    asked: tuple[Any, ...],  # start, end, fps
    fps: float | None,
    max_frames: int,
) -> Video:
    return _sample(path, path, asked, fps, max_frames)


def _sample(
    content: str | bytes, name: str, asked: tuple[Any, ...], fps: float | None, max_frames: int
) -> Video:
    """Two passes: the clip's length from its packets, then its frames, of which only the wanted ones are kept."""
    with _opened(content, name) as (container, stream):
        length = _length(container, stream, name)
    start, end, own_fps = asked
    start, end = float(start or 0.0), float(end or length)
    if not 0.0 <= start < end <= length + 1.0:
        raise MediaError(f"video {name}: range {start} to {end} s lies outside the clip of {length:.2f} s")
    wanted = float(own_fps or fps or DEFAULT_FPS)
    if not 0.0 < wanted < float("inf"):
        raise MediaError(f"video {name}: expected a positive fps, got {wanted}")
    count = max(FRAME_FACTOR, round((end - start) * wanted) // FRAME_FACTOR * FRAME_FACTOR)
    if count > max_frames:
        count = max_frames // FRAME_FACTOR * FRAME_FACTOR
        wanted = count / (end - start)
    with _opened(content, name) as (container, stream):
        frames = _frames_at(start + np.arange(count) / wanted, container, stream, name)
    if not frames:
        raise MediaError(f"expected a video that decodes, got {name} without any frame")
    return Video(frames=np.stack(frames), fps=wanted, start=start)


@contextmanager
def _opened(content: str | bytes, name: str) -> Iterator[tuple[Any, Any]]:
    """(container, video stream); what the decoders raise becomes a MediaError."""
    try:
        with av.open(readable(content), metadata_errors="ignore") as container:
            yield container, _video_stream(container, name)
    except MediaError:
        raise
    except Exception as error:  # noqa: BLE001  FFmpegError, or whatever else a broken file leads the bindings to
        raise MediaError(f"expected a video that decodes, got {name} ({error})") from None


def _video_stream(container: Any, name: str) -> Any:
    """The stream that players show: the default one, else the first; never a cover picture."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [s for s in container.streams.video if not s.disposition & still]
    if not moving:
        what = "only a cover picture" if container.streams.video else "no video stream"
        raise MediaError(f"expected a video, got {name} with {what}")
    return next((s for s in moving if s.disposition & Disposition.default), moving[0])


def _rate(stream: Any) -> float:
    return float(stream.average_rate or DEFAULT_FPS)


def _length(container: Any, stream: Any, name: str) -> float:
    """Seconds from the first frame to the end of the last, by the packets' times; nothing is decoded."""
    packets = [p for p in container.demux(stream) if p.size]
    times = [float(p.pts * p.time_base) for p in packets if p.pts is not None]
    if not packets:
        raise MediaError(f"expected a video that decodes, got {name} without any frame")
    timed = len(times) == len(packets)
    length = max(times) - min(times) + 1.0 / _rate(stream) if timed else len(packets) / _rate(stream)
    return _check_whole(length, stream, name)


def _check_whole(length: float, stream: Any, name: str) -> float:
    declared = float(stream.duration * stream.time_base) if stream.duration else length
    if length < declared - BREAKS_OFF:
        raise MediaError(
            f"expected {declared:.2f} s of frames as the file declares, got {length:.2f} s ({name} breaks off)"
        )
    return length


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """(seconds since the first frame, frame) of all decoded frames."""
    first = 0.0
    for number, frame in enumerate(container.decode(stream)):
        time = number / _rate(stream) if frame.time is None else float(frame.time)
        first = first if number else time
        yield time - first, frame


def _frames_at(times: np.ndarray, container: Any, stream: Any, name: str) -> list[np.ndarray]:
    """For each time (s, rising, from the first frame) the last frame shown by then, (H, W, 3) uint8."""
    picked: list[np.ndarray] = []
    shown, shape = None, None

    def pick(frame: Any, count: int, time: float) -> None:
        nonlocal shape
        shape = _check_same(shape, _shape(frame, stream, name), time, name)
        if len(times) * shape[0] * shape[1] * 3 > MAX_BYTES:
            raise MediaError(
                f"video {name}: expected at most {MAX_BYTES / 2**30:.0f} GiB of frames, got {len(times)} of"
                f" {shape[0]}x{shape[1]}; take fewer (fps, max_frames), or shrink the file"
            )
        picked.extend([_picture(frame, stream, name)] * count)

    for time, frame in _timed(container, stream):
        due = np.searchsorted(times + 1e-6, time, side="left")  # times at which this frame was not yet there
        if shown is not None and due > len(picked):
            pick(shown, int(due - len(picked)), time)
        if len(picked) == len(times):
            return picked
        shown = frame
    if shown is not None:
        pick(shown, len(times) - len(picked), float(times[-1]))
    return picked


def _seek(container: Any, stream: Any, seconds: float, name: str) -> np.ndarray:
    """The first frame at or after a time, or the last one before the end."""
    first = float((stream.start_time or 0) * stream.time_base)
    container.seek(int((first + seconds) / stream.time_base), stream=stream, backward=True)
    last = None
    for frame in container.decode(stream):
        last = frame
        if frame.time is None or frame.time >= first + seconds:
            break
    if last is None:
        raise MediaError(f"video {name}: no frame at {seconds:.2f} s")
    return _picture(last, stream, name)


# ------------------------------------------------------------------------------------------------------------ display


def _picture(frame: Any, stream: Any, name: str) -> np.ndarray:
    """(H, W, 3) uint8 as shown."""
    pixels = frame.to_ndarray(format="rgb24", width=_square_width(frame, stream), height=frame.height)
    swap, step_y, step_x = _turn(frame, name)
    return (pixels.swapaxes(0, 1) if swap else pixels)[::step_y, ::step_x]


def _shape(frame: Any, stream: Any, name: str) -> tuple[int, int]:
    """(width, height) of a frame as shown."""
    width, height = _square_width(frame, stream), frame.height
    check_shape(width, height, f"video {name}")
    return (height, width) if _turn(frame, name)[0] else (width, height)


def _square_width(frame: Any, stream: Any) -> int:
    """Width in pixels as high as they are wide."""
    ratio = stream.sample_aspect_ratio
    return round(frame.width * float(ratio)) if ratio else frame.width


def _check_same(
    before: tuple[int, int] | None, shape: tuple[int, int], time: float, name: str
) -> tuple[int, int]:
    if before is not None and before != shape:
        raise MediaError(
            f"video {name}: expected frames of one size, got {before[0]}x{before[1]} and then"
            f" {shape[0]}x{shape[1]} (at about {time:.2f} s)"
        )
    return shape


def _turn(frame: Any, name: str) -> tuple[bool, int, int]:
    """What the display matrix (ISO 14496-12, 8.3.2) does to a frame: whether its axes change places, and then the
    directions (1 or -1) of y and x.

    A pixel (x, y) goes to (a x + c y, b x + d y), up to a shift; a, b, c, d are in 16.16 fixed point.
    """
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return False, 1, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if a and d and not b and not c:
        return False, 1 if d > 0 else -1, 1 if a > 0 else -1
    if b and c and not a and not d:
        return True, 1 if b > 0 else -1, 1 if c > 0 else -1
    raise MediaError(f"video {name}: expected a turn by a multiple of 90 degrees, got {frame.rotation}")

"""Built-in tools: zoom, rotate, frames; and zoom under the name and with the arguments of DeepEyes and Qwen-Agent."""

from __future__ import annotations

from PIL import Image

from core.media.videos import load_video
from environments.tools import Box, VideoFile
from environments.types import CallError

MAX_FRAMES = 16
"""Of one call of `frames`."""


def zoom(bbox_2d: Box, source: Image.Image) -> Image.Image:
    """Zoom into a region of an image.

    Args:
        bbox_2d: The region, [x1, y1, x2, y2] of its top left and bottom right corner.
        source: The image, 'original_image' or an earlier one, 'observation_1', 'observation_2', …
    """
    return source.crop(bbox_2d)


def image_zoom_in_tool(bbox_2d: Box, source: Image.Image, label: str = "") -> Image.Image:
    """Zoom into a region of an image.

    Args:
        bbox_2d: The region, [x1, y1, x2, y2] of its top left and bottom right corner.
        source: The image, 'original_image' or an earlier one, 'observation_1', 'observation_2', …
        label: What is to be seen in the region.
    """
    return source.crop(bbox_2d)


def rotate(angle: float, source: Image.Image) -> Image.Image:
    """Turn an image.

    Args:
        angle: Degrees clockwise.
        source: The image, 'original_image' or an earlier one, 'observation_1', 'observation_2', …
    """
    return source.convert("RGB").rotate(
        -(angle % 360), Image.Resampling.BICUBIC, expand=True, fillcolor=(255, 255, 255)
    )


def frames(start: float, end: float, source: VideoFile, fps: float = 4.0) -> list[str | Image.Image]:
    """Show the frames of a span of a video, at a higher rate than before.

    Args:
        start: Begin of the span in seconds.
        end: End of the span in seconds.
        source: The video, 'original_video'.
        fps: Frames per second.
    """
    if not 0 <= start < end:
        raise CallError(f"expected 0 <= start < end, got {start:g} and {end:g}")
    count = (end - start) * fps
    if not 0 < count <= MAX_FRAMES:
        raise CallError(
            f"expected a span of at most {MAX_FRAMES} frames, got {end - start:g} s at {fps:g} fps"
        )
    first, last = float(source.get("start") or 0.0), source.get("end")
    if last is not None and first + end > float(last) + 1.0:
        raise CallError(
            f"expected a span within the video's {float(last) - first:g} s, got {start:g} to {end:g} s"
        )
    video = load_video({**source, "start": first + start, "end": first + end, "fps": fps})
    shown: list[str | Image.Image] = []
    for index, frame in enumerate(video.frames):
        shown += [f"At {start + index / video.fps:.2f} s:", Image.fromarray(frame)]
    return shown

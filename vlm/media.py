"""Decoding a row's images and videos (with `core.media`), and their placeholder tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from core.media.images import Size, image_size, load_image, stored_as_shown
from core.media.sources import MAX_ASPECT, MediaError, Source
from core.media.tokens import IMAGE, MEDIA_TOKENS, VIDEO
from core.media.videos import DEFAULT_FPS, Video, frames_at, load_video, video_length

__all__ = [
    "DEFAULT_FPS",
    "IMAGE",
    "MAX_ASPECT",
    "MEDIA_TOKENS",
    "VIDEO",
    "MediaError",
    "Size",
    "Source",
    "Video",
    "frames_at",
    "image_size",
    "load_image",
    "load_media",
    "load_video",
    "stored_as_shown",
    "video_length",
]


def load_media(row: Mapping[str, Any], *, max_frames: int = 256) -> tuple[list[Image.Image], list[Video]]:
    """The row's decoded images and videos, in the order of their placeholders. MediaError names row and medium."""
    images: Sequence = row.get("images") or ()
    videos: Sequence = row.get("videos") or ()
    try:
        return [load_image(i) for i in images], [load_video(v, max_frames=max_frames) for v in videos]
    except MediaError as error:
        raise MediaError(f"row {row.get('id')!r}: {error}") from None

"""Media as flat lists of patches with their grids, as Qwen's processors make them: what most families share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from core.media.videos import Video
from vlm.checkpoint import CheckpointError

if TYPE_CHECKING:
    from transformers.image_utils import SizeDict

Grid = tuple[int, int, int]
"""Time, height and width of an image or video, in patches."""


def encode_images(
    processor: Any, images: Sequence[Image.Image], resize: bool = True
) -> tuple[Tensor, Tensor]:
    """Patches (patches, channels x time x height x width) and grids (images, 3). resize: False leaves sizes as they are."""
    settings = {} if resize else {"do_resize": False}
    out = processor.image_processor(list(images), return_tensors="pt", **settings)
    return out["pixel_values"], out["image_grid_thw"]


def encode_videos(processor: Any, videos: Sequence[Video]) -> tuple[Tensor, Tensor]:
    """The same for videos, with the frames that they have."""
    out = processor.video_processor(
        videos=[v.frames for v in videos],
        video_metadata=[
            {k: v for k, v in video.metadata().items() if k != "do_sample_frames"} for video in videos
        ],
        do_sample_frames=False,
        return_tensors="pt",
    )
    return out["pixel_values_videos"], out["video_grid_thw"]


def image_patches(processor: Any, image: Image.Image) -> int:
    """Patches that `encode_images` makes of an image, without computing them."""
    return processor.image_processor.get_number_of_image_patches(image.height, image.width, {})


def video_patches(processor: Any, video: Video) -> int:
    """The same for a video."""
    return processor.video_processor.get_num_of_video_patches(*video.frames.shape[:3], {})


def smallest(config: Any, kind: str) -> tuple[list[int], Tensor, Grid]:
    """Token ids, patches and grid of the smallest image or video: one visual token."""
    vision = config.vision_config
    side = vision.spatial_merge_size
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    token = config.image_token_id if kind == "image" else config.video_token_id
    return [config.vision_start_token_id, token], torch.zeros(side**2, patch), (1, side, side)


def model_inputs(config: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's forward takes them as they are."""
    return dict(inputs)


def set_pixel_limits(processor: Any, limits: Mapping[str, int | None], where: str) -> None:
    """Areas in pixels: `min_pixels` and `max_pixels` of an image, `video_min_pixels` and `video_max_pixels` of a frame; None
    keeps the processor's. CheckpointError, naming `where`, for less than one visual token, or limits out of order."""
    for part, prefix, what in (("image", "", "images"), ("video", "video_", "video frames")):
        media = getattr(processor, f"{part}_processor")
        low, high = limits[f"{prefix}min_pixels"], limits[f"{prefix}max_pixels"]
        media.size = _size(media, low, high, f"{where}: {what}")
    if processor.video_processor.cap_pixels_per_frame is None:
        # same effect as None, without a warning at every call, and the same in vLLM's copy of the processor
        processor.video_processor.cap_pixels_per_frame = False


def _size(media_processor: Any, low: int | None, high: int | None, where: str) -> SizeDict:
    """transformers stores areas under names of lengths."""
    from transformers.image_utils import SizeDict

    smallest = (media_processor.patch_size * media_processor.merge_size) ** 2
    for given in (low, high):
        if given is not None and given < smallest:
            raise CheckpointError(
                f"{where}: expected a pixel limit of at least {smallest}, one visual token, got {given}"
            )
    low = media_processor.size["shortest_edge"] if low is None else low
    high = media_processor.size["longest_edge"] if high is None else high
    if low > high:
        raise ValueError(
            f"{where}: the lower pixel limit ({low}) is larger than the upper one ({high}); set both"
        )
    return SizeDict(shortest_edge=low, longest_edge=high)


def pixel_limits(processor: Any) -> dict[str, int]:
    """How the processor resizes images: `min_pixels` and `max_pixels` (areas); sides become multiples of `factor` pixels."""
    images = processor.image_processor
    return {
        "min_pixels": images.size["shortest_edge"],
        "max_pixels": images.size["longest_edge"],
        "factor": images.patch_size * images.merge_size,
    }


def engine_settings(processor: Any) -> dict[str, Any]:
    """The processor's pixel limits as `mm_processor_kwargs`, for vLLM's own copy of it."""
    sizes = [getattr(processor, f"{kind}_processor").size for kind in ("image", "video")]
    images, videos = (
        {"size": {edge: size[edge] for edge in ("shortest_edge", "longest_edge")}} for size in sizes
    )
    return {"images_kwargs": images, "videos_kwargs": videos}

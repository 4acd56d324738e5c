"""InternVL 3 and 3.5 in transformers' format (arXiv 2504.10479, 2508.18265): plain positions, images as square tiles.

An image is cut into tiles of one size, with the whole image as one more tile where there are several. Here a tile is a
grid of patches, as media are in the other families: `image_grid_thw` is (tiles, patches, patches) and pixels are one flat
list of patches, which `model_inputs` puts together again for the model.

Videos are refused: the ids that transformers and vLLM (0.31) put in place of their frames are not the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor

from core.media.videos import Video
from vlm.checkpoint import CheckpointError
from vlm.families.family import Family, Grids
from vlm.families.patches import Grid

IMAGE, VIDEO = "<IMG_CONTEXT>", "<video>"


def encode_images(
    processor: Any, images: Sequence[Image.Image], resize: bool = True
) -> tuple[Tensor, Tensor]:
    """Patches (patches, 3 x height x width) and grids (images, 3). resize: False makes one tile of an image as it is."""
    out = processor.image_processor(
        list(images), return_tensors="pt", do_resize=resize, crop_to_patches=resize
    )
    tiles, side = out["pixel_values"], _patch_side(processor.model_config["vision_config"])
    height, width = tiles.shape[-2] // side, tiles.shape[-1] // side
    # (tiles, 3, height in patches, side, width in patches, side): a patch is channel x height x width
    patches = tiles.view(len(tiles), 3, height, side, width, side).permute(0, 2, 4, 1, 3, 5)
    grids = torch.tensor([[int(number), height, width] for number in out["num_patches"]])
    return patches.reshape(-1, 3 * side * side), grids


def image_patches(processor: Any, image: Image.Image) -> int:
    """Patches that `encode_images` makes of an image, without computing them."""
    images = processor.image_processor
    tiles = images.get_number_of_image_patches(image.height, image.width, {"crop_to_patches": True})
    return tiles * (images.size["height"] // _patch_side(processor.model_config["vision_config"])) ** 2


def refuse_video(*args: Any) -> NoReturn:
    raise ValueError("InternVL takes no videos here: give their frames as images")


def expand_image(processor: Any, visual_tokens: int) -> list[int]:
    """The placeholder once per visual token, between the image's start and end."""
    start, token, end = processor.tokenizer.convert_tokens_to_ids(["<img>", IMAGE, "</img>"])
    return [start, *[token] * visual_tokens, end]


def positions(
    processor: Any, input_ids: Sequence[int], image_grids: Grids, video_grids: Grids, videos: Sequence[Video]
) -> Tensor:
    """One after the other; three equal axes, because sequences have three here."""
    return torch.arange(len(input_ids)).expand(3, -1)


def model_inputs(config: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One axis of positions, and tiles (tiles, 3, height, width) in place of patches and grids."""
    taken = {name: value for name, value in inputs.items() if name not in ("pixel_values", "image_grid_thw")}
    taken["position_ids"] = inputs["position_ids"][0]
    if "pixel_values" in inputs:
        _, height, width = inputs["image_grid_thw"][0].tolist()
        side = _patch_side(config.vision_config.to_dict())
        tiles = inputs["pixel_values"].view(-1, height, width, 3, side, side).permute(0, 3, 1, 4, 2, 5)
        taken["pixel_values"] = tiles.reshape(-1, 3, height * side, width * side)
    return taken


def smallest(config: Any, kind: str) -> tuple[list[int], Tensor, Grid]:
    """Token ids, patches and grid of the smallest image: a tile."""
    vision = config.vision_config.to_dict()
    side = _patch_side(vision)
    height, width = (pixels // side for pixels in vision["image_size"])
    tokens = int(height * width * config.downsample_ratio**2)
    return [config.image_token_id] * tokens, torch.zeros(height * width, 3 * side * side), (1, height, width)


def set_pixel_limits(processor: Any, limits: Mapping[str, int | None], where: str) -> None:
    """`max_pixels` limits the number of tiles; CheckpointError for other limits, or less than a tile."""
    images = processor.image_processor
    tile = images.size["height"] * images.size["width"]
    if others := [name for name, value in limits.items() if value is not None and name != "max_pixels"]:
        raise CheckpointError(
            f"{where}: {', '.join(others)} cannot be set for InternVL, whose images are tiles of {tile} pixels"
        )
    if limits["max_pixels"] is not None:
        if limits["max_pixels"] < tile:
            raise CheckpointError(
                f"{where}: expected max_pixels of at least a tile, {tile}, got {limits['max_pixels']}"
            )
        images.max_patches = limits["max_pixels"] // tile


def pixel_limits(processor: Any) -> dict[str, int]:
    """Areas in pixels between one tile and all of them; sides are multiples of a tile's."""
    images = processor.image_processor
    side = images.size["height"]
    return {"min_pixels": side**2, "max_pixels": images.max_patches * side**2, "factor": side}


def engine_settings(processor: Any) -> dict[str, Any]:
    """The limit on tiles as `mm_processor_kwargs`, for vLLM's own copy of the processor."""
    return {"max_patches": processor.image_processor.max_patches}


def _patch_side(vision_config: Mapping[str, Any]) -> int:
    """Pixels."""
    side = vision_config["patch_size"]
    return int(side if isinstance(side, int) else side[0])


FAMILY = Family(
    name="InternVL",
    model_type="internvl",
    model="InternVLForConditionalGeneration",
    processor="InternVLProcessor",
    engine="vllm.model_executor.models.interns1:InternS1ForConditionalGeneration",
    image_token=IMAGE,
    video_token=VIDEO,
    media_tokens=(IMAGE, VIDEO, "<img>", "</img>"),
    turn_tokens=("<|im_start|>", "<|im_end|>"),
    factor=28,
    box_frame="norm1000",
    parts={
        "projector": ("multi_modal_projector.",),
        "vision": ("vision_tower.",),
        "language": ("language_model.", "lm_head."),
    },
    lora_targets={
        "language": r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)",
        "vision": r".*vision_tower\.encoder\.layer\.\d+\.(attention\.(q_proj|k_proj|v_proj|projection_layer)|mlp\.fc[12])",
    },
    stored_names={  # beside transformers' own, those of transformers 4
        "vision_tower.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
    },
    engine_names={
        "language_model.lm_head.": "lm_head.",
        "language_model.model.": "model.language_model.",
        "vision_tower.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
    expand_image=expand_image,
    expand_video=refuse_video,
    positions=positions,
    encode_images=encode_images,
    encode_videos=refuse_video,
    image_patches=image_patches,
    video_patches=refuse_video,
    model_inputs=model_inputs,
    smallest=smallest,
    set_pixel_limits=set_pixel_limits,
    pixel_limits=pixel_limits,
    engine_settings=engine_settings,
)

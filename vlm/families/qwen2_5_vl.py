"""Qwen2.5-VL (arXiv 2502.13923), MiMo-VL, and what `vlm.assemble` makes of a Qwen2.5 vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from core.media.tokens import IMAGE, MEDIA_TOKENS, VIDEO
from core.media.videos import Video
from vlm.families.family import Family, Grids
from vlm.positions import mrope_positions


def expand_video(processor: Any, video: Video, visual_tokens: int) -> list[int]:
    """The placeholder once per visual token."""
    return [processor.tokenizer.convert_tokens_to_ids(VIDEO)] * visual_tokens


def positions(
    processor: Any, input_ids: Sequence[int], image_grids: Grids, video_grids: Grids, videos: Sequence[Video]
) -> Tensor:
    """M-RoPE with the time of a frame scaled to seconds, as vLLM computes it (`vlm.positions`)."""
    image_id, video_id = processor.tokenizer.convert_tokens_to_ids([IMAGE, VIDEO])
    # float32 as in vLLM: positions are truncated products of this value, so its rounding matters
    seconds = [float(np.float32(processor.video_processor.temporal_patch_size / v.fps)) for v in videos]
    return mrope_positions(
        input_ids,
        image_token_id=image_id,
        video_token_id=video_id,
        image_grids=image_grids,
        video_grids=video_grids,
        seconds_per_grid=seconds,
        tokens_per_second=processor.model_config["vision_config"].get("tokens_per_second", 4),
        merge_size=processor.image_processor.merge_size,
    )


FAMILY = Family(
    name="Qwen2.5-VL",
    model_type="qwen2_5_vl",
    language_config="Qwen2Config",
    model="Qwen2_5_VLForConditionalGeneration",
    processor="Qwen2_5_VLProcessor",
    engine="vllm.model_executor.models.qwen2_5_vl:Qwen2_5_VLForConditionalGeneration",
    image_token=IMAGE,
    video_token=VIDEO,
    media_tokens=MEDIA_TOKENS,
    turn_tokens=("<|im_start|>", "<|im_end|>"),
    factor=28,
    box_frame="resized",
    parts={
        "projector": ("visual.merger.",),
        "vision": ("visual.",),
        "language": ("language_model.", "lm_head."),
    },
    lora_targets={
        "language": r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)",
        "vision": r".*visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(gate|up|down)_proj)",
    },
    stored_names={  # checkpoints come with the names of transformers 4 and 5, and with vLLM's
        "visual.": "model.visual.",
        "model.embed_tokens.": "model.language_model.embed_tokens.",
        "model.layers.": "model.language_model.layers.",
        "model.norm.": "model.language_model.norm.",
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
    },
    engine_names={
        "language_model.lm_head.": "lm_head.",
        "language_model.model.": "model.language_model.",
        "visual.": "model.visual.",
    },
    expand_video=expand_video,
    positions=positions,
)

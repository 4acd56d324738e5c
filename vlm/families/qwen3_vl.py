"""Qwen3-VL, dense (arXiv 2511.21631): DeepStack, interleaved M-RoPE, and the time of each video frame as text before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from core.media.tokens import IMAGE, MEDIA_TOKENS, VIDEO
from core.media.videos import Video
from vlm.families.family import Family, Grids
from vlm.positions import mrope_positions


def frame_times(video: Video, frames_per_patch: int) -> list[float]:
    """Seconds of each temporal patch of a clip: the mean of its first and last frame's, as the processor computes it."""
    seconds = [index / video.fps for index in video.metadata()["frames_indices"]]
    starts = range(0, len(seconds), frames_per_patch)
    return [(seconds[i] + seconds[i + frames_per_patch - 1]) / 2 for i in starts]


def expand_video(processor: Any, video: Video, visual_tokens: int) -> list[int]:
    """Each frame's time as text, `<1.2 seconds>`, and behind it the frame's visual tokens between vision start and end."""
    tokenizer = processor.tokenizer
    start, pad, end = tokenizer.convert_tokens_to_ids(["<|vision_start|>", VIDEO, "<|vision_end|>"])
    times = frame_times(video, processor.video_processor.temporal_patch_size)
    ids: list[int] = []
    for seconds in times:
        ids += tokenizer(f"<{seconds:.1f} seconds>", add_special_tokens=False)["input_ids"]
        ids += [start, *[pad] * (visual_tokens // len(times)), end]
    return ids


def positions(
    processor: Any, input_ids: Sequence[int], image_grids: Grids, video_grids: Grids, videos: Sequence[Video]
) -> Tensor:
    """M-RoPE with every frame of a video as an image of its own: its time is in the text before it."""
    image_id, video_id = processor.tokenizer.convert_tokens_to_ids([IMAGE, VIDEO])
    frames = [(1, h, w) for t, h, w in video_grids for _ in range(t)]
    return mrope_positions(
        input_ids,
        image_token_id=image_id,
        video_token_id=video_id,
        image_grids=image_grids,
        video_grids=frames,
        seconds_per_grid=[0.0] * len(frames),
        tokens_per_second=0.0,
        merge_size=processor.image_processor.merge_size,
    )


FAMILY = Family(
    name="Qwen3-VL",
    model_type="qwen3_vl",
    language_config="Qwen3Config",
    model="Qwen3VLForConditionalGeneration",
    processor="Qwen3VLProcessor",
    engine="vllm.model_executor.models.qwen3_vl:Qwen3VLForConditionalGeneration",
    image_token=IMAGE,
    video_token=VIDEO,
    media_tokens=MEDIA_TOKENS,
    turn_tokens=("<|im_start|>", "<|im_end|>"),
    factor=32,
    box_frame="norm1000",
    parts={
        "projector": ("visual.merger.", "visual.deepstack_merger_list."),
        "vision": ("visual.",),
        "language": ("language_model.", "lm_head."),
    },
    lora_targets={
        "language": r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)",
        "vision": r".*visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.linear_fc[12])",
    },
    stored_names={  # beside transformers' own, vLLM's
        "visual.": "model.visual.",
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

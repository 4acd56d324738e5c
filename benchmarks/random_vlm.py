"""Random models and rollouts of chosen sizes, for measurements without downloaded weights."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from core.score import Score
from engines.rollout import Rollout
from engines.samples import Group, Sample
from vlm.families import DEFAULT_FAMILY, FAMILIES, attach_family
from vlm.inputs import Encoded, encode
from vlm.tiny import SPECIAL_TOKENS, build_processor, build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None}
COMPLETION_LENGTHS = (40, 64, 52, 80, 33, 71, 64, 48)
"""Completion lengths in tokens; repeated for larger groups."""


def processor(max_visual_tokens: int = 1024, family: str = DEFAULT_FAMILY):
    """A processor with a small vocabulary of its own, since only numbers of tokens matter here."""
    tokenizer = build_tokenizer(["find the red box"])
    made = build_processor(tokenizer, family=family, max_visual_tokens=max_visual_tokens)
    attach_family(made, {"model_type": family, "vision_config": {}}, "benchmark")
    return made


def random_model(
    tokenizer,
    *,
    hidden: int = 512,
    layers: int = 6,
    vocabulary: int = 32000,
    vision_depth: int = 8,
    attention: str = "sdpa",
    family: str = DEFAULT_FAMILY,
) -> PreTrainedModel:
    """Random float32 model with heads of width 64, four per key head; about 41 M parameters by default."""
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

    text = {
        "hidden_size": hidden,
        "intermediate_size": hidden * 43 // 16,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 256,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6},
        "tie_word_embeddings": True,
    }
    text |= NO_SPECIAL_TOKENS
    vision: dict[str, Any] = {
        "depth": vision_depth,
        "hidden_size": hidden // 2,
        "intermediate_size": hidden * 43 // 32,
        "num_heads": hidden // 64,
        "out_hidden_size": hidden,
    }
    config: PreTrainedConfig
    if family == "qwen3_vl":
        rope = {"rope_type": "default", "mrope_section": [12, 10, 10], "mrope_interleaved": True}
        text |= {"head_dim": 64, "rope_parameters": rope | {"rope_theta": 5e6}}
        vision |= {"deepstack_visual_indexes": [vision_depth // 4, vision_depth // 2, vision_depth * 3 // 4]}
        config = Qwen3VLConfig(
            text_config=text, vision_config=vision, tie_word_embeddings=True, **media_tokens(tokenizer)
        )
    else:
        vision |= {"fullatt_block_indexes": [vision_depth // 2 - 1, vision_depth - 1], "window_size": 112}
        config = Qwen2_5_VLConfig(
            text_config=text, vision_config=vision, tie_word_embeddings=True, **media_tokens(tokenizer)
        )
    torch.manual_seed(0)
    model_class = FAMILIES[family].model_class()
    return model_class._from_config(config, dtype=torch.float32, attn_implementation=attention)


def media_tokens(tokenizer) -> dict[str, int]:
    """Ids of the media tokens by their names in the model's config."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def image_prompt(processor, side: int, tokens: int | None = None, seed: int = 0) -> Encoded:
    """A prompt with a square image of `side` pixels (0: no image), filled up with text to `tokens` tokens if given."""
    pixels = np.random.default_rng(seed).integers(0, 255, (max(side, 1), max(side, 1), 3), dtype=np.uint8)
    images = [Image.fromarray(pixels)] if side else []
    extra = 0
    while True:
        content = [{"type": "image"}] * len(images)
        content.append({"type": "text", "text": "find the red box" + " the" * extra})
        encoded = encode(processor, [{"role": "user", "content": content}], images)
        if tokens is None or len(encoded) == tokens:
            return encoded
        if len(encoded) > tokens:
            raise ValueError(f"a prompt of {tokens} tokens is too short for an image of {side} pixels")
        extra += tokens - len(encoded)


def random_group(
    prompt: Encoded,
    size: int,
    *,
    lengths: Sequence[int] = COMPLETION_LENGTHS,
    vocabulary: int = 300,
    seed: int = 0,
) -> Group:
    """A group of `size` completions of random tokens with random advantages."""
    draw = random.Random(seed)
    rollouts = []
    for i in range(size):
        n = lengths[i % len(lengths)]
        ids = tuple(draw.randrange(10, vocabulary) for _ in range(n))
        rollouts.append(Rollout(f"row{seed}", prompt, ids, (1,) * n, (0.0,) * n, "", 0, "stop"))
    advantages = tuple(draw.gauss(0, 1) for _ in rollouts)
    row = {"id": f"row{seed}", "task": "task"}
    samples = [Sample(row, r, Score(a, {}, True)) for r, a in zip(rollouts, advantages, strict=True)]
    return Group(tuple(samples), advantages)

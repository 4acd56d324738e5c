"""Loading a model and its processor, and the config section for it shared by SFT and RL.

The pixel limits belong to the processor and must be the same everywhere, because they determine the number of visual
tokens of an image. transformers 5 stores them as `size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}`:
despite the names these are areas in pixels. The video processor has its own limits; its default lower limit, 128 tokens
of 28x28 pixels, enlarges small frames (112 px become 336).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator
from torch import nn

from core.config import Section
from core.files.paths import PathText
from vlm.checkpoint import CheckpointError, check_tokenizer, read_config, resolve_checkpoint, weight_files
from vlm.families import attach_family, family_of_checkpoint, family_of_config, family_of_processor
from vlm.lora import LoraSettings, add_lora
from vlm.parts import Preset, set_trainable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LoadingConfig(Section):
    """How a checkpoint is loaded: the type of its weights, and the limits on image size."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the loaded weights. Steps at learning rates near 1e-6 are lost in bfloat16 weights, so the optimizer keeps
    float32 master weights: DeepSpeed's, or our own (core/training/master_weights.py). float16 is for evaluation and
    inference, not for training."""
    min_pixels: int | None = Field(None, gt=0)
    """Images with a smaller area, in pixels, are enlarged; null: the checkpoint's own limit. All limits must be what
    training used."""
    max_pixels: int | None = Field(None, gt=0)
    """Images with a larger area, in pixels, are shrunk; null: the checkpoint's own limit."""
    video_min_pixels: int | None = Field(None, gt=0)
    """The same for one frame of a video, or in Qwen3-VL for all frames of a clip together; null: the checkpoint's."""
    video_max_pixels: int | None = Field(None, gt=0)
    """As video_min_pixels."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> LoadingConfig:
        for kind, low, high in (
            ("", self.min_pixels, self.max_pixels),
            ("video_", self.video_min_pixels, self.video_max_pixels),
        ):
            if low is not None and high is not None and low > high:
                raise ValueError(f"{kind}min_pixels ({low}) is larger than {kind}max_pixels ({high})")
        return self

    @property
    def limits(self) -> dict[str, int | None]:
        """The pixel limits, as `load_processor` takes them."""
        names = ("min_pixels", "max_pixels", "video_min_pixels", "video_max_pixels")
        return {name: getattr(self, name) for name in names}


class _Path(Section):
    path: PathText
    """Folder of a checkpoint of a known family (docs/families.md; `python -m vlm.assemble`, SFT and GRPO write such), or
    a Hub id, `owner/name` or `owner/name@revision`, which is downloaded (docs/hub.md)."""


class CheckpointConfig(LoadingConfig, _Path):  # fields come in the order of the bases from the last one on
    """Which checkpoint, and how it is loaded."""


class ModelConfig(CheckpointConfig):
    """Which model, how it is loaded, the limits on image size, and which parts train."""

    trainable: Preset = "all"
    """Which parts to train: projector, vision+projector, language or all (see vlm/parts.py)."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention implementation of transformers; flash_attention_2 needs that package and a GPU."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: takes about a third more time and far less memory."""
    lora: LoraSettings | None = None
    """Train low-rank adapters instead of full weights (vlm/lora.py); null trains full weights."""


def check_checkpoint(path: str | Path) -> Path:
    """Folder of a checkpoint of a known family; CheckpointError if it is unusable. Does not read weights."""
    folder = resolve_checkpoint(path)
    family_of_checkpoint(folder)
    weight_files(folder)
    return folder


def pixel_limits(processor: Any) -> dict[str, int]:
    """How the processor resizes images: `min_pixels` and `max_pixels` (areas); sides become multiples of `factor` pixels."""
    return family_of_processor(processor).pixel_limits(processor)


def context_length(path: str | Path) -> int | None:
    """Maximum sequence length in tokens according to the checkpoint's config; None if it sets no limit."""
    config = read_config(resolve_checkpoint(path))
    return config.get("text_config", config).get("max_position_embeddings")


def load_processor(
    model: CheckpointConfig | str | Path,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    video_min_pixels: int | None = None,
    video_max_pixels: int | None = None,
) -> Any:
    """Processor (tokenizer, image and video processors, chat template) of a checkpoint with the given pixel limits.

    `model` is a path or a config; keyword limits override the config's, and None keeps the checkpoint's. Pixel limits
    are areas: of one image (`min_pixels`, `max_pixels`), or of one video frame or clip (`video_*`, by family).
    """
    if isinstance(model, CheckpointConfig):
        min_pixels = model.min_pixels if min_pixels is None else min_pixels
        max_pixels = model.max_pixels if max_pixels is None else max_pixels
        video_min_pixels = model.video_min_pixels if video_min_pixels is None else video_min_pixels
        video_max_pixels = model.video_max_pixels if video_max_pixels is None else video_max_pixels
    folder = resolve_checkpoint(model.path if isinstance(model, CheckpointConfig) else model)
    config = read_config(folder)
    family = family_of_config(config, folder)
    check_tokenizer(folder)
    try:
        processor = family.processor_class().from_pretrained(folder)
    except (OSError, ValueError) as error:
        # transformers' own message suggests Hub names and does not say what is missing
        raise CheckpointError(
            f"{folder}: no usable {family.name} processor and tokenizer there ({error})"
        ) from error
    if processor.chat_template is None:
        raise CheckpointError(
            f"{folder}: the processor has no chat template (chat_template.jinja is missing)"
        )
    attach_family(processor, config, folder)
    limits = {
        "min_pixels": min_pixels,
        "max_pixels": max_pixels,
        "video_min_pixels": video_min_pixels,
        "video_max_pixels": video_max_pixels,
    }
    family.set_pixel_limits(processor, limits, str(folder))
    return processor


def load_model(model: ModelConfig | str | Path, **settings) -> PreTrainedModel:
    """Load the weights, in `dtype`, with the chosen parts trainable (the first process prints the counts).

    `model` is a config, or a path with ModelConfig's other fields as keyword arguments. LoRA is not applied here
    but by `load_trainable`. Raises CheckpointError if the folder does not exist, has no weights,
    is of another architecture, or has weights that do not match the model.
    """
    import torch

    config = model if isinstance(model, ModelConfig) else ModelConfig(path=str(model), **settings)
    if isinstance(model, ModelConfig) and settings:
        config = ModelConfig.model_validate({**model.model_dump(), **settings})
    folder = check_checkpoint(config.path)
    loaded, info = (
        family_of_checkpoint(folder)
        .model_class()
        .from_pretrained(
            folder,
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
            output_loading_info=True,
        )
    )
    # transformers would only warn, and initialise missing weights at random
    if info["missing_keys"] or info["unexpected_keys"]:
        raise CheckpointError(
            f"{folder}: weights do not fit config.json; missing: {_some(info['missing_keys'])};"
            f" unexpected: {_some(info['unexpected_keys'])}"
        )
    if config.gradient_checkpointing:
        loaded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    set_trainable(loaded, config.trainable)
    return loaded


def load_trainable(config: ModelConfig) -> nn.Module:
    """The model in training mode, with LoRA where the config asks for it and the chosen parts trainable."""
    model: nn.Module = load_model(config)
    if config.lora is not None:
        model = add_lora(model, config.lora)
        set_trainable(model, config.trainable)
    return model.train()  # transformers checkpoints gradients in training mode only


@contextmanager
def without_zero3() -> Iterator[None]:
    """Context in which `from_pretrained` loads unsharded models. Under ZeRO-3 it would shard them over all processes,
    also where only one loads a model or each loads its own."""
    from transformers.integrations import deepspeed

    # keep and restore the weak reference itself: a new config object would be garbage-collected at once
    before = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = before


def _some(names) -> str:
    names = sorted(names)
    return (
        ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "none"
    )

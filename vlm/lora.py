"""LoRA through peft, on the linear layers of the language model, and of the ViT where asked for.

`add_lora` wraps a loaded model; a trainer that wraps by itself (TRL's `peft_config=`) takes `lora_config`. The
projector never gets adapters: it is small and, in an assembled model, starts from random weights, for which a low-rank
update is no substitute. To train it beside the adapters use a preset that names it (see `vlm/parts.py`) and save with
`merge_lora`: PEFT's own `save_pretrained` writes the adapters alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

if TYPE_CHECKING:
    import peft

_LANGUAGE = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
_VISION = r".*visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(gate|up|down)_proj)"


class LoraSettings(BaseModel):
    """Low-rank adapters instead of full training of the language model (and of the ViT)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    r: int = Field(16, ge=1, description="Rank of the two adapter matrices of each layer.")
    alpha: int = Field(32, ge=1, description="Scale of the update: it is multiplied by alpha / r.")
    dropout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Dropout on the adapters' input. Keep 0 in RL: the trainer's log-probs must be the engine's.",
    )
    targets: Literal["language", "all"] = Field(
        "language",
        description="'language': linear layers of the language model; 'all': those of the ViT too.",
    )


def lora_config(settings: LoraSettings) -> peft.LoraConfig:
    """peft's config whose `target_modules` regex names exactly the chosen linear layers."""
    import peft

    pattern = _LANGUAGE if settings.targets == "language" else f"({_LANGUAGE}|{_VISION})"
    return peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=pattern,
        task_type="CAUSAL_LM",
    )


def add_lora(model: nn.Module, settings: LoraSettings) -> peft.PeftModel:
    """Wrap `model`; every base weight is frozen afterwards, `set_trainable` with a preset decides what trains."""
    import peft

    return peft.get_peft_model(model, lora_config(settings))


def merge_lora(model: nn.Module) -> nn.Module:
    """The plain model with the adapters added into its weights (for a checkpoint that loads anywhere), in place."""
    return model.merge_and_unload()

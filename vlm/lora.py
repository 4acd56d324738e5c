"""LoRA through peft, on the linear layers of the language model and optionally of the ViT.

`add_lora` wraps a loaded model (`vlm.load.load_trainable` does it where a config asks for it). The
projector never gets adapters: it is small, and in an assembled model it starts from random weights, which need full
training. To train it beside the adapters, use a preset that includes it (see `vlm/parts.py`) and save with
`vlm.weights`: PEFT's own `save_pretrained` writes only the adapters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import nn

from core.config import Section
from vlm.families import family_of_model
from vlm.families.family import Family

if TYPE_CHECKING:
    import peft


class LoraSettings(Section):
    """Low-rank adapters instead of full training of the language model (and optionally the ViT)."""

    r: int = Field(16, ge=1)
    """Rank of the two adapter matrices of each layer."""
    alpha: int = Field(32, ge=1)
    """The adapters' output is scaled by alpha / r."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout on the adapters' input. Keep 0 in RL: the trainer's log-probs must be the engine's."""
    targets: Literal["language", "all"] = "language"
    """'language': linear layers of the language model; 'all': also those of the ViT."""


def lora_targets(family: Family, settings: LoraSettings) -> str:
    """Regular expression that matches exactly the chosen linear layers of a family."""
    language, vision = family.lora_targets["language"], family.lora_targets["vision"]
    return language if settings.targets == "language" else f"({language}|{vision})"


def lora_config(targets: str, settings: LoraSettings, task_type: str | None = "CAUSAL_LM") -> peft.LoraConfig:
    """peft config for the linear layers that a regular expression matches."""
    import peft

    return peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type=task_type,
    )


def add_lora(model: nn.Module, settings: LoraSettings) -> peft.PeftModel:
    """Wrap `model`. All base weights are frozen afterwards; call `set_trainable` with a preset to choose what trains."""
    import peft

    return peft.get_peft_model(model, lora_config(lora_targets(family_of_model(model), settings), settings))

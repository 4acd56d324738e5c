"""The model families, chosen by a checkpoint's `model_type`; nothing outside this package asks for a class by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vlm.checkpoint import CheckpointError, read_config
from vlm.families import internvl, qwen2_5_vl, qwen3_5, qwen3_vl
from vlm.families.family import Family

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (qwen2_5_vl.FAMILY, qwen3_vl.FAMILY, qwen3_5.FAMILY, internvl.FAMILY)
}
DEFAULT_FAMILY = qwen2_5_vl.FAMILY.model_type
"""Of tiny models, where no other is asked for."""


def family_of_config(config: dict[str, Any], where: str | Path) -> Family:
    """The family of a checkpoint's `config.json`. CheckpointError, naming `where`, if it is of none that is known."""
    model_type = str(config.get("model_type"))
    dense = FAMILIES.get(model_type.removesuffix("_moe"))
    if dense and model_type not in FAMILIES:
        raise CheckpointError(
            f"{where}: {model_type} is a mixture of experts, which cannot be trained here yet: experts would have to be"
            f" spread over the GPUs, in the trainer and in the engine. Dense models of {dense.name} can"
        )
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"{where}: expected a model of one of the families {', '.join(FAMILIES)}; its config says model_type"
            f" {config.get('model_type')!r}, architectures {config.get('architectures')}. docs/families.md says what adding a family"
            " takes; `python -m vlm.assemble` joins a vision tower and a language model into one that is known"
        )
    return FAMILIES[model_type]


def family_of_checkpoint(folder: Path) -> Family:
    """The family of a checkpoint folder. CheckpointError if it is unusable, or of no known family."""
    return family_of_config(read_config(folder), folder)


def family_of_model(model: nn.Module) -> Family:
    """The family of a model of transformers (wrapped by PEFT or not) or of vLLM. CheckpointError if it is of none."""
    config = getattr(model, "config", None)
    fields = {name: getattr(config, name, None) for name in ("model_type", "architectures")}
    return family_of_config(fields, type(model).__name__)


def model_inputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our inputs as the model's forward takes them; unchanged for a model of no known family, a plain language model."""
    family = FAMILIES.get(model.config.model_type)
    return dict(inputs) if family is None else family.model_inputs(model.config, inputs)


def attach_family(processor: Any, config: dict[str, Any], where: str | Path) -> None:
    """Tell a processor of which model it is; its own files do not. config: the model's `config.json`."""
    processor.family = family_of_config(config, where)
    processor.model_config = config


def family_of_processor(processor: Any) -> Family:
    """The family of a processor from `vlm.load.load_processor`. ValueError for one from elsewhere."""
    if not hasattr(processor, "family"):
        raise ValueError(
            "the processor does not know its model's family: load it with vlm.load.load_processor"
        )
    return processor.family

"""The model of a reward model: a transformer with a linear head on its last token, as a sequence classifier of one label.

The classes and the layout of the checkpoint are transformers': `AutoModelForSequenceClassification` loads a text reward
model, vLLM's pooling runner loads both kinds. transformers has no such class for vision-language models, so the one here
joins its own generic head with the family's model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.utils import logging

from vlm.checkpoint import CheckpointError, read_config, resolve_checkpoint, weight_files
from vlm.families import FAMILIES, family_of_checkpoint, family_of_model
from vlm.families.family import Family
from vlm.load import ModelConfig
from vlm.lora import LoraSettings, lora_config, lora_targets
from vlm.parts import PRESETS, is_adapter, part_of

Kind = Literal["multimodal", "text"]
HEAD = "score.weight"
_TEXT_LAYERS = r"model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
_SHARED_SETTINGS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps"),
    *("pad_token_id", "eos_token_id", "bos_token_id", "head_dim", "attention_bias", "attention_dropout"),
)


@cache
def classifier_class(model_type: str) -> Any:
    """The sequence classifier of a family, named as vLLM names its pooling model of the architecture."""
    generating = FAMILIES[model_type].model_class()
    base = next(c for c in generating.__mro__[1:] if issubclass(c, PreTrainedModel))
    name = generating.__name__.replace("ForConditionalGeneration", "ForSequenceClassification")
    # the names in checkpoint files are those of the generating model, which both transformers and vLLM read
    if mapping := get_checkpoint_conversion_mapping(generating.__name__):
        register_checkpoint_conversion_mapping(name, mapping, overwrite=True)
    return type(name, (GenericForSequenceClassification, base), {"__module__": __name__})


class ScoreHead(nn.Linear):
    """(…, hidden) → (…, 1) without bias, in float32 whatever the model's type: in bfloat16 two scores near 8 could not differ
    by less than 0.06."""

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.float(), self.weight.float())


def new_reward_model(kind: Kind, config: ModelConfig) -> nn.Module:
    """The model of an SFT checkpoint, with a head that is zero, so that training begins at equal scores and is the same on
    any number of processes. In training mode, the head and the chosen parts trainable, with LoRA where the config asks for it.

    Raises CheckpointError if the weights do not fit.
    """
    model = _load(kind, config, resolve_checkpoint(config.path), fresh=True)
    _zero(model.score.weight)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    family = family_of_model(model) if kind == "multimodal" else None
    wrapped: nn.Module = model if config.lora is None else _with_lora(model, family, config.lora)
    named = list(wrapped.named_parameters())
    adapted = {_part(family, name) for name, _ in named if is_adapter(name)}
    for name, parameter in named:
        part = _part(family, name)
        trained = part in PRESETS[config.trainable] and (part not in adapted or is_adapter(name))
        parameter.requires_grad_(trained or name.endswith(HEAD))
    return wrapped.train()


def load_reward_model(
    folder: Path, dtype: str = "float32", device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """A trained reward model of either kind, or any other sequence classifier of transformers with one label, to score with.

    Raises CheckpointError if the weights do not fit, or for several labels.
    """
    kind: Kind = "multimodal" if is_multimodal(folder) else "text"
    return _load(kind, ModelConfig(path=str(folder), dtype=dtype), folder, fresh=False).to(device).eval()


def is_multimodal(folder: Path) -> bool:
    """Whether a checkpoint is of the vision-language model."""
    return read_config(folder).get("model_type") in FAMILIES


def _load(kind: Kind, config: ModelConfig, folder: Path, *, fresh: bool) -> Any:
    multimodal = is_multimodal(folder)
    if kind == "multimodal" and not multimodal:
        raise CheckpointError(
            f"{folder}: expected a vision-language model ({', '.join(FAMILIES)}) for kind: multimodal, got model_type"
            f" {read_config(folder).get('model_type')!r} (kind: text takes it)"
        )
    weight_files(folder)
    options: dict[str, Any] = {
        "dtype": getattr(torch, config.dtype),
        "attn_implementation": config.attention,
        "output_loading_info": True,
    }
    loader: Any = (
        classifier_class(family_of_checkpoint(folder).model_type)
        if kind == "multimodal"
        else AutoModelForSequenceClassification
    )
    settings = (
        language_config(folder) if kind == "text" and multimodal else AutoConfig.from_pretrained(folder)
    )
    if kind == "text" and multimodal:
        options["key_mapping"] = {r"^(model\.)?language_model\.(model\.)?": "model."}
    if fresh:
        settings.num_labels = settings.get_text_config().num_labels = 1
        settings.tie_word_embeddings = settings.get_text_config().tie_word_embeddings = False
    elif settings.num_labels != 1:
        raise CheckpointError(
            f"{folder}: expected a sequence classifier with one label, got {settings.num_labels} labels"
        )
    with _no_load_report():
        model, info = loader.from_pretrained(folder, config=settings, **options)
    missing = set(info["missing_keys"]) - ({HEAD} if fresh else set())
    if fresh:
        passed = ("lm_head.", *(("model.visual.", "visual.") if kind == "text" else ()))
        unexpected = [name for name in info["unexpected_keys"] if not name.startswith(passed)]
    else:
        unexpected = list(info["unexpected_keys"])
    if missing or unexpected or info["mismatched_keys"]:
        raise CheckpointError(
            f"{folder}: weights do not fit config.json; missing: {sorted(missing)[:4]}; unexpected: {sorted(unexpected)[:4]}"
        )
    if isinstance(getattr(model, "score", None), nn.Linear) and model.score.bias is None:
        model.score.__class__ = ScoreHead
    elif fresh:
        raise CheckpointError(
            f"{folder}: expected a language model whose classifier has a linear head `score`"
        )
    return model


@contextmanager
def _no_load_report() -> Iterator[None]:
    """Without transformers' table of weights that do not fit, which are compared below: a new head is always missing."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def language_config(folder: Path) -> PretrainedConfig:
    """The language model of a vision-language checkpoint as the text model that it is: on text the three M-RoPE positions of a
    token are equal, which is plain RoPE. CheckpointError for a family whose language model is not known as one."""
    family = family_of_checkpoint(folder)
    if family.language_config is None:
        known = " or ".join(one.name for one in FAMILIES.values() if one.language_config)
        raise CheckpointError(
            f"{folder}: kind: text takes the language model of {known}, or a folder of a causal language model; got"
            f" {family.name}"
        )
    text = AutoConfig.from_pretrained(folder).get_text_config()
    values = {name: getattr(text, name) for name in _SHARED_SETTINGS if hasattr(text, name)}
    rope = {"rope_type": "default", "rope_theta": text.rope_parameters["rope_theta"]}
    config_class = getattr(transformers, family.language_config)
    return config_class(**values, rope_parameters=rope, tie_word_embeddings=False)


def _part(family: Family | None, name: str) -> str:
    """As `vlm.parts.part_of`; all of a text model is language."""
    return "language" if family is None else part_of(family, name)


def _with_lora(model: PreTrainedModel, family: Family | None, settings: LoraSettings) -> nn.Module:
    import peft

    targets = _TEXT_LAYERS if family is None else lora_targets(family, settings)
    # PEFT's class for causal language models asks for methods of generation
    return peft.get_peft_model(model, lora_config(targets, settings, task_type=None))


@torch.no_grad()
def _zero(weight: nn.Parameter) -> None:
    if not hasattr(weight, "ds_id"):
        weight.zero_()
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
        weight.zero_()

"""The weights of a model that trains, by transformers' names, whole, adapters merged: for engines and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from core.training.finite import finite_weights
from vlm.parts import is_adapter

TRAINED_BASE = "trained_base.safetensors"
"""Beside an adapter: base weights that train in full (a preset may name parts without adapters)."""


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of the bare model (not the DDP or DeepSpeed wrapper), adapters merged, a tied LM head under its own
    name too (an engine may keep a copy of it). FloatingPointError if one is not finite: no engine and no checkpoint gets
    it.

    Each weight is valid until the next one is asked for. Under ZeRO-3 it is gathered for that time, so all processes
    must walk the iterator together. The model itself is never changed: adapters are added to a copy of the weight they
    adapt.
    """
    yield from finite_weights(_named_weights(model))


def save_model(accelerator: Accelerator, model: nn.Module, processor: Any, folder: Path) -> None:
    """Weights (adapters merged) and processor, by the main process; all processes take part in gathering them.

    model: plain or wrapped (PEFT, DDP, DeepSpeed). Raises FloatingPointError if a weight is not finite.
    """
    bare: Any = accelerator.unwrap_model(model)
    gather_here = accelerator.is_main_process
    tied = bare.config.tie_word_embeddings
    # A copy of each weight: it lives only while the iterator stands on it. On all but the main process nothing is kept.
    state = {
        name: weight.cpu().clone()
        for name, weight in named_weights(bare)
        if gather_here and not (tied and name == "lm_head.weight")
    }
    if gather_here:
        model_to_save = bare.get_base_model() if hasattr(bare, "get_base_model") else bare
        model_to_save.save_pretrained(folder, state_dict=state)
        processor.save_pretrained(folder)
    accelerator.wait_for_everyone()


def save_adapter(accelerator: Accelerator, model: nn.Module, processor: Any, folder: Path) -> None:
    """LoRA's adapters as PEFT writes them, the base weights that train in full beside them (TRAINED_BASE), and the processor;
    all processes take part. Raises FloatingPointError if a weight is not finite."""
    bare: Any = accelerator.unwrap_model(model)
    trained = {
        name: weight.cpu().clone()
        for name, weight in finite_weights(_trained_weights(bare))
        if accelerator.is_main_process
    }
    if accelerator.is_main_process:
        bare.save_pretrained(folder, state_dict={n: p for n, p in trained.items() if is_adapter(n)})
        if base := {n: p for n, p in trained.items() if not is_adapter(n)}:
            save_file(base, folder / TRAINED_BASE)
        processor.save_pretrained(folder)
    accelerator.wait_for_everyone()


def _trained_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with _gathered([parameter]):
                yield name, parameter.detach()


def _named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    adapted = _adapted_layers(model)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        layer = adapted.get(id(parameter))
        adapters = [] if layer is None else _adapter_weights(layer)
        with _gathered([parameter, *adapters]):
            weight = parameter.detach()
            yield _plain_name(name), weight if layer is None else _merged(layer, weight)
    if model.config.tie_word_embeddings:
        embedding = model.get_input_embeddings().weight
        with _gathered([embedding]):
            yield "lm_head.weight", embedding.detach()


def _adapted_layers(model: nn.Module) -> dict[int, nn.Module]:
    """The LoRA layer around each adapted weight, by the weight's id."""
    return {id(m.base_layer.weight): m for m in model.modules() if hasattr(m, "get_delta_weight")}


def _adapter_weights(layer: Any) -> list[Tensor]:
    return [part[name].weight for name in layer.active_adapters for part in (layer.lora_A, layer.lora_B)]


@torch.no_grad()
def _merged(layer: Any, weight: Tensor) -> Tensor:
    """A copy of the base weight with the active adapters added, as PEFT's `merge` computes it."""
    merged = weight.clone()
    for name in layer.active_adapters:
        merged += layer.get_delta_weight(name).to(merged.dtype)
    return merged


def _gathered(parameters: Sequence[Tensor]) -> AbstractContextManager:
    """The whole parameters under ZeRO-3, where each process holds a part of them; only to be read."""
    partitioned = [p for p in parameters if hasattr(p, "ds_id")]
    if not partitioned:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(partitioned)


def _plain_name(name: str) -> str:
    """Name without what PEFT adds to it."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")

"""The policy's weights as engines take them: by transformers' names, whole, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from core.training.finite import finite_weights
from engines.fingerprint import Fingerprint, weights_fingerprint
from vlm.parts import is_adapter


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of the bare model (not the DDP or DeepSpeed wrapper), adapters merged, a tied LM head under its own
    name too (an engine may keep a copy of it). FloatingPointError if one is not finite: no engine and no checkpoint gets
    it.

    Each weight is valid until the next one is asked for. Under ZeRO-3 it is gathered for that time, so all processes
    must walk the iterator together. The model itself is never changed: adapters are added to a copy of the weight they
    adapt.
    """
    yield from finite_weights(_named_weights(model))


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


class FingerprintedWeights:
    """Passes weights on and sums up their bits on the way, so that they are gathered only once per sync."""

    def __init__(self, weights: Iterable[tuple[str, Tensor]]):
        self._weights = weights
        self.fingerprint: Fingerprint = {}

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, weight in self._weights:
            self.fingerprint |= weights_fingerprint([(name, weight)])
            yield name, weight


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

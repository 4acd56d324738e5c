"""The policy's weights as engines take them: by transformers' names, whole, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from core.finite import finite_weights
from rl.rollouts.fingerprint import Fingerprint, weights_fingerprint

_ADAPTER_PARTS = (
    ".lora_A.",
    ".lora_B.",
    ".lora_embedding_A.",
    ".lora_embedding_B.",
    ".lora_magnitude_vector.",
)


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of the bare model (not the DDP or DeepSpeed wrapper), adapters merged, a tied LM head under its own
    name too (an engine may keep a copy of it). FloatingPointError if one is not finite: no engine and no checkpoint gets
    it.

    Under ZeRO-3 each weight is gathered when it is asked for and given back afterwards, so all processes must walk the
    iterator together.
    """
    yield from finite_weights(_named_weights(model))


def _named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    with _merged_adapters(model):
        for name, parameter in model.named_parameters():
            if any(part in name for part in _ADAPTER_PARTS):
                continue
            with _gathered(parameter):
                yield _plain_name(name), parameter.detach()
        if model.config.tie_word_embeddings:
            embedding = model.get_input_embeddings().weight
            with _gathered(embedding):
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


@contextmanager
def _merged_adapters(model: nn.Module) -> Iterator[None]:
    """LoRA layers folded into the weights they adapt, for the time of the block."""
    if not hasattr(model, "merge_adapter"):
        yield
        return
    # float32 copies: merging and unmerging would otherwise leave rounding behind in the trained weights
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if ".base_layer." in n}
    with torch.no_grad():
        model.merge_adapter()
        try:
            yield
        finally:
            model.unmerge_adapter()
            for name, parameter in model.named_parameters():
                if name in kept:
                    parameter.copy_(kept[name])


def _gathered(parameter: Tensor):
    """The whole parameter under ZeRO-3, where each process holds a part of it."""
    if not hasattr(parameter, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter])


def _plain_name(name: str) -> str:
    """Name without what PEFT adds to it."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")

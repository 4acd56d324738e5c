"""Forward pass of a packed micro-batch: `model(**inputs, scored=…)` returns the loss of its trained tokens, not logits.

The keyword is added to the model of transformers itself, so that the call goes through everything that may be wrapped
around it: DDP, which reduces only gradients of its own forward passes, DeepSpeed, which gathers the weights of ZeRO-3
when their module is called, and PEFT.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlm.families import model_inputs
from vlm.packed.attention import PackedAttention, explicit_mask, packed_attention, use_packed_attention
from vlm.packed.head import CHUNK_ELEMENTS, SampledBy, TokenLosses, linear_cross_entropy
from vlm.packed.linear_attention import (
    PackedRecurrence,
    convolution_forward,
    linear_attention_forward,
    linear_attention_layers,
    packed_recurrence,
)
from vlm.packed.packing import Packed

Attention = Literal["merged", "explicit"]


@dataclass(frozen=True)
class Scored:
    """What is computed of a packed sequence: -sum_j coefficient_j log p(target_j), see `linear_cross_entropy`.

    attention: who attends to whom. recurrence: whose state each stretch begins with, in a model with linear attention.
    predictors, targets, coefficients: as in `Packed`, on the model's device.
    """

    attention: PackedAttention | Tensor
    recurrence: PackedRecurrence | None
    predictors: Tensor
    targets: Tensor
    coefficients: Tensor
    temperature: float = 1.0
    suppressed_ids: tuple[int, ...] = ()
    chunk_elements: int = CHUNK_ELEMENTS
    sampled_by: SampledBy | None = None


def packed_forward(
    model: nn.Module,
    packed: Packed,
    *,
    attention: Attention | None = None,
    temperature: float = 1.0,
    suppressed_ids: Sequence[int] = (),
    chunk_elements: int = CHUNK_ELEMENTS,
    sampled_by: SampledBy | None = None,
) -> TokenLosses:
    """Loss, log-probs and entropies of the trained tokens of a micro-batch, in the order of `packed.targets`.

    model: a causal LM of transformers, plain or wrapped (PEFT, DDP, DeepSpeed).
    attention: "merged" kernels or "explicit" mask (`vlm/packed/attention.py`); None: merged, except in float32 on a GPU,
        for which there is no flash kernel.
    The other options are those of `linear_cross_entropy`.
    """
    causal_lm = causal_lm_of(model)
    _accept_packed(causal_lm)
    weight = causal_lm.get_output_embeddings().weight
    device = weight.device
    if attention is None:
        attention = "explicit" if device.type == "cuda" and weight.dtype == torch.float32 else "merged"
    scored = Scored(
        attention=PackedAttention.of(packed.layout, device)
        if attention == "merged"
        else explicit_mask(packed.layout, device),
        recurrence=packed_recurrence(causal_lm.get_decoder(), packed.layout, device),
        predictors=packed.predictors.to(device),
        targets=packed.targets.to(device),
        coefficients=packed.coefficients.to(device),
        temperature=temperature,
        suppressed_ids=tuple(suppressed_ids),
        chunk_elements=chunk_elements,
        sampled_by=None if sampled_by is None else sampled_by.to(device),
    )
    inputs = model_inputs(causal_lm, {name: tensor.to(device) for name, tensor in packed.inputs.items()})
    return model(**inputs, scored=scored, use_cache=False)


def causal_lm_of(model: nn.Module) -> PreTrainedModel:
    """The model of transformers with an LM head inside whatever wraps it. Raises TypeError if there is none."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.get_output_embeddings() is not None:
            return module
    raise TypeError(f"expected a causal LM of transformers, plain or wrapped, got {type(model).__name__}")


def _accept_packed(causal_lm: PreTrainedModel) -> None:
    """Give the model's and its head's forward the keyword `scored`; without it both are what they were."""
    use_packed_attention(causal_lm.get_decoder())
    head = causal_lm.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ValueError("expected an LM head without bias")
    forwards: list[tuple[nn.Module, Any]] = [(causal_lm, _model_forward), (head, _head_forward)]
    for layer in linear_attention_layers(causal_lm.get_decoder()):
        forwards += [(layer, linear_attention_forward), (layer.conv1d, convolution_forward)]
    for module, forward in forwards:
        plain = module.forward
        if getattr(plain, "func", None) is not forward:  # other wrappers may have put back theirs
            module.forward = functools.wraps(plain)(functools.partial(forward, module, plain))


def _model_forward(
    causal_lm: PreTrainedModel, plain: Any, *args: Any, scored: Scored | None = None, **kwargs: Any
) -> Any:
    if scored is None:
        return plain(*args, **kwargs)
    if (
        scored.recurrence is not None
    ):  # masks of linear attention cannot be registered, but models take them ready-made
        masks = {"full_attention": scored.attention, "linear_attention": scored.recurrence}
        kwargs["attention_mask"] = masks
    with packed_attention(scored.attention):
        hidden = causal_lm.base_model(*args, **kwargs).last_hidden_state
    return causal_lm.get_output_embeddings()(hidden[0, scored.predictors], scored=scored)


def _head_forward(head: nn.Linear, plain: Any, hidden: Tensor, scored: Scored | None = None) -> Any:
    """Inside the module's own call, and so with all its hooks: ZeRO-3 gathers the weight in one, for backward too."""
    if scored is None:
        return plain(hidden)
    return linear_cross_entropy(
        hidden,
        head.weight,
        scored.targets,
        scored.coefficients,
        temperature=scored.temperature,
        suppressed_ids=scored.suppressed_ids,
        chunk_elements=scored.chunk_elements,
        sampled_by=scored.sampled_by,
    )

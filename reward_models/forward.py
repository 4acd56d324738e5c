"""Scores of all responses of a packed micro-batch: `model(**inputs, ends=…, attention=…)` returns them.

As in `vlm/packed/forward.py` the keywords are added to transformers' own model, so that the call goes through everything that may
be wrapped around it: DDP, DeepSpeed, PEFT.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlm.packed.attention import PackedAttention, explicit_mask, packed_attention, use_packed_attention
from vlm.packed.layout import Layout
from vlm.packed.linear_attention import linear_attention_layers
from vlm.packed.packing import Packed


def packed_scores(model: nn.Module, packed: Packed) -> Tensor:
    """(N,) float32: the score of every continuation, tree by tree, from the output at its last token.

    model: a sequence classifier with one label (`reward_models.model`), plain or wrapped (PEFT, DDP, DeepSpeed).
    """
    classifier = classifier_of(model)
    _accept_packed(classifier)
    body = classifier.base_model
    embedding = classifier.get_input_embeddings().weight
    device = embedding.device
    # there is no flash kernel for float32 on GPUs
    merged = not (device.type == "cuda" and embedding.dtype == torch.float32)
    attention = PackedAttention.of(packed.layout, device) if merged else explicit_mask(packed.layout, device)
    inputs = {name: tensor.to(device) for name, tensor in packed.inputs.items()}
    if not hasattr(body, "visual"):
        inputs["position_ids"] = inputs["position_ids"][0]  # of text the three are equal
    return model(**inputs, use_cache=False, ends=ends_of(packed.layout).to(device), attention=attention)


def ends_of(layout: Layout) -> Tensor:
    """(N,) int64: place of the last token of each continuation in the packed sequence."""
    lengths = [length for group in layout.continuations for length in group]
    return layout.prefix_tokens - 1 + torch.tensor(lengths, dtype=torch.long).cumsum(0)


def classifier_of(model: nn.Module) -> PreTrainedModel:
    """transformers' sequence classifier inside whatever wraps it. Raises TypeError if there is none."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and isinstance(getattr(module, "score", None), nn.Linear):
            return module
    raise TypeError(
        f"expected a sequence classifier with a linear head `score`, plain or wrapped, got {type(model).__name__}"
    )


def _accept_packed(classifier: PreTrainedModel) -> None:
    """Give the model's forward the keywords; without them it is what it was."""
    body: Any = classifier.base_model
    language = getattr(body, "language_model", body)
    if linear_attention_layers(language):
        raise ValueError("reward models need full attention in every layer, got linear attention")
    use_packed_attention(language)
    plain = classifier.forward
    if getattr(plain, "func", None) is not _forward:  # other wrappers may have put back theirs
        classifier.forward = functools.wraps(plain)(functools.partial(_forward, classifier, plain))


def _forward(
    classifier: PreTrainedModel,
    plain: Any,
    *args: Any,
    ends: Tensor | None = None,
    attention: PackedAttention | Tensor | None = None,
    **kwargs: Any,
) -> Any:
    if ends is None or attention is None:
        return plain(*args, **kwargs)
    with packed_attention(attention):
        hidden = classifier.base_model(*args, **kwargs).last_hidden_state
    return classifier.score(hidden[0, ends])[:, 0]

"""Attention over a packed sequence of prefixes and continuations (`vlm/packed/packing.py`), through transformers' interface.

A token of a prefix attends to the prefix up to itself; a token of a continuation to its whole prefix and to its own
continuation up to itself. Two forms compute the same:

- `explicit_mask`: the rule as a (T, T) mask for transformers' own SDPA; simple, slow, the reference.
- `merged_attention`: two calls of a variable-length attention kernel over all tokens: every stretch to itself
  (causal), and all continuation tokens to their prefixes (not causal). Each returns its output and the log-sum-exp of its
  scores, from which the softmax over both follows exactly:

      lse = log(exp(lse_self) + exp(lse_prefix)),  out = out_self exp(lse_self - lse) + out_prefix exp(lse_prefix - lse)

  Backward calls the same kernels' backward with the merged output and the merged lse: they recompute the
  probabilities as exp(score - lse), which are then those of the joint softmax, and D = rowsum(dout * out) is that of
  the joint output. No masks, no copies of the prefix's keys per continuation or per query head, no padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vlm.packed.layout import Layout
from vlm.packed.linear_attention import linear_attention_layers
from vlm.packed.varlen import Lengths, varlen_backward, varlen_forward

NAME = "packed"


@dataclass(frozen=True)
class PackedAttention:
    """A layout made ready for the kernels; the model hands it to its layers as it would an attention mask.

    segments: every stretch that attends causally to itself; queries, keys: per group, all continuation tokens and the
    prefix's tokens.
    """

    layout: Layout
    segments: Lengths
    queries: Lengths
    keys: Lengths

    @classmethod
    def of(cls, layout: Layout, device: torch.device | str) -> PackedAttention:
        return cls(
            layout=layout,
            segments=Lengths.of(layout.segments, device),
            queries=Lengths.of([sum(lengths) for lengths in layout.continuations], device),
            keys=Lengths.of(layout.prefixes, device),
        )


def explicit_mask(layout: Layout, device: torch.device | str = "cpu") -> Tensor:
    """(1, 1, T, T) bool, True where the row's token attends to the column's."""
    group, segment, is_prefix = [], [], []
    for g, length in enumerate(layout.prefixes):
        group += [g] * length
        segment += [g] * length
        is_prefix += [True] * length
    number = len(layout.prefixes)
    for g, lengths in enumerate(layout.continuations):
        for length in lengths:
            group += [g] * length
            segment += [number] * length
            is_prefix += [False] * length
            number += 1
    group += [-1] * layout.tail
    segment += [number] * layout.tail
    is_prefix += [False] * layout.tail
    groups, segments, prefixes = (torch.tensor(x, device=device) for x in (group, segment, is_prefix))
    itself = (segments[:, None] == segments[None]) & torch.ones(
        layout.total, layout.total, device=device
    ).tril().bool()
    its_prefix = (groups[:, None] == groups[None]) & prefixes[None] & ~prefixes[:, None]
    return (itself | its_prefix)[None, None]


def merged_attention(
    query: Tensor, key: Tensor, value: Tensor, attention: PackedAttention, scale: float
) -> Tensor:
    """query (T, heads, head_dim), key and value (T, key heads, head_dim), already rotated → (T, heads, head_dim)."""
    return _MergedAttention.apply(query, key, value, attention, scale)


class _MergedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, attention: PackedAttention, scale: float) -> Tensor:
        out, lse = varlen_forward(q, k, v, attention.segments, attention.segments, True, scale)
        prefixes, continuations = _stretches(attention.layout)
        if attention.layout.continuation_tokens:
            out_p, lse_p = varlen_forward(
                q[continuations], k[prefixes], v[prefixes], attention.queries, attention.keys, False, scale
            )
            lse_s = lse[:, continuations]
            merged = torch.logaddexp(lse_s, lse_p)
            weight_s, weight_p = ((x - merged).exp().t().unsqueeze(-1) for x in (lse_s, lse_p))
            out[continuations] = (out[continuations] * weight_s + out_p * weight_p).to(out.dtype)
            lse[:, continuations] = merged
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.attention, ctx.scale = attention, scale
        return out

    @staticmethod
    def backward(ctx, d_out: Tensor):
        q, k, v, out, lse = ctx.saved_tensors
        attention, scale = ctx.attention, ctx.scale
        d_out = d_out.contiguous()
        dq, dk, dv = varlen_backward(
            d_out, q, k, v, out, lse, attention.segments, attention.segments, True, scale
        )
        prefixes, continuations = _stretches(attention.layout)
        if attention.layout.continuation_tokens:
            dq_p, dk_p, dv_p = varlen_backward(
                d_out[continuations],
                q[continuations],
                k[prefixes],
                v[prefixes],
                out[continuations],
                lse[:, continuations].contiguous(),
                attention.queries,
                attention.keys,
                False,
                scale,
            )
            dq[continuations] += dq_p
            dk[prefixes] += dk_p
            dv[prefixes] += dv_p
        return dq, dk, dv, None, None


def _stretches(layout: Layout) -> tuple[slice, slice]:
    prefixes = layout.prefix_tokens
    return slice(prefixes), slice(prefixes, prefixes + layout.continuation_tokens)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: PackedAttention | Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, None]:
    """transformers' attention function: packed sequences as above, everything else as its SDPA does.

    query (1, heads, T, head_dim), key and value (1, key heads, T, head_dim) → (1, T, heads, head_dim).
    """
    if not isinstance(attention_mask, PackedAttention):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if dropout:
        raise ValueError(
            "attention dropout must be 0: the log-probs would not be those of the sampling policy"
        )
    if query.shape[0] != 1 or query.shape[2] != attention_mask.layout.total:
        raise ValueError(
            f"expected one packed sequence of {attention_mask.layout.total} tokens, got {tuple(query.shape)}"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # under autocast the rotation has made q and k float32
    q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
    return merged_attention(q, k, v, attention_mask, scale)[None], None


_active: ContextVar[PackedAttention | Tensor | None] = ContextVar("packed attention", default=None)


@contextmanager
def packed_attention(attention: PackedAttention | Tensor) -> Iterator[None]:
    """Inside, models that `use_packed_attention` take their one input sequence as packed in this way.

    attention: a PackedAttention, or an `explicit_mask`.
    """
    token = _active.set(attention)
    try:
        yield
    finally:
        _active.reset(token)


def _mask(*args: Any, **kwargs: Any) -> PackedAttention | Tensor | None:
    """What `create_causal_mask` of transformers gives to the layers; outside `packed_attention` that of "sdpa"."""
    active = _active.get()
    return sdpa_mask(*args, **kwargs) if active is None else active


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, _mask)


def use_packed_attention(language_model: PreTrainedModel) -> None:
    """Let the language model understand packed sequences; calls outside `packed_attention` go on as under "sdpa".

    Only the language model's own setting changes, the vision tower keeps its kernel.

    Raises ValueError for layers other than full attention and Qwen3.5's linear attention, for instance sliding windows.
    """
    config = language_model.config
    known = {"full_attention"} | ({"linear_attention"} if linear_attention_layers(language_model) else set())
    if others := set(getattr(config, "layer_types", None) or ()) - known:
        raise ValueError(
            "packed sequences need full attention or Qwen3.5's linear attention in every layer, got"
            f" {', '.join(sorted(others))}"
        )
    config._attn_implementation = NAME

"""Layers with a recurrent state (Gated DeltaNet, arXiv 2412.06464, as in Qwen3.5) over a packed sequence.

Such a layer carries two things from token to token: its recurrent state, and the last inputs of a short causal
convolution. In a packed sequence both of a continuation begin as those at the end of its prefix, and both of a prefix
begin empty, so that no sequence sees another's. Gradients of all continuations flow into the prefix through the state
and through the convolution.

Projections, norm and gate take the packed sequence as it is. For the convolution, every stretch is put behind a copy of
the tokens that it follows, and one call computes all of them. The recurrence runs over batches of stretches of similar
length: the prefixes, then the continuations. Its kernels are those that transformers chooses: of the packages
flash-linear-attention and causal-conv1d where they are installed, else plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen3_5

from vlm.packed.layout import Layout

CHUNK = 64
"""Tokens that the recurrence's kernels take in one step; they round lengths up to it."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive tokens of one sequence; follows: (start, length) of the prefix they go on from, None: they begin it."""

    start: int
    length: int
    follows: tuple[int, int] | None = None


@dataclass(frozen=True)
class StretchBatch:
    """Stretches of similar length as rows, padded on the right.

    tokens: (rows, longest) places in the packed sequence, 0 where it is padding.
    real: (rows, longest) bool, false where it is padding.
    states: (rows,) which of the prefixes' last states each row begins with; None: with an empty one.
    """

    tokens: Tensor
    real: Tensor
    states: Tensor | None


@dataclass(frozen=True)
class PackedRecurrence:
    """A layout made ready for layers with a recurrent state; the model hands it to them as their attention mask.

    with_context: places in the packed sequence of every stretch behind the tokens that it follows; T, its length,
        where there are none.
    in_context: (T,) where each token lies in `with_context`.
    batches: those of prefixes, then those of continuations. Prefix states are numbered by row, through all batches.
    in_batches: (T,) where each token lies in the rows of all batches, one behind the other.
    """

    with_context: Tensor
    in_context: Tensor
    batches: tuple[StretchBatch, ...]
    in_batches: Tensor

    @classmethod
    def of(cls, layout: Layout, kernel: int, device: torch.device | str) -> PackedRecurrence:
        """kernel: width of the convolution, a token and those before it."""
        stretches = stretches_of(layout)
        prefixes = by_length([s for s in stretches if s.follows is None])
        continuations = by_length([s for s in stretches if s.follows is not None and s.length])
        number = {(s.start, s.length): i for i, s in enumerate(s for batch in prefixes for s in batch)}
        batches, in_batches, before = [], torch.zeros(layout.total, dtype=torch.long), 0
        for members in prefixes + continuations:
            batch = _batch(members, [number[s.follows] for s in members if s.follows is not None], device)
            tokens, real = batch.tokens.cpu(), batch.real.cpu()
            in_batches[tokens[real]] = before + real.flatten().nonzero()[:, 0]
            before += real.numel()
            batches.append(batch)
        with_context, in_context = (x.to(device) for x in _contexts(stretches, kernel - 1, layout.total))
        return cls(with_context, in_context, tuple(batches), in_batches.to(device))


def stretches_of(layout: Layout) -> list[Stretch]:
    """Prefixes, continuations and the tail, in the order of the packed sequence."""
    prefixes, start = [], 0
    for length in layout.prefixes:
        prefixes.append(Stretch(start, length))
        start += length
    stretches = list(prefixes)
    for prefix, lengths in zip(prefixes, layout.continuations, strict=True):
        for length in lengths:
            stretches.append(Stretch(start, length, (prefix.start, prefix.length)))
            start += length
    return [*stretches, Stretch(start, layout.tail)] if layout.tail else stretches


def by_length(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Batches, the longest first, in which no row is shorter than three quarters of the longest, in whole chunks."""
    batches: list[list[Stretch]] = []
    longest = 0
    for stretch in sorted(stretches, key=lambda s: -s.length):
        chunks = -(-stretch.length // CHUNK)
        if not batches or 4 * chunks < 3 * longest:
            batches.append([])
            longest = chunks
        batches[-1].append(stretch)
    return batches


def _batch(members: Sequence[Stretch], states: Sequence[int], device: torch.device | str) -> StretchBatch:
    starts, lengths = (
        torch.tensor([getattr(s, name) for s in members])[:, None] for name in ("start", "length")
    )
    step = torch.arange(max(1, int(lengths.max())))[None]
    real = step < lengths
    return StretchBatch(
        tokens=torch.where(real, starts + step, 0).to(device),
        real=real.to(device),
        states=torch.tensor(states).to(device) if states else None,
    )


def _contexts(stretches: Sequence[Stretch], width: int, total: int) -> tuple[Tensor, Tensor]:
    """`with_context` and `in_context`; width: tokens before each stretch."""
    with_context: list[Tensor] = []
    in_context = torch.zeros(total, dtype=torch.long)
    before = 0
    for stretch in stretches:
        start, length = stretch.follows or (0, 0)
        known = min(width, length)
        own = torch.arange(stretch.start, stretch.start + stretch.length)
        end = torch.arange(start + length - known, start + length)
        with_context += [torch.full((width - known,), total), end, own]
        in_context[own] = before + width + torch.arange(stretch.length)
        before += width + stretch.length
    return torch.cat(with_context), in_context


def linear_attention_layers(language_model: PreTrainedModel) -> list[nn.Module]:
    return [module for module in language_model.modules() if isinstance(module, qwen3_5.Qwen3_5GatedDeltaNet)]


def packed_recurrence(
    language_model: PreTrainedModel, layout: Layout, device: torch.device | str
) -> PackedRecurrence | None:
    """For the model's linear attention, None if it has none. The layers are alike: they come from one config."""
    layers = linear_attention_layers(language_model)
    return PackedRecurrence.of(layout, int(layers[0].conv_kernel_size), device) if layers else None


def linear_attention_forward(
    layer: Any,
    plain: Callable[..., Tensor],
    hidden_states: Tensor,
    *args: Any,
    attention_mask: Any = None,
    **kwargs: Any,
) -> Tensor:
    """The layer's forward: as transformers' own (`plain`), but a PackedRecurrence as mask makes it read a packed sequence.

    layer: Qwen3_5GatedDeltaNet. hidden_states (1, T, hidden) → (1, T, hidden).
    """
    packed = attention_mask
    if not isinstance(packed, PackedRecurrence):
        return plain(hidden_states, *args, attention_mask=attention_mask, **kwargs)
    tokens = len(packed.in_batches)
    if hidden_states.shape[:2] != (1, tokens):
        raise ValueError(f"expected one packed sequence of {tokens} tokens, got {tuple(hidden_states.shape)}")
    hidden = hidden_states[0]
    projected = F.pad(layer.in_proj_qkv(hidden), (0, 0, 0, 1))[packed.with_context]
    mixed = layer.conv1d(projected.t()[None], activation=layer.activation)[0].t()[packed.in_context]
    q, k, v = mixed.split([layer.key_dim, layer.key_dim, layer.value_dim], dim=-1)
    q, k, v = (
        x.unflatten(-1, (-1, width))
        for x, width in ((q, layer.head_k_dim), (k, layer.head_k_dim), (v, layer.head_v_dim))
    )
    shared_by = layer.num_v_heads // layer.num_k_heads
    q, k = (x.repeat_interleave(shared_by, dim=1) for x in (q, k))
    beta = layer.in_proj_b(hidden).sigmoid()
    log_decay = -layer.A_log.float().exp() * F.softplus(layer.in_proj_a(hidden).float() + layer.dt_bias)
    out = packed_delta_rule(q, k, v, log_decay, beta, packed)
    gate = layer.in_proj_z(hidden).view(-1, layer.head_v_dim)
    return layer.out_proj(layer.norm(out.reshape(-1, layer.head_v_dim), gate).view(1, tokens, -1))


def convolution_forward(
    convolution: nn.Conv1d, plain: Callable[..., Tensor], inputs: Tensor, activation: str | None = None
) -> Tensor:
    """Inside the module's own call, and so with all its hooks: under ZeRO-3 they gather its weight.

    inputs (1, channels, tokens) → the same shape, each token from those up to it.
    """
    if activation is None:
        return plain(inputs)
    weight = convolution.weight.squeeze(1)
    return qwen3_5.causal_conv1d_fn(inputs, weight, convolution.bias, activation=activation)


def packed_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, packed: PackedRecurrence
) -> Tensor:
    """The gated delta rule S_t = exp(log_decay_t) S_(t-1) (1 - beta_t k_t k_t') + beta_t v_t k_t', out_t = S_t q_t,
    of every stretch from its prefix's last state (arXiv 2412.06464, Eq. 10), with q and k of length 1.

    q, k (T, heads, key width), v (T, heads, value width), log_decay, beta (T, heads) → (T, heads, value width).
    """
    outs: list[Tensor] = []
    states: list[Tensor] = []
    for batch in packed.batches:
        # padding writes nothing to the state (beta = 0), and forgets nothing of it (log_decay = 0)
        padding = ~batch.real[:, :, None]
        begin = None if batch.states is None else torch.cat(states)[batch.states]
        out, end = qwen3_5.torch_chunk_gated_delta_rule(
            *(x[batch.tokens] for x in (q, k, v)),
            g=log_decay[batch.tokens].masked_fill(padding, 0.0),
            beta=beta[batch.tokens].masked_fill(padding, 0.0),
            initial_state=begin,
            output_final_state=begin is None,
            use_qk_l2norm_in_kernel=True,
        )
        outs.append(out.flatten(0, 1))
        if begin is None:
            states.append(end)
    return torch.cat(outs)[packed.in_batches]

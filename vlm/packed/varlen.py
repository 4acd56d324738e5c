"""Variable-length attention kernels, forward and backward, that also take and return the log-sum-exp of the scores.

One interface over PyTorch's own flash kernels: on CPU one kernel call per stretch, on GPUs one call for all of them
(half precision only, as these kernels are). Key heads may be fewer than query heads: the kernels read shared keys in
place.

Layout: q (query tokens, heads, head_dim), k and v (key tokens, key heads, head_dim), stretches one behind the other;
lse (heads, query tokens) float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_cpu_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Lengths:
    """Lengths of consecutive stretches; cumulative: (n + 1,) int32 on the device, from 0."""

    each: tuple[int, ...]
    cumulative: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str) -> Lengths:
        sums = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)
        return cls(tuple(lengths), sums.to(device))

    @property
    def longest(self) -> int:
        return max(self.each, default=0)

    def slices(self) -> list[slice]:
        ends, end = [], 0
        for length in self.each:
            ends.append(slice(end, end + length))
            end += length
        return ends


def varlen_forward(
    q: Tensor, k: Tensor, v: Tensor, queries: Lengths, keys: Lengths, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Output (query tokens, heads, head_dim) and log-sum-exp; stretch i of the queries attends to stretch i of the
    keys. Every query token must have a key; a stretch without queries is left out."""
    if q.is_cuda:
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            *_strided(q, k, v),
            queries.cumulative,
            keys.cumulative,
            queries.longest,
            keys.longest,
            0.0,
            causal,
            False,
            scale=scale,
        )
        return out, lse
    out = torch.empty(q.shape, dtype=q.dtype)
    lse = torch.empty(q.shape[1], q.shape[0], dtype=torch.float32)
    for rows, columns in zip(queries.slices(), keys.slices(), strict=True):
        if rows.start == rows.stop:
            continue
        o, s = _cpu_forward(*_batched(q[rows], k[columns], v[columns]), 0.0, causal, scale=scale)
        out[rows], lse[:, rows] = o[0].transpose(0, 1), s[0]
    return out, lse


def varlen_backward(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    queries: Lengths,
    keys: Lengths,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, given the output and log-sum-exp *over all keys of the softmax*, which may be more than
    those given here: the part of the gradient that goes through these keys."""
    if q.is_cuda:
        # state of the random generator, unused without dropout
        state = torch.zeros(2, dtype=torch.uint64, device=q.device)
        unused = torch.empty(0, device=q.device)
        q, k, v = _strided(q, k, v)
        return torch.ops.aten._flash_attention_backward(
            d_out.contiguous(),
            q,
            k,
            v,
            out.contiguous(),
            lse.contiguous(),
            queries.cumulative,
            keys.cumulative,
            queries.longest,
            keys.longest,
            0.0,
            causal,
            state,
            unused,
            scale=scale,
        )
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
    for rows, columns in zip(queries.slices(), keys.slices(), strict=True):
        if rows.start == rows.stop:
            dk[columns] = dv[columns] = 0
            continue
        parts = _batched(d_out[rows], q[rows], k[columns], v[columns], out[rows])
        gradients = _cpu_backward(*parts, lse[None, :, rows], 0.0, causal, scale=scale)
        for whole, place, part in zip((dq, dk, dv), (rows, columns, columns), gradients, strict=True):
            whole[place] = part[0].transpose(0, 1)
    return dq, dk, dv


def _batched(*tensors: Tensor) -> list[Tensor]:
    """(tokens, heads, head_dim) → (1, heads, tokens, head_dim) views, as the CPU kernels want them."""
    return [x.transpose(0, 1)[None] for x in tensors]


def _strided(*tensors: Tensor) -> list[Tensor]:
    """The GPU kernels only ask that the last dimension is dense."""
    return [x if x.stride(-1) == 1 else x.contiguous() for x in tensors]

"""Caches of transformers as batches that sequences leave and join. All are padded on the left, to one length.

Layers with full attention cache keys and values of every token; layers with linear attention the recurrent state and the
last inputs of their convolution, one of each for a sequence, whatever its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, LinearAttentionLayer


@dataclass(frozen=True)
class Batch:
    """S sequences of T tokens, padding included. mask: (S, T) attention mask. cache: of the same tokens."""

    cache: DynamicCache
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def of(self, rows: Tensor) -> Batch:
        """The sequences at `rows`, copied, without the padding that all of them have."""
        mask = self.mask[rows]
        start = mask.shape[1] - int(mask.sum(-1).max())

        def chosen(layer: CacheLayerMixin) -> CacheLayerMixin:
            if isinstance(layer, LinearAttentionLayer):
                return _recurrent(*(state[rows] for state in _states(layer)))
            return _attended(*(x[rows, :, start:].contiguous() for x in (layer.keys, layer.values)))

        return Batch(_cache([chosen(layer) for layer in self.cache.layers]), mask[:, start:])


def joined(batches: Sequence[Batch]) -> Batch:
    """All sequences of several batches, in order."""
    if len(batches) == 1:
        return batches[0]
    longest = max(batch.mask.shape[1] for batch in batches)
    lefts = [longest - batch.mask.shape[1] for batch in batches]

    def together(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(t, (0, 0, left, 0)) for t, left in zip(tensors, lefts, strict=True)])

    def all_of(layers: Sequence[CacheLayerMixin]) -> CacheLayerMixin:
        if isinstance(layers[0], LinearAttentionLayer):
            return _recurrent(*map(torch.cat, zip(*map(_states, layers), strict=True)))
        return _attended(together([one.keys for one in layers]), together([one.values for one in layers]))

    layers = [all_of(same) for same in zip(*(batch.cache.layers for batch in batches), strict=True)]
    mask = torch.cat([pad(b.mask, (left, 0)) for b, left in zip(batches, lefts, strict=True)])
    return Batch(_cache(layers), mask)


def _cache(layers: list[CacheLayerMixin]) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = layers
    return cache


def _attended(keys: Tensor, values: Tensor) -> DynamicLayer:
    layer = DynamicLayer()
    layer.update(keys, values)
    return layer


def _states(layer: LinearAttentionLayer) -> tuple[Tensor, Tensor]:
    """The last inputs of the convolution, and the recurrent state."""
    return layer.conv_states[0], layer.recurrent_states[0]


def _recurrent(inputs: Tensor, state: Tensor) -> LinearAttentionLayer:
    layer = LinearAttentionLayer()
    layer.update_conv_state(inputs)
    layer.update_recurrent_state(state)
    return layer

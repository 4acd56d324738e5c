"""KV caches of transformers as batches that sequences leave and join. All are padded on the left, to one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache


@dataclass(frozen=True)
class Batch:
    """S sequences of T tokens, padding included. mask: (S, T) attention mask. cache: keys and values of the same tokens."""

    cache: DynamicCache
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def of(self, rows: Tensor) -> Batch:
        """The sequences at `rows`, copied, without the padding that all of them have."""
        mask = self.mask[rows]
        start = mask.shape[1] - int(mask.sum(-1).max())
        cache = DynamicCache()
        for i, layer in enumerate(self.cache.layers):
            cache.update(
                layer.keys[rows, :, start:].contiguous(), layer.values[rows, :, start:].contiguous(), i
            )
        return Batch(cache, mask[:, start:])


def joined(batches: Sequence[Batch]) -> Batch:
    """All sequences of several batches, in order."""
    if len(batches) == 1:
        return batches[0]
    longest = max(batch.mask.shape[1] for batch in batches)
    lefts = [longest - batch.mask.shape[1] for batch in batches]

    def together(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(t, (0, 0, left, 0)) for t, left in zip(tensors, lefts, strict=True)])

    cache = DynamicCache()
    for i in range(len(batches[0].cache.layers)):
        layers = [batch.cache.layers[i] for batch in batches]
        cache.update(together([one.keys for one in layers]), together([one.values for one in layers]), i)
    mask = torch.cat([pad(b.mask, (left, 0)) for b, left in zip(batches, lefts, strict=True)])
    return Batch(cache, mask)

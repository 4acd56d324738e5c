"""The plain way that packed training must equal: every row in full, right-padded, all logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sft.data import IGNORE, Example
from vlm.inputs import collate


def padded_batch(examples: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor]:
    """Arguments of the model, and labels (B, T)."""
    batch = collate([example.sequence for example in examples], pad_id=0)
    labels = torch.full(batch["input_ids"].shape, IGNORE)
    for i, example in enumerate(examples):
        labels[i, : len(example)] = example.labels
    return batch, labels


def padded_loss(model: nn.Module, examples: Sequence[Example]) -> Tensor:
    """Mean cross-entropy over all labels."""
    batch, labels = padded_batch(examples)
    logits = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1)
    return nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORE)

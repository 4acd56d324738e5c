"""Log-probs of rollouts the plain way: each sequence by itself through a model of transformers, with all logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from engines.rollout import Rollout
from engines.samples import Group
from tests.groups import with_rollouts
from vlm.inputs import collate, extend


@torch.no_grad()
def plain_logprobs(
    model, rollout: Rollout, *, suppressed: Sequence[int] = (), temperature: float = 1.0
) -> Tensor:
    """(completion tokens,), 0 where the loss mask is 0."""
    sequence = rollout.sequence or extend(rollout.prompt, rollout.completion_ids)
    logits = model(**collate([sequence], pad_id=0), use_cache=False).logits[0] / temperature
    logits[:, list(suppressed)] = -torch.inf
    start = len(rollout.prompt) - 1
    own = logits[start:-1].log_softmax(-1).gather(1, sequence.input_ids[len(rollout.prompt) :, None])[:, 0]
    return own.masked_fill(torch.tensor(rollout.loss_mask) == 0, 0.0)


def as_sampled(group: Group, model, **options) -> Group:
    """The group as if `model` had sampled it: with its log-probs."""
    rollouts = [
        replace(r, logprobs=tuple(plain_logprobs(model, r, **options).tolist())) for r in group.rollouts
    ]
    return with_rollouts(group, rollouts)

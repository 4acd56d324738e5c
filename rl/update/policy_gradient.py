"""The on-policy update: gradient of the objective over a packed micro-batch.

Objective (MiMo-VL, eq. 1, arXiv 2506.03569), maximised:

    J = 1 / (sum_i |o_i|) * sum_i sum_j A_i log pi(o_ij)

The gradient is taken once, exactly at the policy that sampled: no ratio, no clip, no KL term, no second forward. Where the
engine that sampled rounds otherwise than the trainer (half precision), importance weights correct for it
(`rl/update/correction.py`): constants that multiply the advantages, so nothing else changes.

Here i runs over all scored rollouts of the step, on all processes, and |o_i| counts the tokens that the policy sampled
(`loss_mask`): the normaliser is one number for the whole step, so the result does not depend on micro-batches, their
order, or processes. (The paper writes it inside the expectation over prompts; with one normaliser for the step each
token, not each prompt, weighs the same.) Tokens of zero-signal groups count in it though they are never computed, so
the gradient is that of the full batch; pass another `total_tokens` to change that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rl.update.correction import Correction
from rl.update.packing import PackedBatch, engine_logprobs, trees
from vlm.packed.forward import Attention, causal_lm_of, packed_forward
from vlm.packed.head import CHUNK_ELEMENTS, SampledBy
from vlm.packed.layout import DummyMedia
from vlm.packed.packing import pack


@dataclass(frozen=True)
class UpdateOutput:
    """loss: scalar with graph, call backward on it once. Its value is this micro-batch's share of -J (times `ranks`).

    logprobs: per rollout of `batch.rollouts`, (completion tokens,) float32 on the CPU, at the sampling temperature; 0.0
        where loss_mask is 0, as in `Rollout.logprobs`.
    entropies: of the policy at each trained token, nats, laid out as logprobs.
    entropy: their mean (0 if there are none).
    tokens: number of trained tokens.
    """

    loss: Tensor
    logprobs: tuple[Tensor, ...]
    entropies: tuple[Tensor, ...]
    entropy: float
    tokens: int


def policy_gradient(
    model: nn.Module,
    batch: PackedBatch,
    *,
    total_tokens: int,
    temperature: float = 1.0,
    suppressed_ids: Sequence[int] = (),
    ranks: int = 1,
    media: Sequence[str] = (),
    attention: Attention | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
    correction: Correction | None = None,
) -> UpdateOutput:
    """Forward of one micro-batch through `model` (plain, PEFT, DDP or DeepSpeed-wrapped).

    total_tokens: trained tokens of the whole step over all processes (`rl.advantages.scored_tokens`, summed).
    temperature: that of sampling. suppressed_ids: tokens the engine never samples (`vlm.media.MEDIA_TOKENS`).
    ranks: number of processes whose gradients the wrapper *averages* (DDP and DeepSpeed do): the loss is multiplied by
        it, so that the result is the sum.
    media: kinds ("image", "video") whose encoder must run in every micro-batch, because other processes run it; empty
        for a single process.
    attention: "merged" kernels or "explicit" mask (`vlm/packed/attention.py`); None: merged, except in float32 on a GPU,
        for which there is no flash kernel.
    correction: importance weights for the difference between engine and trainer (`rl/update/correction.py`); None: none.

    Raises ValueError if a trained token is suppressed: its probability under this policy is zero.
    """
    dummy = DummyMedia.of_model(causal_lm_of(model).config, media) if media else None
    packed = pack(trees(batch), dummy)
    if forbidden := set(packed.targets.tolist()) & set(suppressed_ids):
        raise ValueError(f"rollouts contain tokens that are never sampled: {sorted(forbidden)}")
    counts = [sum(rollout.loss_mask) for rollout in batch.rollouts]
    sampled_by = None
    if correction is not None:
        rollouts = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long))
        sampled_by = SampledBy(engine_logprobs(batch), rollouts, correction)
    losses = packed_forward(
        model,
        packed,
        attention=attention,
        temperature=temperature,
        suppressed_ids=suppressed_ids,
        chunk_elements=chunk_elements,
        sampled_by=sampled_by,
    )
    return UpdateOutput(
        loss=losses.loss * (ranks / total_tokens),
        logprobs=_per_rollout(batch, losses.logprobs.cpu(), counts),
        entropies=_per_rollout(batch, losses.entropies.cpu(), counts),
        entropy=float(losses.entropies.mean()) if len(losses.entropies) else 0.0,
        tokens=len(packed.targets),
    )


def _per_rollout(batch: PackedBatch, numbers: Tensor, counts: Sequence[int]) -> tuple[Tensor, ...]:
    """Numbers of trained tokens laid out over each completion, zero elsewhere."""
    result = []
    for rollout, values in zip(batch.rollouts, numbers.split(list(counts)), strict=True):
        whole = torch.zeros(len(rollout.loss_mask))
        whole[torch.tensor(rollout.loss_mask, dtype=torch.bool)] = values
        result.append(whole)
    return tuple(result)

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
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from rl.update.correction import Correction
from rl.update.packing import PackedBatch, tensors
from vlm.packed.attention import PackedAttention, explicit_mask, use_shared_prefix
from vlm.packed.head import CHUNK_ELEMENTS, SampledBy, head_computes_policy_gradient
from vlm.packed.layout import DummyMedia

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

Attention = Literal["merged", "explicit"]


@dataclass(frozen=True)
class UpdateOutput:
    """loss: scalar with graph, call backward on it once. Its value is this micro-batch's share of -J (times `ranks`).

    logprobs: per rollout of `batch.rollouts`, (completion tokens,) float32 on the CPU, at the sampling temperature; 0.0
        where loss_mask is 0, as in `Rollout.logprobs`.
    entropy: mean entropy of the policy over the trained tokens, nats (0 if there are none).
    tokens: number of trained tokens.
    """

    loss: Tensor
    logprobs: tuple[Tensor, ...]
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

    total_tokens: trained tokens of the whole step over all processes (`GroupCounts.tokens`, summed).
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
    causal_lm = _causal_lm(model)
    head = causal_lm.lm_head
    language_model = causal_lm.model.language_model
    device = language_model.embed_tokens.weight.device
    dummy = DummyMedia.of_model(causal_lm.config, media) if media else None
    packed = tensors(batch, dummy)
    if forbidden := set(packed.targets.tolist()) & set(suppressed_ids):
        raise ValueError(f"rollouts contain tokens that are never sampled: {sorted(forbidden)}")

    use_shared_prefix(language_model)
    if attention is None:
        attention = "explicit" if device.type == "cuda" and head.weight.dtype == torch.float32 else "merged"
    mask: PackedAttention | Tensor
    if attention == "merged":
        mask = PackedAttention.of(packed.layout, device)
    else:
        mask = explicit_mask(packed.layout, device)

    advantages = packed.advantages.to(device)
    sampled_by = None
    if correction is not None:
        counts = torch.tensor(packed.counts, dtype=torch.long)
        rollouts = torch.arange(len(counts)).repeat_interleave(counts)
        sampled_by = SampledBy(packed.engine_logprobs.to(device), rollouts.to(device), correction)
    options = {"temperature": temperature, "suppressed_ids": suppressed_ids, "chunk_elements": chunk_elements}
    with head_computes_policy_gradient(
        head, packed.targets.to(device), advantages, sampled_by=sampled_by, **options
    ):
        output = model(
            **{name: tensor.to(device) for name, tensor in packed.inputs.items()},
            attention_mask=dict.fromkeys(set(language_model.config.layer_types), mask),
            logits_to_keep=packed.predictors.to(device),
            use_cache=False,
        )
    loss, log_probs, entropies = output.logits
    return UpdateOutput(
        loss=loss * (ranks / total_tokens),
        logprobs=_per_rollout(batch, log_probs.cpu(), packed.counts),
        entropy=float(entropies.mean()) if len(entropies) else 0.0,
        tokens=len(packed.targets),
    )


def _causal_lm(model: nn.Module) -> Qwen2_5_VLForConditionalGeneration:
    """The model inside whatever wraps it."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    for module in model.modules():
        if isinstance(module, Qwen2_5_VLForConditionalGeneration):
            return module
    raise TypeError(
        f"expected a Qwen2_5_VLForConditionalGeneration, plain or wrapped, got {type(model).__name__}"
    )


def _per_rollout(batch: PackedBatch, log_probs: Tensor, counts: Sequence[int]) -> tuple[Tensor, ...]:
    """Log-probs of trained tokens laid out over each completion, zero elsewhere."""
    result = []
    for rollout, values in zip(batch.rollouts, log_probs.split(list(counts)), strict=True):
        whole = torch.zeros(len(rollout.loss_mask))
        whole[torch.tensor(rollout.loss_mask, dtype=torch.bool)] = values
        result.append(whole)
    return tuple(result)

"""Log-probabilities, entropies and weighted cross-entropy from hidden states, without logits for a whole batch.

The loss is linear in the log-probabilities with coefficients known beforehand, L = -sum_j A_j log pi_j: equal ones in
SFT, advantages in RL, where the gradient is taken exactly at the sampled policy. Its gradient with respect to the
logits, A_j (pi - onehot_j) / temperature, is known as soon as the logits are. Both directions are therefore done in one
pass over chunks of tokens: three matrix products instead of the four of recomputation, and never more than one chunk of
logits.

Importance weights (`rl/update/correction.py`) are constants of the gradient and multiply A_j. Those of a token follow from its own
logits, in the same pass; those of a sequence from the logits of all its tokens, so the logits are computed twice there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**25
"""Default size of one chunk of logits, tokens x vocabulary (two float32 buffers of it exist at a time)."""


class Weighting(Protocol):
    """Importance weights of tokens (`rl.update.correction.Correction`)."""

    @property
    def kind(self) -> str:
        """ "token": a token's weight follows from its own log-prob; "sequence": from all of its rollout's."""
        ...

    def weights(self, differences: Tensor, rollouts: Tensor) -> Tensor:
        """(N,) factors; differences: (N,) log pi_trainer - log pi_engine; rollouts: (N,) which rollout, 0, 1, … in order."""
        ...


@dataclass(frozen=True)
class SampledBy:
    """The engine's side of the trained tokens. logprobs: (N,) float32. rollouts: (N,) int64, as in `Weighting`."""

    logprobs: Tensor
    rollouts: Tensor
    correction: Weighting

    def to(self, device: torch.device) -> SampledBy:
        return replace(self, logprobs=self.logprobs.to(device), rollouts=self.rollouts.to(device))


class TokenLosses(NamedTuple):
    """loss: -sum_j coefficient_j log p_j, scalar float32 with graph, good for one backward.
    logprobs: (N,) and entropies: (N,) in nats, float32, detached."""

    loss: Tensor
    logprobs: Tensor
    entropies: Tensor


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    *,
    temperature: float = 1.0,
    suppressed_ids: Sequence[int] = (),
    chunk_elements: int = CHUNK_ELEMENTS,
    sampled_by: SampledBy | None = None,
) -> TokenLosses:
    """Loss -sum_j A_j w_j log pi(target_j), log-probs and entropies of the policy softmax(hidden weight^T / temperature).

    hidden: (N, D); weight: (V, D) of the LM head; targets: (N,); coefficients: (N,) float, A_j.
    suppressed_ids: tokens that are never sampled (logit -inf).
    sampled_by: the policy that sampled the targets, and which weights w_j correct for it; None: w_j = 1.

    The loss is differentiable with respect to hidden and weight, once.
    """
    chunk = max(1, chunk_elements // weight.shape[0])
    # under autocast the weights stay float32 and the products are done in the lower precision
    lower = torch.get_autocast_dtype(hidden.device.type) if _autocasting(hidden) else weight.dtype
    options = (temperature, tuple(suppressed_ids), chunk, lower, torch.is_grad_enabled(), sampled_by)
    return TokenLosses(*_LinearCrossEntropy.apply(hidden, weight, targets, coefficients, *options))


def _autocasting(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        hidden,
        weight,
        targets,
        factors,
        temperature,
        suppressed,
        chunk,
        dtype,
        with_gradient,
        sampled_by,
    ):
        with torch.autocast(hidden.device.type, enabled=False):
            w = weight.to(dtype)
            n = len(targets)
            pieces = [slice(start, start + chunk) for start in range(0, n, chunk)]
            log_probs = torch.empty(n, dtype=torch.float32, device=hidden.device)
            entropies = torch.empty_like(log_probs)
            d_hidden = torch.zeros_like(hidden) if with_gradient and ctx.needs_input_grad[0] else None
            d_weight = None
            if with_gradient and ctx.needs_input_grad[1]:
                d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)

            def distribution(rows: slice) -> Tensor:
                """(chunk, V) probabilities; log-probs of the targets and entropies are written down."""
                logits = (hidden[rows].to(dtype) @ w.t()).float().div_(temperature)
                if suppressed:  # the lowest finite number: its probability is 0, and 0 * -inf would not be
                    logits[:, list(suppressed)] = torch.finfo(torch.float32).min
                largest = logits.amax(-1, keepdim=True)
                p = (logits - largest).exp_()
                total = p.sum(-1, keepdim=True)
                p.div_(total)
                lse = largest + total.log()
                log_probs[rows] = (logits.gather(1, targets[rows, None]) - lse)[:, 0]
                entropies[rows] = lse[:, 0] - torch.linalg.vecdot(p, logits)
                return p

            def importance(rows: slice) -> Tensor:
                return sampled_by.correction.weights(
                    log_probs[rows] - sampled_by.logprobs[rows], sampled_by.rollouts[rows]
                )

            coefficients = factors.clone()
            by_sequence = sampled_by is not None and sampled_by.correction.kind == "sequence"
            if by_sequence:
                for rows in pieces:
                    distribution(rows)
                coefficients *= importance(slice(None))
            for rows in pieces:
                p = distribution(rows)
                if sampled_by is not None and not by_sequence:
                    coefficients[rows] *= importance(rows)
                if d_hidden is None and d_weight is None:
                    continue
                # d loss / d logits = A w (pi - onehot) / temperature
                p.scatter_add_(1, targets[rows, None], torch.full_like(p[:, :1], -1.0))
                p.mul_(coefficients[rows, None] / temperature)
                d_logits = p.to(dtype)
                if d_hidden is not None:
                    d_hidden[rows] = d_logits @ w
                if d_weight is not None and dtype == torch.float32:
                    d_weight.addmm_(d_logits.t(), hidden[rows].to(dtype))
                elif d_weight is not None:
                    d_weight += d_logits.t() @ hidden[rows].to(dtype)
            loss = -(coefficients * log_probs).sum()
        ctx.gradients = (d_hidden, d_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(log_probs, entropies)
        return loss, log_probs, entropies

    @staticmethod
    def backward(ctx, d_loss, *_):
        if ctx.gradients is None:
            raise RuntimeError("the gradient of linear_cross_entropy was computed in forward and is used up")
        d_hidden, d_weight = ctx.gradients
        ctx.gradients = None
        if d_hidden is not None:
            d_hidden = d_hidden.mul_(d_loss)
        if d_weight is not None:
            d_weight = d_weight.mul_(d_loss).to(ctx.weight_dtype)
        return d_hidden, d_weight, *(None,) * 8

"""Log-probabilities, entropies and the policy-gradient loss from hidden states, without logits for a whole batch.

The gradient is taken exactly at the sampled policy, so the loss is linear in the log-probabilities with coefficients
known beforehand, L = -sum_j A_j log pi_j, and its gradient with respect to the logits, A_j (pi - onehot_j) / temperature,
is known as soon as the logits are. Both directions are therefore done in one pass over chunks of tokens: three matrix
products instead of the four of recomputation, and never more than one chunk of logits.

Importance weights (`rl/update/correction.py`) are constants of the gradient and multiply A_j. Those of a token follow from its own
logits, in the same pass; those of a sequence from the logits of all its tokens, so the logits are computed twice there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

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


def linear_policy_gradient(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    advantages: Tensor,
    *,
    temperature: float = 1.0,
    suppressed_ids: Sequence[int] = (),
    chunk_elements: int = CHUNK_ELEMENTS,
    sampled_by: SampledBy | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss -sum_j A_j w_j log pi(target_j), log-probs and entropies of the policy softmax(hidden weight^T / temperature).

    hidden: (N, D); weight: (V, D) of the LM head; targets: (N,); advantages: (N,) float.
    suppressed_ids: tokens that are never sampled (logit -inf).
    sampled_by: the policy that sampled the targets, and which weights w_j correct for it; None: w_j = 1.

    Returns the loss (scalar float32, differentiable with respect to hidden and weight, once), log-probs (N,) and
    entropies (N,) in nats, float32, detached.
    """
    chunk = max(1, chunk_elements // weight.shape[0])
    # under autocast the weights stay float32 and the products are done in the lower precision
    lower = torch.get_autocast_dtype(hidden.device.type) if _autocasting(hidden) else weight.dtype
    return _LinearPolicyGradient.apply(
        hidden,
        weight,
        targets,
        advantages,
        temperature,
        tuple(suppressed_ids),
        chunk,
        lower,
        torch.is_grad_enabled(),
        sampled_by,
    )


def _autocasting(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


class _LinearPolicyGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        hidden,
        weight,
        targets,
        advantages,
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

            coefficients = advantages.clone()
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
            raise RuntimeError(
                "the gradient of linear_policy_gradient was computed in forward and is used up"
            )
        d_hidden, d_weight = ctx.gradients
        ctx.gradients = None
        if d_hidden is not None:
            d_hidden = d_hidden.mul_(d_loss)
        if d_weight is not None:
            d_weight = d_weight.mul_(d_loss).to(ctx.weight_dtype)
        return d_hidden, d_weight, *(None,) * 8


@contextmanager
def head_computes_policy_gradient(
    head: nn.Linear, targets: Tensor, advantages: Tensor, **options
) -> Iterator[None]:
    """Inside, `head(hidden)` of hidden (1, N, D) returns `linear_policy_gradient` instead of logits.

    The module itself runs, with all its hooks: ZeRO-3 gathers the weight for it, and again in the backward pass.
    """

    def forward(hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return linear_policy_gradient(hidden[0], head.weight, targets, advantages, **options)

    if head.bias is not None:
        raise ValueError("expected an LM head without bias")
    original = head.__dict__.get("forward")  # set on the instance by other wrappers, or not at all
    head.forward = forward
    try:
        yield
    finally:
        if original is None:
            del head.forward
        else:
            head.forward = original

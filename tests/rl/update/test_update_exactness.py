"""The packed update equals the padded one: loss, log-probs and every parameter's gradient."""

from __future__ import annotations

import pytest
import torch

from rl.packing import pack
from rl.update import policy_gradient

TEMPERATURE = 0.8
CASES = ["text", "image", "images", "video", "observations", "one_rollout", "one_token", "mixed"]


def trained_tokens(groups) -> int:
    return sum(sum(r.loss_mask) for g in groups for r in g.rollouts)


def packed_update(model, groups, total, suppressed, *, max_tokens=10_000, attention=None, **options):
    model.zero_grad()
    loss, log_probs = 0.0, {}
    for batch in pack(groups, max_tokens=max_tokens):
        out = policy_gradient(
            model,
            batch,
            total_tokens=total,
            temperature=TEMPERATURE,
            suppressed_ids=suppressed,
            attention=attention,
            **options,
        )
        out.loss.backward()
        loss += float(out.loss.detach())
        log_probs |= {id(r): lp for r, lp in zip(batch.rollouts, out.logprobs, strict=True)}
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss, gradients, [log_probs[id(r)] for g in groups for r in g.rollouts]


@pytest.mark.parametrize("attention", ["merged", "explicit"])
@pytest.mark.parametrize("case", CASES)
def test_loss_log_probs_and_gradients_equal_the_padded_ones(lab, padded, same_gradients, case, attention):
    model, groups = lab.model(), lab.groups(case)
    total = trained_tokens(groups) + 11  # tokens of zero-signal groups, not computed
    loss, expected, log_probs = padded(model, groups, total, lab.suppressed)
    our_loss, ours, our_log_probs = packed_update(model, groups, total, lab.suppressed, attention=attention)
    assert our_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(our_log_probs, log_probs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    same_gradients(ours, expected, 1e-5)

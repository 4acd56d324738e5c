"""Importance weights: by hand, and the packed gradient with them equal to a plain one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rl.update.correction import Correction
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from tests.groups import with_rollouts


def test_weights_by_hand():
    differences = torch.tensor([2.0, 0.25, 1.5, 4.0]).log()
    rollouts = torch.tensor([0, 0, 1, 2])
    token, sequence = Correction("token", 2.0), Correction("sequence", 2.0)
    torch.testing.assert_close(token.weights(differences, rollouts), torch.tensor([2.0, 0.25, 1.5, 2.0]))
    torch.testing.assert_close(token.ratios(differences, rollouts), torch.tensor([2.0, 0.25, 1.5, 4.0]))
    torch.testing.assert_close(sequence.weights(differences, rollouts), torch.tensor([0.5, 0.5, 1.5, 2.0]))
    nothing = torch.zeros(0)
    assert len(sequence.weights(nothing, nothing.long())) == 0


@pytest.mark.parametrize("kind", ["token", "sequence"])
@pytest.mark.parametrize("case", ["text", "image", "observations", "mixed"])
def test_packed_gradient_equals_a_plain_one_with_weights(lab, padded, same_gradients, kind, case):
    model = lab.model()
    groups = lab.groups(case)
    _, _, log_probs = padded(model, groups, 100, lab.suppressed)
    generator, flat = torch.Generator().manual_seed(0), iter(log_probs)

    def sampled_by_another(rollout):
        own = next(flat)
        noise = 0.4 * torch.randn(own.shape, generator=generator)
        mask = torch.tensor(rollout.loss_mask)
        return replace(rollout, logprobs=tuple(torch.where(mask == 1, own + noise, 0.0).tolist()))

    groups = [with_rollouts(g, list(map(sampled_by_another, g.rollouts))) for g in groups]
    correction = Correction(kind, limit=1.3)
    weights = []
    for own, rollout in zip(log_probs, (r for g in groups for r in g.rollouts), strict=True):
        d = own - torch.tensor(rollout.logprobs)
        w = d.exp() if kind == "token" else d.sum().exp().expand(len(d))
        weights.append(w.clamp(max=1.3))
    if case == "mixed":
        assert any((w == 1.3).any() for w in weights) and any((w < 1.3).any() for w in weights)

    loss, expected, _ = padded(model, groups, 100, lab.suppressed, weights=weights)
    model.zero_grad()
    total = 0.0
    for batch in pack(groups, max_tokens=150):
        out = policy_gradient(
            model,
            batch,
            total_tokens=100,
            temperature=0.8,
            suppressed_ids=lab.suppressed,
            correction=correction,
            chunk_elements=5 * model.config.text_config.vocab_size,  # rollouts reach over several chunks
        )
        out.loss.backward()
        total += out.loss.item()
    ours = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert total == pytest.approx(loss, rel=1e-4, abs=1e-6)
    same_gradients(ours, expected, 1e-5)


def test_the_gradient_of_a_weight_is_not_taken_and_none_means_one(lab):
    model = lab.model()
    (group,) = lab.groups("text")
    out = {}
    for name, correction in (("none", None), ("one", Correction("token", 1.0))):
        sure = with_rollouts(group, [replace(r, logprobs=(-99.0,) * len(r.logprobs)) for r in group.rollouts])
        (batch,) = pack([sure], max_tokens=1000)
        model.zero_grad()
        policy_gradient(model, batch, total_tokens=9, correction=correction).loss.backward()
        out[name] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert torch.equal(out["none"], out["one"])  # every weight is truncated to 1

"""Merged attention, and log-probs with their gradient in one pass, compared with plain implementations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from vlm.packed.attention import PackedAttention, explicit_mask, merged_attention
from vlm.packed.head import linear_cross_entropy
from vlm.packed.layout import Layout
from vlm.packed.varlen import Lengths, varlen_backward, varlen_forward

LAYOUTS = {
    "one group": Layout((9,), ((4, 1, 7),)),
    "several groups": Layout((9, 1, 30), ((4, 1), (3,), (2, 2, 17))),
    "tail": Layout((5, 3), ((4,), (6, 2)), tail=3),
    "only a tail": Layout((), (), tail=2),
}


def test_the_mask_lets_a_completion_see_its_prompt_and_itself():
    mask = explicit_mask(Layout((2, 1), ((2,), (1, 1)), tail=1))[0, 0].int().tolist()
    assert mask == [
        #   p p | q | a a | b | c | t
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)], ids=["equal heads", "2 key heads", "1 key head"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_merged_attention_equals_masked_attention_forward_and_backward(layout, heads):
    torch.manual_seed(0)
    shapes = [(layout.total, heads[0], 16), (layout.total, heads[1], 16), (layout.total, heads[1], 16)]
    q, k, v = ((2 * torch.randn(shape)).requires_grad_() for shape in shapes)
    weight = torch.randn(shapes[0])

    def plain():
        swapped = [x.transpose(0, 1)[None] for x in (q, k, v)]
        out = F.scaled_dot_product_attention(
            *swapped, attn_mask=explicit_mask(layout), scale=0.3, enable_gqa=True
        )
        return out[0].transpose(0, 1)

    expected = plain()
    expected_gradients = torch.autograd.grad((expected * weight).sum(), (q, k, v))
    ours = merged_attention(q, k, v, PackedAttention.of(layout, "cpu"), 0.3)
    gradients = torch.autograd.grad((ours * weight).sum(), (q, k, v))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients, expected_gradients, strict=True):
        assert float((a - b).norm() / b.norm().clamp(min=1e-9)) < 2e-6


def test_merging_survives_scores_of_very_different_size():
    layout = Layout((4,), ((3,),))
    q = torch.full((7, 1, 16), 6.0)
    k = torch.cat([torch.full((4, 1, 16), -6.0), torch.full((3, 1, 16), 6.0)])
    v = torch.randn(7, 1, 16)
    out = merged_attention(q, k, v, PackedAttention.of(layout, "cpu"), 1.0)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[4], v[4])  # the prompt's keys score 1152 nats lower


def plain_policy_gradient(hidden, weight, targets, advantages, temperature, suppressed):
    logits = (hidden @ weight.t()).float() / temperature
    if suppressed:
        logits[:, suppressed] = -torch.inf
    log_probs = logits.log_softmax(-1)
    chosen = log_probs.gather(-1, targets[:, None])[:, 0]
    entropy = -(log_probs.exp() * log_probs.masked_fill(log_probs.isinf(), 0)).sum(-1)
    return -(advantages * chosen).sum(), chosen, entropy


@pytest.mark.parametrize("chunk_elements", [1, 200, 10**9], ids=["token by token", "chunks", "at once"])
@pytest.mark.parametrize("suppressed", [[], [0, 7]])
def test_one_pass_gives_the_loss_and_gradient_of_full_logits(chunk_elements, suppressed):
    torch.manual_seed(0)
    hidden = torch.randn(13, 8, requires_grad=True)
    weight = torch.randn(50, 8, requires_grad=True)
    targets, advantages = torch.randint(8, 50, (13,)), torch.randn(13)
    expected = plain_policy_gradient(hidden, weight, targets, advantages, 0.7, suppressed)
    expected_gradients = torch.autograd.grad(expected[0] * 3, (hidden, weight))
    ours = linear_cross_entropy(
        hidden,
        weight,
        targets,
        advantages,
        temperature=0.7,
        suppressed_ids=suppressed,
        chunk_elements=chunk_elements,
    )
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(torch.autograd.grad(ours[0] * 3, (hidden, weight)), expected_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_frozen_weights_get_no_gradient_and_without_grad_none_is_computed():
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(20, 8)
    targets, advantages = torch.randint(0, 20, (5,)), torch.randn(5)
    loss, _, _ = linear_cross_entropy(hidden, weight, targets, advantages)
    loss.backward()
    assert hidden.grad is not None and weight.grad is None
    with torch.no_grad():
        again, _, _ = linear_cross_entropy(hidden, weight, targets, advantages)
    assert not again.requires_grad and float(again) == float(loss.detach())


def test_a_second_backward_is_refused():
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(20, 8)
    loss, _, _ = linear_cross_entropy(hidden, weight, torch.zeros(5, dtype=torch.long), torch.ones(5))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used up"):
        loss.backward()


def test_under_autocast_the_products_are_half_precision_and_gradients_float32():
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    targets, advantages = torch.randint(0, 30, (9,)), torch.randn(9)
    exact = torch.autograd.grad(
        linear_cross_entropy(hidden, weight, targets, advantages)[0], (hidden, weight)
    )
    with torch.autocast("cpu", torch.bfloat16):
        loss, log_probs, _ = linear_cross_entropy(hidden, weight, targets, advantages)
    half = torch.autograd.grad(loss, (hidden, weight))
    assert log_probs.dtype == loss.dtype == torch.float32
    for a, b in zip(half, exact, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() / b.norm() < 0.02


def test_no_trained_token_is_a_differentiable_zero():
    hidden, weight = torch.randn(0, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    loss, _, _ = linear_cross_entropy(hidden, weight, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    loss.backward()
    assert float(loss.detach()) == 0 and float(weight.grad.abs().sum()) == 0


def test_the_gpu_kernels_are_called_with_the_arguments_they_take():
    """No GPU needed: PyTorch checks the calls, and derives shapes, on tensors without data."""
    with FakeTensorMode():
        q, out, d_out = (torch.empty(20, 8, 64, device="cuda:0", dtype=torch.bfloat16) for _ in range(3))
        k, v = (torch.empty(25, 2, 64, device="cuda:0", dtype=torch.bfloat16) for _ in range(2))
        queries, keys = Lengths.of([12, 8], "cuda:0"), Lengths.of([20, 5], "cuda:0")
        out, lse = varlen_forward(q, k, v, queries, keys, False, 0.125)
        assert out.shape == q.shape and out.dtype == torch.bfloat16 and out.is_cuda
        assert lse.shape == (8, 20) and lse.dtype == torch.float32
        gradients = varlen_backward(d_out, q, k, v, out, lse, queries, keys, False, 0.125)
        assert [g.shape for g in gradients] == [q.shape, k.shape, v.shape]

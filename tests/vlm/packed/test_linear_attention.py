"""Layers with a recurrent state read a packed sequence as they would each sequence on its own."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from tests.vlm.packed.test_forward import Lab, assert_same, gradients, qwen3_5, text, tree
from vlm.packed.forward import packed_forward
from vlm.packed.layout import Layout
from vlm.packed.linear_attention import (
    CHUNK,
    PackedRecurrence,
    Stretch,
    by_length,
    convolution_forward,
    linear_attention_forward,
)
from vlm.packed.packing import pack

LAYOUTS = {
    "over several chunks and batches": Layout((200, 70, 9), ((1, 130, 66), (64, 65), (3, 200, 2, 5))),
    "prefixes shorter than the convolution": Layout((1, 2, 3), ((4, 1), (1,), (2, 2))),
    "rows that share nothing, and dummy media": Layout((5, 150, 1, 64), ((), (), (), ()), tail=4),
    "empty stretches": Layout((0, 4), ((3, 2), (0, 2))),
}


def layer() -> Qwen3_5GatedDeltaNet:
    """Two value heads to a key head; what it has seen fades over tens of tokens."""
    torch.manual_seed(0)
    config = Qwen3_5TextConfig(
        hidden_size=32,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=24,
    )
    made = Qwen3_5GatedDeltaNet(config, 0)
    with torch.no_grad():
        made.A_log.uniform_(0.02, 0.1).log_()
        for projection in (made.in_proj_qkv, made.in_proj_z, made.in_proj_a, made.in_proj_b, made.out_proj):
            projection.weight.normal_(std=0.2)
        made.norm.weight.normal_()
    return made


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_packed_layer_equals_each_sequence_on_its_own(layout):
    alone = layer()
    hidden = torch.randn(layout.total, 32, requires_grad=True)
    weight = torch.randn(layout.total, 32)

    # the reference: prefix and continuation joined, by the layer's own forward
    stretches = hidden.split(list(layout.segments))
    expected = [alone(x[None])[0] for x in stretches[: len(layout.prefixes)] if len(x)]
    following = iter(stretches[len(layout.prefixes) :])
    for prefix, lengths in zip(stretches, layout.continuations, strict=False):
        for x in (next(following) for _ in lengths):
            expected.append(alone(torch.cat([prefix, x])[None])[0, len(prefix) :])
    expected += [alone(x[None])[0] for x in following]
    out = torch.cat(expected)
    (out * weight).sum().backward()
    wanted = gradients(alone) | {"hidden": hidden.grad.clone()}

    packed = layer()
    packed.conv1d.forward = functools.partial(convolution_forward, packed.conv1d, packed.conv1d.forward)
    packed.forward = functools.partial(linear_attention_forward, packed, packed.forward)
    hidden.grad = None
    recurrence = PackedRecurrence.of(layout, packed.conv_kernel_size, "cpu")
    ours = packed(hidden_states=hidden[None], attention_mask=recurrence)[0]
    (ours * weight).sum().backward()
    torch.testing.assert_close(ours, out, rtol=0, atol=1e-5)
    assert_same(gradients(packed) | {"hidden": hidden.grad}, wanted)


def test_a_sequence_of_another_length_is_refused():
    packed = layer()
    recurrence = PackedRecurrence.of(Layout((3,), ((),)), 4, "cpu")
    with pytest.raises(ValueError, match=r"expected one packed sequence of 3 tokens, got \(1, 4, 32\)"):
        linear_attention_forward(packed, packed.forward, torch.zeros(1, 4, 32), attention_mask=recurrence)


def test_a_batch_pads_no_row_by_more_than_a_third():
    stretches = [Stretch(0, length) for length in (5, 64, 1000, 800, 700, 65, 90, 300, 1)]
    batches = [[s.length for s in batch] for batch in by_length(stretches)]
    assert batches == [[1000, 800], [700], [300], [90, 65], [64, 5, 1]]
    for batch in batches:
        chunks = [-(-length // CHUNK) for length in batch]
        assert max(chunks) <= min(chunks) * 4 / 3


def test_checkpointed_activations_are_recomputed_with_the_layout():
    """Backward runs the layers again when the forward's context is gone."""
    lab = Lab.of(qwen3_5)
    trees = [tree(lab, lab.sequence(text(9, 2), ((1, 4, 6),), 2), [5, 11, 3], 2, prefix_trained=True)]
    packed_forward(lab.model, pack(trees)).loss.backward()
    expected = gradients(lab.model)
    lab.model.zero_grad()
    lab.model.train().gradient_checkpointing_enable({"use_reentrant": False})
    packed_forward(lab.model, pack(trees)).loss.backward()
    assert_same(gradients(lab.model), expected)

"""The fingerprint sees every change and every exchange, and adds up over the parts of a weight."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from engines.fingerprint import (
    OffPolicyError,
    add_fingerprints,
    bit_sum,
    check_fingerprint,
    flat_bit_sum,
    vllm_fingerprint,
    weights_fingerprint,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def exchanged(weight, first, second):
    changed = weight.clone()
    changed[first], changed[second] = weight[second], weight[first]
    return changed


def by_ulps(weight, place, n):
    """`weight` with the value at `place` moved up by n units in the last place."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
    changed = weight.clone()
    changed.view(integers)[place] += n
    return changed


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_smallest_change_of_any_value_changes_it(dtype):
    weight = torch.randn(9, 7).to(dtype)
    sums = {bit_sum(by_ulps(weight, (r, c), n)) for r in range(9) for c in range(7) for n in (-1, 1)}
    assert len(sums) == 2 * 9 * 7 and bit_sum(weight) not in sums


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_exchange_changes_it(dtype):
    weight = torch.randn(300, 20).to(dtype)
    rearranged = {
        "rows": exchanged(weight, 3, 250),
        "columns": exchanged(weight.t(), 3, 19).t(),
        "values of a row": exchanged(weight, (3, 4), (3, 5)),
        "values of a column": exchanged(weight, (3, 4), (4, 4)),
        "all rows, shifted": weight.roll(1, 0),
        "all columns, shifted": weight.roll(1, 1),
        "halves": torch.cat([weight[150:], weight[:150]]),
        "as one flat list": weight.flatten().roll(1).view(300, 20),
        "backwards": weight.flip(0),
    }
    for what, other in rearranged.items():
        assert bit_sum(other) != bit_sum(weight), what


@pytest.mark.parametrize("dtype", DTYPES)
def test_changes_that_cancel_in_a_plain_sum_are_seen(dtype):
    weight = torch.rand(30, 20).to(dtype) + 1
    plus = by_ulps(weight, (2, 3), 5)
    assert bit_sum(by_ulps(plus, (2, 4), -5)) != bit_sum(weight)  # in a row
    assert bit_sum(by_ulps(plus, (9, 3), -5)) != bit_sum(weight)  # in a column
    square = by_ulps(by_ulps(by_ulps(plus, (2, 4), -5), (9, 3), -5), (9, 4), 5)
    assert bit_sum(square) != bit_sum(weight)  # in rows and in columns


def test_a_vector_s_values_have_their_places_too():
    bias = torch.randn(50)
    assert bit_sum(exchanged(bias, 3, 4)) != bit_sum(bias) != bit_sum(bias.flip(0))


def test_it_is_of_values_not_of_layout_in_memory():
    weight = torch.randn(6, 4)
    weight[0, 0] = -0.0
    assert bit_sum(weight) == bit_sum(weight.t().contiguous().t()) == bit_sum(weight + 0.0)


@pytest.mark.parametrize("shape", [(40, 24), (7, 3, 2, 5), (33,)])
def test_flat_partitions_add_up(shape):
    """As ZeRO-3 divides a weight: anywhere, in the middle of rows too, and with padding at the end."""
    weight = torch.randn(shape)
    columns = weight[0].numel()
    flat = weight.flatten()
    for size in (1, 5, 24, 50, 200, flat.numel()):
        parts = [flat[start : start + size] for start in range(0, flat.numel(), size)]
        sums = [{"w": flat_bit_sum(part, columns, i * size)} for i, part in enumerate(parts)]
        assert add_fingerprints(sums) == {"w": bit_sum(weight)}
    assert flat_bit_sum(torch.cat([flat[-3:], torch.zeros(4)]), columns, flat.numel() - 3) == flat_bit_sum(
        flat[-3:], columns, flat.numel() - 3
    )


def test_shards_by_rows_and_by_columns_add_up():
    weight = torch.randn(40, 24).bfloat16()
    rows = [{"w": bit_sum(weight[i : i + 10], row=i)} for i in range(0, 40, 10)]
    columns = [{"w": bit_sum(weight[:, i : i + 8], column=i)} for i in range(0, 24, 8)]
    assert add_fingerprints(rows) == add_fingerprints(columns) == {"w": bit_sum(weight)}


def test_weights_larger_than_a_piece_are_summed_up_whole():
    weight = torch.randn(1000, 300)
    halves = [{"w": bit_sum(weight[:500])}, {"w": bit_sum(weight[500:], row=500)}]
    assert add_fingerprints(halves) == {"w": bit_sum(weight)}
    assert bit_sum(exchanged(weight, (999, 3), (0, 3))) != bit_sum(weight)


def test_it_is_taken_in_the_engines_dtype():
    weight = torch.randn(8, 8)
    in_bfloat16 = weights_fingerprint([("w", weight.bfloat16())])
    assert weights_fingerprint([("w", weight)], torch.bfloat16) == in_bfloat16


def test_fingerprints_that_differ_name_the_weights():
    check_fingerprint({"a": 1}, {"a": 1})
    with pytest.raises(OffPolicyError, match="1 of 2 weights .* not the trainer's: b"):
        check_fingerprint({"a": 1, "b": 2}, {"a": 1, "b": 3})
    with pytest.raises(OffPolicyError, match="known to only one of engine and trainer: b"):
        check_fingerprint({"a": 1, "b": 2}, {"a": 1})


class StandInForVLLMsQwen35(nn.Module):
    """vLLM's CPU build computes these layers in bfloat16 only; this has its names, fused matrix and float32 vector."""

    packed_modules_mapping: ClassVar = {"in_proj_qkvz": ["in_proj_qkv", "in_proj_z"]}

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(model_type="qwen3_5", architectures=[])
        fused: Any = nn.Linear(4, 2 + 2 + 3 + 3, bias=False, dtype=torch.bfloat16)
        fused.output_partition_sizes = [2, 2, 3, 3]
        self.linear_attn = nn.Module()
        self.linear_attn.in_proj_qkvz = fused
        self.linear_attn.A_log = nn.Parameter(torch.randn(5).bfloat16().float())


def test_projections_of_linear_attention_are_taken_apart_and_float32_vectors_compared_in_the_models_type():
    torch.manual_seed(0)
    model = StandInForVLLMsQwen35()
    weight = model.linear_attn.in_proj_qkvz.weight.detach()
    parts = {"in_proj_qkv.weight": weight[:7], "in_proj_z.weight": weight[7:]}
    parts["A_log"] = model.linear_attn.A_log.detach().bfloat16()
    expected = weights_fingerprint((f"linear_attn.{name}", part) for name, part in parts.items())
    assert vllm_fingerprint(model) == expected

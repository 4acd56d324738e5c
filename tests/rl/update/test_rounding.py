"""Rounding errors that are added on purpose: as large as they should be, everywhere, and gone afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engines.rollout import Rollout
from rl.update.rounding import rounding_errors, sample_batch
from vlm.inputs import Encoded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_move_by_one_unit_in_the_last_place_as_often_as_rounding_would(dtype):
    model = nn.Sequential(nn.Linear(20, 5000), nn.ReLU()).to(dtype)
    inputs = torch.randn(4, 20).to(dtype)
    with torch.no_grad():
        exact = model(inputs)
        state = torch.get_rng_state()
        with rounding_errors(model[0]):
            rounded = model[0](inputs)
        assert torch.equal(torch.get_rng_state(), state)
        plain = model[0](inputs)
    moved = rounded != plain
    integers = {2: torch.int16, 4: torch.int32}[rounded.element_size()]
    assert (rounded.view(integers)[moved] - plain.view(integers)[moved]).abs().max() == 1
    assert moved.float().mean() == pytest.approx(1 / 12, rel=0.1)
    assert (rounded.double() - plain.double())[moved].sign().mean().abs() < 0.1  # up as often as down
    with torch.no_grad():
        assert torch.equal(model(inputs), exact)


def test_zeros_and_infinities_stay_and_lookups_are_exact():
    with torch.no_grad(), rounding_errors(module := nn.Sequential(nn.ReLU(), nn.Embedding(9, 300))):
        assert not module[0](-torch.rand(1000)).any()
        assert torch.equal(module[1](torch.arange(9)), module[1].weight)


def test_a_sample_takes_rollouts_of_every_prompt_before_a_second_of_any():
    def rollout(row, length):
        prompt = Encoded(torch.ones(10, dtype=torch.long), torch.zeros(3, 10, dtype=torch.long), (1,) * 10)
        return Rollout(row, prompt, (5,) * length, (1,) * length, (-0.5,) * length, "", 0, "stop")

    rollouts = [rollout("a", 5), rollout("a", 5), rollout("b", 5), rollout("b", 5), rollout("c", 90)]
    rows = lambda most: [r.row_id for r in sample_batch(rollouts, most).rollouts]  # noqa: E731
    assert sorted(rows(1000)) == ["a", "a", "b", "b", "c"]
    assert sorted(rows(36)) == ["a", "a", "b"]
    assert sorted(rows(1)) == ["a"]  # never nothing
    assert rows(1000) and not sample_batch([], 100).rollouts

"""Losses by stage, summed up over micro-batches."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from sft.data import STAGE_NAMES
from sft.metrics import Sums, stage_losses


def test_stage_losses_weighted_by_their_tokens_sum_to_the_total():
    torch.manual_seed(0)
    sums, yes = Sums(Accelerator()), torch.tensor(True)
    stages, losses = torch.randint(1, len(STAGE_NAMES), (120,)), torch.rand(120)
    sums.add_losses(losses[:50], stages[:50], yes)
    sums.add_losses(losses[50:], stages[50:], yes)
    sums.add_losses(torch.full((3,), torch.nan), stages[:3], torch.tensor(False))  # does not count
    logged = stage_losses(sums.total())
    assert logged["loss"] == pytest.approx(losses.mean().item(), rel=1e-6)
    for number, name in enumerate(STAGE_NAMES[1:], 1):
        assert logged[f"loss/{name}"] == pytest.approx(losses[stages == number].mean().item(), rel=1e-6)
    other = Sums(Accelerator())
    other.restore(sums.total())
    assert other.total() == sums.total()


def test_stages_that_do_not_occur_are_not_logged_and_a_loss_over_nothing_is_none():
    sums = Sums(Accelerator())
    assert str(stage_losses(sums.total())) == "{'loss': nan}"
    sums.add_losses(torch.tensor([2.0, 4.0]), torch.tensor([1, 1]), torch.tensor(True))
    assert stage_losses(sums.total()) == {"loss": 3.0, "loss/summary": 3.0}

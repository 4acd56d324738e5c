"""float32 master weights of a bfloat16 policy: exact AdamW, exact sums of gradients, exact resume."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.training.master_weights import MasterAdamW
from rl.loop import train
from tests.rl.small_run import small_config, write_small_world

LEARNING_RATE = 1e-6


def weights(dtype: torch.dtype) -> torch.nn.Parameter:
    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 0.02
    return torch.nn.Parameter(values.bfloat16().to(dtype))


def groups(*parameters: torch.nn.Parameter) -> list[dict]:
    return [{"params": list(parameters), "lr": LEARNING_RATE, "betas": (0.9, 0.95), "weight_decay": 0.1}]


def backward(parameter: torch.nn.Parameter, seed: int) -> torch.Tensor:
    """A backward pass with a known gradient, which is returned."""
    gradient = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)).bfloat16()
    (parameter * gradient.to(parameter.dtype)).sum().backward()
    return gradient


def test_a_step_is_that_of_float32_adamw_rounded_into_the_parameters():
    policy, plain = weights(torch.bfloat16), weights(torch.float32)
    ours, theirs = MasterAdamW(groups(policy)), torch.optim.AdamW(groups(plain))
    for step in range(12):
        for optimizer, parameter in ((ours, policy), (theirs, plain)):
            backward(parameter, step)
            optimizer.step()
            optimizer.zero_grad()
    (master,) = ours.param_groups[0]["params"]
    torch.testing.assert_close(master, plain.detach(), rtol=0, atol=0)
    torch.testing.assert_close(policy.detach(), plain.detach().bfloat16(), rtol=0, atol=0)


def test_at_a_learning_rate_of_rl_masters_move_where_bfloat16_weights_stay():
    policy, bare, start = weights(torch.bfloat16), weights(torch.bfloat16), weights(torch.float32)
    ours, without = MasterAdamW(groups(policy)), torch.optim.AdamW(groups(bare))
    for step in range(12):
        backward(policy, step)
        backward(bare, step)
        for optimizer in (ours, without):
            optimizer.step()
            optimizer.zero_grad()
    (master,) = ours.param_groups[0]["params"]
    assert (master != start).float().mean() > 0.99
    assert (bare.float() != start).float().mean() < 0.1


def test_gradients_of_micro_batches_are_added_up_in_float32():
    policy, total = weights(torch.bfloat16), torch.zeros(64, 64)
    optimizer = MasterAdamW(groups(policy))
    for step in range(16):
        total += backward(policy, step).float()
    (master,) = optimizer.param_groups[0]["params"]
    assert policy.grad is None and master.grad.dtype == torch.float32
    torch.testing.assert_close(master.grad, total, rtol=0, atol=0)
    optimizer.zero_grad()
    assert master.grad is None


def test_a_float32_parameter_is_its_own_master():
    adapter, policy = weights(torch.float32), weights(torch.bfloat16)
    optimizer = MasterAdamW(groups(adapter, policy))
    assert optimizer.param_groups[0]["params"][0] is adapter
    assert len(optimizer.state_dict()["masters"]) == 1


def test_a_state_of_other_weights_is_refused():
    optimizer = MasterAdamW(groups(weights(torch.bfloat16)))
    plain = torch.optim.AdamW(groups(weights(torch.float32)))
    with pytest.raises(ValueError, match="expected an optimizer state with 1 float32 master weights, got 0"):
        optimizer.load_state_dict(plain.state_dict())


def masters(checkpoint: Path) -> list[torch.Tensor]:
    return torch.load(checkpoint / "trainer_state/optimizer.bin")["masters"]


def test_a_bfloat16_run_moves_its_masters_and_resumes_exactly(tmp_path):
    """One process, the reference engine, learning rate 1e-6: resumed half way it ends in the same bits."""
    world = write_small_world(tmp_path)
    changes = {
        "model": {"path": str(world / "model"), "dtype": "bfloat16"},
        "optimizer": {"learning_rate": LEARNING_RATE},
    }
    final = train(small_config(world, tmp_path / "whole", **changes))
    shutil.copytree(final.parent, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken/checkpoint-4")
    shutil.rmtree(tmp_path / "broken/final")
    again = train(small_config(world, tmp_path / "broken", **changes))

    assert {w.dtype for w in load_file(final / "model.safetensors").values()} == {torch.bfloat16}
    for a, b in zip(masters(final.parent / "checkpoint-4"), masters(again.parent / "checkpoint-4")):
        assert a.dtype == torch.float32 and torch.equal(a, b)
    for name, weight in load_file(final / "model.safetensors").items():
        assert torch.equal(weight, load_file(again / "model.safetensors")[name]), name
    early, late = masters(final.parent / "checkpoint-2"), masters(final.parent / "checkpoint-4")
    moved = sum(float((a != b).sum()) for a, b in zip(early, late))
    assert moved > 0.95 * sum(a.numel() for a in early)

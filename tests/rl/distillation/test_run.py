"""Runs with a teacher: what they log, what they learn from, and what is refused before they start."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from core.errors import RunError
from core.rows import read_rows, write_rows
from rl.distillation.checkpoint import CheckpointTeacher
from rl.loop import train
from tests.rl import small_run
from tests.rl.search_world import search_config, write_search_world
from tests.rl.small_run import metrics, rollouts, small_config, write_small_world
from vlm.tiny import build_tiny_vlm


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = write_small_world(tmp_path_factory.mktemp("world"))
    corpus = ["0 1 2 3 4 5 6 7 8 9 what is it"] * 3
    build_tiny_vlm(folder / "teacher", corpus, hidden=128, layers=2, seed=3)
    return folder


def distilled(world, out, teacher="teacher", *, weight=1.0, reward_weight=0.0, **overrides):
    config = {
        "teacher": {"path": str(world / teacher), "dtype": "float32"},
        "weight": weight,
        "reward_weight": reward_weight,
    }
    return small_config(world, out, distillation=config, **overrides)


def no_reward():
    """All rewards are 0, so no group has a signal of its own."""
    reward = {"function": f"{small_run.__file__}:nothing", "isolate": False}
    return {"grammar": "none", "tasks": {"digits": [reward]}}


def test_the_policy_comes_nearer_to_its_teacher_without_any_reward(world, tmp_path):
    rollout = {"prompts_per_step": 6, "completions_per_prompt": 8, "max_tokens": 6}
    train(distilled(world, tmp_path, rewards=no_reward(), rollout=rollout, steps=8, save_every=8))
    steps = metrics(tmp_path)
    assert all(s["groups/zero_signal"] == 1 and s["reward/mean"] == 0 for s in steps)
    assert [s["policy_version"] for s in steps] == list(range(1, 9))
    assert steps[-1]["reverse_kl/mean"] < 0.9 * steps[0]["reverse_kl/mean"]
    assert all(s["reverse_kl/mean"] == pytest.approx(s["reverse_kl/digits"]) for s in steps)
    assert all(s["seconds/teacher"] > 0 and s["logprob_gap/mean"] < 1e-5 for s in steps)


def test_a_resumed_run_goes_on_as_if_unbroken_and_with_the_same_teacher(world, tmp_path):
    mixed = {"weight": 0.5, "reward_weight": 1.0}
    train(distilled(world, tmp_path / "unbroken", **mixed))
    train(distilled(world, tmp_path / "run", **mixed, steps=2))
    with pytest.raises(RunError, match="distillation.weight"):
        train(distilled(world, tmp_path / "run", weight=0.25, reward_weight=1.0))
    build_tiny_vlm(world / "other", ["0 1 2 3 4 5 6 7 8 9 what is it"] * 3, hidden=64, layers=1, seed=9)
    with pytest.raises(RunError, match="distillation.teacher.path"):
        train(distilled(world, tmp_path / "run", teacher="other", **mixed))
    train(distilled(world, tmp_path / "run", **mixed))
    assert rollouts(tmp_path / "run") == rollouts(tmp_path / "unbroken")
    assert {r["advantage"] is None for r in rollouts(tmp_path / "run")} >= {False}


def test_every_turn_of_an_episode_is_learned_from_and_no_observation(tmp_path, monkeypatch):
    """The policy itself is the teacher: where both see the same images and turns, they agree. Searches are mixed with sums, whose
    rollouts are of one turn."""
    world = write_search_world(tmp_path / "world", rows=1)
    message = {"role": "user", "content": [{"type": "text", "text": "A B C D"}]}
    sums = {
        "id": "sum",
        "task": "math",
        "prompt": [message],
        "answer": {"value": "4"},
        "images": [],
        "videos": [],
    }
    write_rows([*read_rows(world / "rows.jsonl"), sums], world / "rows.jsonl")
    seen = []
    original = CheckpointTeacher.logprobs

    def kept(self, groups):
        values = original(self, groups)
        seen.extend(
            (rollout, value)
            for group, of_group in zip(groups, values, strict=True)
            for rollout, value in zip(group.rollouts, of_group, strict=True)
        )
        return values

    monkeypatch.setattr(CheckpointTeacher, "logprobs", kept)
    teacher = {"path": str(world / "model"), "dtype": "float32"}
    rewards = {"grammar": "none", "tasks": {"search": ["choice"], "math": ["math"]}}
    config = search_config(
        world, tmp_path / "run", steps=1, distillation={"teacher": teacher}, rewards=rewards
    )
    train(config)
    (step,) = metrics(tmp_path / "run")
    for task in ("search", "math"):
        assert {f"{name}/{task}" for name in ("reward", "length", "entropy", "reverse_kl")} <= step.keys()
    assert any(rollout.sequence is not None and len(rollout.turns) > 1 for rollout, _ in seen)
    for rollout, value in seen:
        mask = torch.tensor(rollout.loss_mask)
        assert not value[mask == 0].any()
        torch.testing.assert_close(value, torch.tensor(rollout.logprobs), rtol=0, atol=1e-4)


def test_settings_that_contradict_each_other_are_refused(world, tmp_path):
    with pytest.raises(ValidationError, match="sampling.dynamic chooses prompts by their rewards"):
        distilled(world, tmp_path, sampling={"dynamic": True})
    server = {"teacher": {"kind": "vllm_server", "url": "http://127.0.0.1:1", "model": "teacher"}}
    rollout = {"temperature": 0.7, "max_tokens": 12}
    with pytest.raises(ValidationError, match=r"rollout.temperature: expected 1, .* got 0.7"):
        small_config(world, tmp_path, distillation=server, rollout=rollout)
    with pytest.raises(
        ValidationError, match=r"task_weights: expected tasks of rewards.tasks \(digits\), got d"
    ):
        small_config(world, tmp_path, task_weights={"digit": 0.5})
    with pytest.raises(ValidationError, match="path"):
        small_config(world, tmp_path, distillation={"teacher": {"dtype": "float32"}})


def test_weights_of_tasks_scale_the_step(world, tmp_path):
    """Of the only task: the same direction, twice as long."""
    for name, weights in (("one", {}), ("two", {"digits": 2.0})):
        train(small_config(world, tmp_path / name, steps=1, task_weights=weights))
    (one,), (two,) = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert two["grad_norm"] == pytest.approx(2 * one["grad_norm"], rel=1e-5)
    assert two["loss"] == pytest.approx(2 * one["loss"], rel=1e-5)

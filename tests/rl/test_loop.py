"""The loop: what every step leaves behind, and checks that stop a run that is no longer on-policy."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from engines.transformers_engine import TransformersEngine
from rewards.errors import PluginError
from rl.checks import OffPolicyError
from rl.loop import train
from tests.rl import small_run
from tests.rl.small_run import metrics, rollouts, small_config, write_small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_small_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def unbroken(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    train(small_config(world, out))
    return out


def test_every_step_is_on_policy_and_logs_what_it_did(unbroken):
    steps = metrics(unbroken)
    assert [s["step"] for s in steps] == [1, 2, 3, 4]
    assert [s["policy_version"] for s in steps] == [1, 2, 3, 4]
    for step in steps:
        assert (
            step["logprob_gap/mean"] < 1e-5
            and step["logprob_gap/max"] < 1e-3
            and step["logprob_gap/ess"] > 0.999
        )
        assert step["grad_norm"] > 0 and 0 <= step["groups/zero_signal"] <= 1
        assert 0 < step["reward/digits"] == step["reward/mean"] < 1
        for phase in ("generate", "reward", "update", "sync", "rest"):
            assert step[f"seconds/{phase}"] >= 0


def test_rollouts_are_kept_with_media_references_and_the_version_that_sampled_them(unbroken):
    kept = rollouts(unbroken)
    assert len(kept) == 4 * 2 * 4
    assert [r["policy_version"] for r in kept] == [r["step"] - 1 for r in kept]
    with_image = [r for r in kept if int(r["row_id"][1:]) % 2]
    assert with_image and all(
        r["images"][0].endswith(".png") and "[image]" in r["prompt"] for r in with_image
    )
    for step in range(1, 5):
        advantages = [r["advantage"] for r in kept if r["step"] == step and r["advantage"] is not None]
        assert sum(advantages) == pytest.approx(0, abs=1e-5)


def test_run_stops_when_the_engine_keeps_old_weights(world, tmp_path, monkeypatch):
    def sync_nothing(self, named_weights, version):
        for _ in named_weights:
            pass
        self.version = version

    monkeypatch.setattr(TransformersEngine, "sync", sync_nothing)
    with pytest.raises(OffPolicyError, match="weights of the rollout engine are not the trainer's"):
        train(small_config(world, tmp_path))
    assert not (tmp_path / "metrics.jsonl").exists()  # it did not even finish its first step


def test_run_stops_when_rollouts_carry_another_version(world, tmp_path, monkeypatch):
    original = TransformersEngine.sync

    def forget_version(self, named_weights, version):
        original(self, named_weights, version)
        self.version = 0

    monkeypatch.setattr(TransformersEngine, "sync", forget_version)
    with pytest.raises(OffPolicyError, match="the trainer is at version 1, but 8 rollout"):
        train(small_config(world, tmp_path))


def test_run_stops_when_log_probs_disagree(world, tmp_path):
    with pytest.raises(OffPolicyError, match="the mean difference between the log-probs"):
        train(small_config(world, tmp_path, checks={"max_mean_gap": 1e-12}))


def test_groups_without_signal_change_nothing(world, tmp_path):
    config = small_config(
        world,
        tmp_path,
        steps=1,
        # random text is never in the grammar
        rewards={"grammar": "stages", "tasks": {"digits": "exact_text"}},
        prompts={"rows": str(_answered(world, tmp_path))},
    )
    train(config)
    (step,) = metrics(tmp_path)
    assert step["groups/zero_signal"] == 1.0 and step["policy_version"] == 0
    assert 0 < step["logprob_gap/mean"] < 1e-5  # measured all the same
    before, after = (load_file(p / "model.safetensors") for p in (world / "model", tmp_path / "final"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_importance_weights_are_asked_for_by_name_and_near_one(world, tmp_path):
    train(small_config(world, tmp_path, steps=1, correction="sequence", correction_limit=1.0))
    (step,) = metrics(tmp_path)
    assert step["correction/mean"] == pytest.approx(1, abs=1e-4) == step["correction/max"]
    assert 0 <= step["correction/truncated"] <= 1


def varying(world, out, **sampling):
    """A run in which half of the prompts (those without an image) never have a signal."""
    reward = {"function": f"{small_run.__file__}:only_images_vary", "isolate": False}
    rewards = {"grammar": "none", "tasks": {"digits": [reward]}}
    return small_config(world, out, steps=3, rewards=rewards, sampling=sampling)


def test_dynamic_sampling_fills_every_step_with_groups_that_have_a_signal(world, tmp_path):
    train(varying(world, tmp_path / "plain"))
    train(varying(world, tmp_path / "dynamic", dynamic=True, max_resampling=5))
    plain, dynamic = metrics(tmp_path / "plain"), metrics(tmp_path / "dynamic")
    assert any(s["groups/zero_signal"] > 0 for s in plain) and all(s["groups/drawn"] == 2 for s in plain)
    for step in dynamic:
        trained = [
            r
            for r in rollouts(tmp_path / "dynamic")
            if r["step"] == step["step"] and r["advantage"] is not None
        ]
        assert len(trained) == 2 * 4 and {int(r["row_id"][1:]) % 2 for r in trained} == {1}
        assert all(r["policy_version"] == step["step"] - 1 for r in trained)
        assert step["tokens/signal"] == 1.0
    assert any(s["groups/drawn"] > 2 for s in dynamic)


def test_solved_prompts_leave_for_the_easy_pool_and_it_survives_resume(world, tmp_path):
    pool = {"dynamic": True, "max_resampling": 5, "easy_pool": 0.1}
    train(varying(world, tmp_path / "unbroken", **pool))
    assert metrics(tmp_path / "unbroken")[-1]["groups/easy_pool"] > 0
    config = varying(world, tmp_path / "run", **pool)
    train(config.model_copy(update={"steps": 2}))
    train(config)
    assert rollouts(tmp_path / "run") == rollouts(tmp_path / "unbroken")


def test_rewards_know_the_pixel_limits_of_the_model(world, tmp_path):
    """They are configured once, so an override reaches both; the processor's factor comes along."""
    model = {"path": str(world / "model"), "max_pixels": 28 * 28 * 2}
    train(small_config(world, tmp_path / "run", model=model, steps=1))
    assert {r["model_max_pixels"] for r in rollouts(tmp_path / "run")} == {28 * 28 * 2}
    assert {r["model_factor"] for r in rollouts(tmp_path / "run")} == {28}
    box = {"function": "giou", "max_pixels": 28 * 28 * 4}
    with pytest.raises(PluginError, match="giou's max_pixels is 3136, the model's 1568"):
        train(small_config(world, tmp_path / "no", model=model, rewards={"tasks": {"digits": [box]}}))


def test_a_task_without_a_reward_is_one_clear_error(world, tmp_path):
    with pytest.raises(ValueError, match="digits"):
        train(small_config(world, tmp_path, rewards={"tasks": {"math": "math"}}))


def test_prompts_must_divide_among_processes_and_fit(world, tmp_path):
    with pytest.raises(ValueError, match=r"rollout.max_tokens \(96\) leaves no room"):
        small_config(world, tmp_path, rollout={"max_tokens": 96})


def _answered(world, folder):
    """The rows with answers that the `exact_text` reward can read."""
    text = (world / "rows.jsonl").read_text().replace('"answer": {}', '"answer": {"value": "seven"}')
    path = world / "answered.jsonl"
    path.write_text(text)
    return path

"""Small mistakes between engine and trainer stop the run by the log-prob gap alone, in float32 and in bfloat16; rounding
does not."""

from __future__ import annotations

import json

import pytest
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

import engines.weights
import rl.loop
from engines import transformers_engine
from engines.transformers_engine import TransformersEngine
from rl.checks import OffPolicyError
from rl.loop import train
from tests.rl import small_run
from tests.rl.small_run import metrics, small_config, write_small_world

DTYPES = ["float32", "bfloat16"]


@pytest.fixture(scope="session")
def world(tmp_path_factory, family):
    return write_small_world(tmp_path_factory.mktemp("world"), family=family)


@pytest.fixture
def without_fingerprint(monkeypatch):
    """The gap must find it alone."""
    monkeypatch.setattr(engines.weights, "check_fingerprint", lambda engine, trainer: None)


def config(world, out, dtype, **overrides):
    model = {"path": str(world / "model"), "dtype": dtype}
    rollout = {"prompts_per_step": 4, "completions_per_prompt": 6, "max_tokens": 12}
    learning_rate = {"float32": 1e-5, "bfloat16": 1e-3}[dtype]
    values = {"model": model, "rollout": rollout, "optimizer": {"learning_rate": learning_rate}, "steps": 3}
    return small_config(world, out, **(values | overrides))


def without_signal():
    reward = {"function": f"{small_run.__file__}:nothing", "isolate": False}
    return {"grammar": "none", "tasks": {"digits": [reward]}}


def change_weights(monkeypatch, change):
    """change: what the engine loads in the place of a weight, (name, weight) → (name, weight)."""
    load = TransformersEngine._load_weights
    monkeypatch.setattr(
        TransformersEngine,
        "_load_weights",
        lambda self, weights: load(self, (change(name, weight) for name, weight in weights)),
    )


def exchange_rows(monkeypatch, dtype):
    def change(name, weight):
        if not name.endswith("language_model.layers.1.mlp.down_proj.weight"):
            return name, weight
        changed = weight.clone()
        changed[[3, 9]] = weight[[9, 3]]
        return name, changed

    change_weights(monkeypatch, change)


def exchange_k_and_v(monkeypatch, dtype):
    other = {".k_proj.": ".v_proj.", ".v_proj.": ".k_proj."}

    def change(name, weight):
        part = next((part for part in other if part in name), None)
        return (name.replace(part, other[part]) if part else name), weight

    change_weights(monkeypatch, change)


def other_temperature(monkeypatch, dtype):
    factor = {"float32": 1.001, "bfloat16": 1.1}[dtype]
    sample = TransformersEngine._sample
    monkeypatch.setattr(
        TransformersEngine, "_sample", lambda self, logits, t: sample(self, logits, t * factor)
    )


def other_pixels(monkeypatch, dtype):
    """float32: one percent brighter; bfloat16: blurred, 3 x 3 pixels."""
    padded = transformers_engine._left_padded

    def changed(sequences):
        batch = padded(sequences)
        if "pixel_values" in batch and dtype == "float32":
            batch["pixel_values"] = batch["pixel_values"] * 1.01
        elif "pixel_values" in batch:
            pixels = batch["pixel_values"].view(len(batch["pixel_values"]), -1, 14, 14)
            blurred = torch.nn.functional.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
            batch["pixel_values"] = blurred.reshape(batch["pixel_values"].shape)
        return batch

    monkeypatch.setattr(transformers_engine, "_left_padded", changed)


def one_version_old(monkeypatch, dtype):
    load, kept = TransformersEngine._load_weights, []

    def load_the_last_ones(self, weights):
        kept.append([(name, weight.clone()) for name, weight in weights])
        load(self, kept[max(0, len(kept) - 2)])

    monkeypatch.setattr(TransformersEngine, "_load_weights", load_the_last_ones)


def exchange_levels_of_deepstack(monkeypatch):
    """The engine adds the features of the second level where those of the first belong."""
    forward = Qwen3VLVisionModel.forward

    def exchanged(self, *args, **kwargs):
        out = forward(self, *args, **kwargs)
        if not self.training:  # the engine's model alone
            out.deepstack_features = out.deepstack_features[::-1]
        return out

    monkeypatch.setattr(Qwen3VLVisionModel, "forward", exchanged)


def vision_tower_stays_old(monkeypatch):
    load = TransformersEngine._load_weights

    def without_vision(self, weights):
        own = {n: w for n, w in self._model.state_dict().items() if n.startswith("model.visual.")}
        load(self, [(name, own.get(name, weight)) for name, weight in weights])

    monkeypatch.setattr(TransformersEngine, "_load_weights", without_vision)


FAULTS = [exchange_rows, exchange_k_and_v, other_temperature, other_pixels]


@pytest.mark.usefixtures("without_fingerprint")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("signal", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_the_run_in_its_first_step(world, tmp_path, monkeypatch, fault, signal, dtype):
    fault(monkeypatch, dtype)
    rewards = {} if signal else {"rewards": without_signal()}
    with pytest.raises(OffPolicyError, match="between"):
        train(config(world, tmp_path, dtype, **rewards))
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.usefixtures("without_fingerprint")
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_are_one_version_old_stop_the_run_in_the_next_step(world, tmp_path, monkeypatch, dtype):
    one_version_old(monkeypatch, dtype)
    with pytest.raises(OffPolicyError, match="between"):
        train(config(world, tmp_path, dtype))
    assert len(metrics(tmp_path)) == 1


@pytest.mark.usefixtures("without_fingerprint")
@pytest.mark.parametrize("family", ["qwen3_vl"], indirect=True, scope="session")
def test_levels_of_deepstack_in_another_order_stop_the_run(world, tmp_path, monkeypatch):
    exchange_levels_of_deepstack(monkeypatch)
    with pytest.raises(OffPolicyError, match="between"):
        train(config(world, tmp_path, "float32"))


@pytest.mark.usefixtures("without_fingerprint")
@pytest.mark.every_family
def test_a_vision_tower_that_stays_old_stops_the_run_in_the_next_step(world, tmp_path, monkeypatch):
    vision_tower_stays_old(monkeypatch)
    with pytest.raises(OffPolicyError, match="between"):
        train(config(world, tmp_path, "float32", optimizer={"learning_rate": 1e-3}))
    assert len(metrics(tmp_path)) == 1


@pytest.mark.every_family
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("signal", [True, False])
def test_a_right_run_goes_on_and_logs_its_gap_at_every_step(world, tmp_path, signal, dtype):
    rewards = {} if signal else {"rewards": without_signal()}
    optimizer = {"learning_rate": 1e-3}
    train(config(world, tmp_path, dtype, steps=5, optimizer=optimizer, **rewards))
    steps = metrics(tmp_path)
    assert len(steps) == 5
    assert all(0 < step["logprob_gap/kl"] < 5e-4 and step["logprob_gap/noise"] > 0 for step in steps)
    for step in steps:
        if signal and dtype == "bfloat16":
            assert abs(step["correction/mean"] - 1) < 0.01 < step["correction/max"] - 1 < 0.5
            assert step["correction/truncated"] == 0
        else:
            assert "correction/mean" not in step


@pytest.mark.usefixtures("without_fingerprint")
def test_the_noise_floor_survives_a_resume(world, tmp_path, monkeypatch):
    """A fault that begins with the resume is not taken for the run's own noise."""
    train(config(world, tmp_path, "bfloat16", steps=2, save_every=1))
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state" / "loop.json").read_text())
    assert 0 < state["gap_floor"]["kl"] < 5e-4
    measured = []
    monkeypatch.setattr(rl.loop, "sampled_gap", lambda *_: measured.append(1))
    train(config(world, tmp_path, "bfloat16", steps=3))
    assert not measured
    assert metrics(tmp_path)[2]["logprob_gap/noise"] == state["gap_floor"]["kl"]

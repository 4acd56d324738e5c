"""Steps that are not finite are skipped, counted and named; too many in a row stop the run; weights stay finite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

import rl.loop
from core.files.run_folder import checkpoints
from engines.transformers_engine import TransformersEngine
from rl.checks import OffPolicyError
from rl.config import GRPOConfig
from rl.loop import train
from tests.matrix import of_the_matrix
from tests.rl.small_run import metrics, small_config, write_small_world

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_small_world(tmp_path_factory.mktemp("world"))


def break_steps(monkeypatch, steps, what):
    """In these steps (from 1) one number is not finite: the loss, or one value of one weight's gradient."""
    original, update = rl.loop.policy_gradient, rl.loop.update
    now = [0]

    def counted(run, *args):
        now[0] = run.step + 1
        return update(run, *args)

    def broken(model, *args, **options):
        out = original(model, *args, **options)
        if now[0] not in steps:
            return out
        if what == "loss":
            return replace(out, loss=out.loss + torch.inf)
        weight = next(p for n, p in model.named_parameters() if n.endswith("layers.1.mlp.up_proj.weight"))

        def hook(gradient):
            handle.remove()
            changed = gradient.clone()
            changed[3, 5] = torch.nan
            return changed

        handle = weight.register_hook(hook)
        return out

    monkeypatch.setattr(rl.loop, "update", counted)
    monkeypatch.setattr(rl.loop, "policy_gradient", broken)


def finite(folder):
    return all(bool(w.isfinite().all()) for w in load_file(folder / "model.safetensors").values())


@pytest.mark.parametrize(
    ("what", "named"), [("loss", "its loss is inf"), ("gradient", "its gradient norm is nan")]
)
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted_and_named(
    world, tmp_path, monkeypatch, capsys, what, named
):
    break_steps(monkeypatch, {2}, what)
    train(small_config(world, tmp_path, steps=3, save_every=1, keep_checkpoints=3))
    steps = metrics(tmp_path)
    assert [s["steps/skipped"] for s in steps] == [0, 1, 0]
    assert [s["policy_version"] for s in steps] == [1, 1, 2]
    assert steps[1]["grad_norm"] is None and steps[2]["grad_norm"] > 0
    one, two, three = (load_file(p / "model.safetensors") for p in checkpoints(tmp_path))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(two[name], three[name]) for name in one)
    assert finite(tmp_path / "final")
    assert f"step 2 is skipped: {named}" in capsys.readouterr().out


def test_more_in_a_row_than_allowed_stop_the_run_and_a_resume_goes_on_counting(world, tmp_path, monkeypatch):
    optimizer = {"learning_rate": 1e-3, "max_skipped_steps": 2}
    break_steps(monkeypatch, {2, 3, 5, 6, 7}, "gradient")
    config = small_config(world, tmp_path, steps=9, save_every=1, optimizer=optimizer)
    train(config.model_copy(update={"steps": 6}))  # two in a row, twice: allowed
    with pytest.raises(
        FloatingPointError, match="step 7 is skipped.*3 steps in a row were skipped, at most 2"
    ):
        train(config)
    assert checkpoints(tmp_path)[-1].name == "checkpoint-6" and finite(checkpoints(tmp_path)[-1])


def test_weights_that_are_not_finite_reach_neither_a_checkpoint_nor_the_engine(world, tmp_path, monkeypatch):
    original = rl.loop.apply_gradient
    synced = []

    policies = []
    update = rl.loop.update

    def with_policy(run, *args):
        policies[:] = [run.policy]
        return update(run, *args)

    def overflow(*args):
        norm = original(*args)
        with torch.no_grad():
            dict(policies[0].named_parameters())["model.language_model.norm.weight"][3] = torch.inf
        return norm

    load = TransformersEngine._load_weights

    def record(engine, named_weights):
        load(engine, ((name, synced.append(w.isfinite().all()) or w) for name, w in named_weights))

    monkeypatch.setattr(rl.loop, "update", with_policy)
    monkeypatch.setattr(rl.loop, "apply_gradient", overflow)
    monkeypatch.setattr(TransformersEngine, "_load_weights", record)
    with pytest.raises(
        FloatingPointError, match=r"language_model\.norm\.weight; such weights are neither saved"
    ):
        train(small_config(world, tmp_path, save_every=1))
    assert synced and all(synced)
    monkeypatch.setattr(rl.loop, "sync", lambda run: None)
    with pytest.raises(FloatingPointError, match=r"language_model\.norm\.weight"):
        train(small_config(world, tmp_path, save_every=1))
    assert not checkpoints(tmp_path)


def test_an_engine_whose_log_probs_are_not_numbers_stops_the_run_at_once(world, tmp_path, monkeypatch):
    original = TransformersEngine._sample

    def broken(self, logits, temperature):
        tokens, logprobs = original(self, logits, temperature)
        return tokens, torch.full_like(logprobs, torch.nan)

    monkeypatch.setattr(TransformersEngine, "_sample", broken)
    with pytest.raises(OffPolicyError, match="sampled a log-prob of nan"):
        train(small_config(world, tmp_path))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "place",
    ["optimizer.learning_rate", "optimizer.weight_decay", "optimizer.max_grad_norm", "rollout.temperature"],
)
def test_a_config_holds_finite_numbers_only(world, tmp_path, place, value):
    values = small_config(world, tmp_path).model_dump(mode="json")
    section, name = place.split(".")
    values[section][name] = value
    with pytest.raises(ValidationError, match="finite number|greater than"):
        GRPOConfig.model_validate(values)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [pytest.param(2, marks=of_the_matrix), 3])
def test_under_zero_all_processes_skip_a_step_that_is_broken_on_one(world, tmp_path, stage):
    config = tmp_path / "config.yaml"
    rollout = {"prompts_per_step": 2, "completions_per_prompt": 4, "max_tokens": 6}
    run = small_config(world, tmp_path / "run", steps=4, save_every=4, rollout=rollout)
    config.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    zero = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": stage}}
    settings = tmp_path / "zero.json"
    settings.write_text(json.dumps(zero))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes=2", "--num_machines=1"),
        *("--dynamo_backend=no", "--main_process_port=0", "--use_deepspeed"),
        *(f"--deepspeed_config_file={settings}", "tests/rl/broken_worker.py", str(config)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    environment.pop("ACCELERATE_USE_CPU", None)
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(timeout=900)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, log.read_text()[-4000:]
    steps = metrics(tmp_path / "run")
    assert [s["steps/skipped"] for s in steps] == [0, 1, 1, 0]
    assert [s["policy_version"] for s in steps] == [1, 1, 1, 2]
    assert "step 2 is skipped: its loss is nan" in log.read_text()
    assert "step 3 is skipped: its gradient norm is inf" in log.read_text()
    assert finite(tmp_path / "run" / "final")

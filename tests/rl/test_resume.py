"""Resuming GRPO: exact where it goes on, a clear refusal where it could not be."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from core.errors import RunError
from rl.loop import train
from tests.rl.small_run import metrics, rollouts, small_config, write_small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory, family):
    return write_small_world(tmp_path_factory.mktemp("world"), family=family)


@pytest.fixture(scope="module")
def unbroken(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    train(small_config(world, out))
    return out


@pytest.fixture
def half(world, unbroken, tmp_path):
    """A run that was killed in its fourth step: checkpoint-2, and records of three steps."""
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("checkpoint-4", "final", "finished.json"))
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        lines = (out / name).read_text(encoding="utf-8").split("\n")
        whole = [line for line in lines if line and json.loads(line)["step"] <= 3]
        (out / name).write_text("\n".join(whole) + '\n{"step": 4, "rewa', encoding="utf-8")
    return out


def assert_same_run(one, other):
    timing = ("seconds/", "tokens_per_second")
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert {k: v for k, v in a.items() if not k.startswith(timing)} == {
            k: v for k, v in b.items() if not k.startswith(timing)
        }
    assert rollouts(one) == rollouts(other)
    ours, theirs = (load_file(p / "final" / "model.safetensors") for p in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.every_family
def test_resumed_run_equals_an_unbroken_one(world, unbroken, half):
    train(small_config(world, half))
    assert_same_run(half, unbroken)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(world, unbroken, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("final", "finished.json"))
    random_states = out / "checkpoint-4/trainer_state/random_states_0.pkl"
    os.truncate(random_states, random_states.stat().st_size // 2)
    train(small_config(world, out))
    assert_same_run(out, unbroken)
    printed = "".join(capsys.readouterr())
    assert "checkpoint-4 is damaged: trainer_state/random_states_0.pkl has" in printed
    assert "going on from" in printed and "checkpoint-2" in printed


def test_a_finished_run_does_nothing_but_say_so(world, unbroken, capsys):
    before = {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.name != ".lock"}
    assert train(small_config(world, unbroken)) == unbroken / "final"
    assert "finished already, at step 4" in "".join(capsys.readouterr())
    assert {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.name != ".lock"} == before


def test_a_run_killed_before_its_final_folder_only_writes_that(world, unbroken, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("final", "finished.json"))
    train(small_config(world, out))
    assert_same_run(out, unbroken)


def test_a_folder_named_like_a_checkpoint_is_in_nobodys_way(world, unbroken, half):
    shutil.copytree(half / "checkpoint-2", half / "checkpoint-2-best")
    train(small_config(world, half, save_every=1))
    assert (half / "checkpoint-2-best").is_dir() and (half / "checkpoint-3").is_dir()
    assert_same_run(half, unbroken)


CHANGES = {
    "optimizer.learning_rate": {"optimizer": {"learning_rate": 2e-3}},
    "seed": {"seed": 1},
    "rollout.temperature": {
        "rollout": {"prompts_per_step": 2, "completions_per_prompt": 4, "max_tokens": 12, "temperature": 0.9}
    },
    "rollout.completions_per_prompt": {
        "rollout": {"prompts_per_step": 2, "completions_per_prompt": 2, "max_tokens": 12}
    },
    "advantage": {"advantage": "no_std"},
    "sampling.dynamic": {"sampling": {"dynamic": True}},
    "rewards.grammar": {"rewards": {"grammar": "stages", "tasks": {"digits": "exact_text"}}},
}


@pytest.mark.parametrize("key", CHANGES)
def test_another_setting_is_refused_by_name(world, half, key):
    change = CHANGES[key]
    if key == "rewards.grammar":
        rows = half.parent / "rows.jsonl"
        text = (world / "rows.jsonl").read_text().replace('"answer": {}', '"answer": {"value": "seven"}')
        rows.write_text(text.replace('"images": ["', f'"images": ["{world}/'))
        change = change | {"prompts": {"rows": str(rows)}}
    with pytest.raises(RunError, match=rf"checkpoint-2: cannot resume with other settings, .*[:;] {key}: "):
        train(small_config(world, half, **change))


def test_another_model_other_trained_parts_and_other_rows_are_refused_by_name(world, half, tmp_path):
    path = str(world / "model")
    for key, model in {
        "model.trainable": {"path": path, "trainable": "language"},
        "model.lora": {"path": path, "lora": {"r": 4}},
    }.items():
        with pytest.raises(RunError, match=rf" {key}"):
            train(small_config(world, half, model=model))
    other = write_small_world(tmp_path / "other", rows=4)
    with pytest.raises(RunError, match=r" prompts.rows: '6 rows, content \w+' then, '4 rows, content"):
        train(small_config(world, half, prompts={"rows": str(other / "rows.jsonl")}))
    weights = other / "model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match=r" model.path: 'content \w+' then, 'content \w+' now"):
        train(small_config(world, half, model={"path": str(other / "model")}))


def test_bookkeeping_memory_and_moved_files_may_change(world, unbroken, half, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(world, moved)
    config = small_config(
        moved,
        half,
        save_every=1,
        keep_checkpoints=1,
        engine={"kind": "transformers", "max_model_len": 128},
        max_tokens_per_microbatch=80,
    )
    train(config)
    assert "engine.max_model_len: 96 until then, 128 from now on" in "".join(capsys.readouterr())
    ours, theirs = (load_file(p / "final" / "model.safetensors") for p in (half, unbroken))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_fewer_steps_than_are_done_is_one_clear_error(world, half):
    with pytest.raises(RunError, match="steps: expected 2 or more"):
        train(small_config(world, half, steps=1))


def test_an_old_run_is_not_overwritten(world, unbroken):
    with pytest.raises(FileExistsError, match="holds checkpoint-4 of an earlier run: set resume: auto"):
        train(small_config(world, unbroken, resume="never"))

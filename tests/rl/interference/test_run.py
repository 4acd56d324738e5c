"""Runs of several tasks: their gradients are compared without changing the step, and each remedy does what its equation says."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from core.rows import read_rows, write_rows
from rl.interference.blocks import blocks_of
from rl.loop import train
from tests.rl import small_run
from tests.rl.small_run import metrics, rollouts, small_config, write_small_world
from vlm.families import family_of_model
from vlm.load import load_model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Of three tasks: digits with and without an image, and letters, which pull the other way."""
    folder = write_small_world(tmp_path_factory.mktemp("world"), rows=9)
    rows = read_rows(folder / "rows.jsonl")
    for i, row in enumerate(rows):
        row["task"] = ("digits", "seen", "letters")[i % 3]
    write_rows(rows, folder / "rows.jsonl")
    return folder


def share_of_letters(completion: str, answer: dict, **row: object) -> float:
    """Reward for what `share_of_digits` punishes."""
    return 1 - small_run.share_of_digits(completion, answer)


def mixed(world, out, **overrides):
    digits = {"function": f"{small_run.__file__}:share_of_digits", "isolate": False}
    letters = {"function": f"{__file__}:share_of_letters", "isolate": False}
    values = {
        "rewards": {"grammar": "none", "tasks": {"digits": [digits], "seen": [digits], "letters": [letters]}},
        "rollout": {"prompts_per_step": 6, "completions_per_prompt": 4, "max_tokens": 60},
        "steps": 2,
        "save_every": 2,
    }
    return small_config(world, out, **(values | overrides))


@pytest.fixture(scope="module")
def plain(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "plain"
    train(mixed(world, out))
    return out


def test_every_task_has_its_own_metrics(plain):
    for step in metrics(plain):
        for task in ("digits", "seen", "letters"):
            for name in ("reward", "length", "entropy", "groups/zero_signal", "advantage_scale"):
                assert f"{name}/{task}" in step, name
        assert step["component/letters/share_of_letters"] == step["reward/letters"]
        by_task = [step[f"entropy/{task}"] for task in ("digits", "seen", "letters")]
        assert min(by_task) <= step["entropy"] <= max(by_task)
        assert not any(name.startswith("interference/") for name in step)
        lines = [r for r in rollouts(plain) if r["step"] == step["step"] and r["task"] == "digits"]
        scale = sum(abs(r["advantage"]) for r in lines) / len(lines)
        assert step["advantage_scale/digits"] == pytest.approx(scale)


def test_measuring_changes_nothing_but_the_log(world, plain, tmp_path):
    train(mixed(world, tmp_path, interference={"every": 2}))
    first, second = metrics(tmp_path)
    assert not any(name.startswith("interference/") for name in first)
    pairs = ("digits~letters", "digits~seen", "letters~seen")
    blocks = {name.rpartition("/")[2] for name in second if name.startswith("interference/cosine")}
    assert blocks == {"all", "vision", "projector", "embedding", "layers_0_0", "layers_1_1"}
    for pair in pairs:
        assert -1.0001 <= second[f"interference/cosine/{pair}/all"] <= 1.0001
    assert second["interference/norm/digits/all"] > 0
    whole, parts = second["interference/norm/seen/all"], blocks - {"all"}
    assert whole**2 == pytest.approx(sum(second[f"interference/norm/seen/{b}"] ** 2 for b in parts))
    assert 0 < second["interference/percent"] < 100
    for a, b in zip(metrics(plain), (first, second), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4, abs=1e-7)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-4)
    assert_same_weights(plain, tmp_path)


def assert_same_weights(one, other):
    """Up to what Adam makes of rounding errors of gradients near zero."""
    a, b = (load_file(p / "final" / "model.safetensors") for p in (one, other))
    for name, weight in a.items():
        assert (weight - b[name]).abs().mean() < 2e-6, name


def test_pcgrad_takes_the_conflict_out_of_the_step(world, tmp_path):
    """The norm of the step is that of sum_t c_t g_t, from what was logged, and not that of the plain sum."""
    rollout = {"prompts_per_step": 6, "completions_per_prompt": 24, "max_tokens": 2}
    remedies = {"every": 1, "remedies": ["pcgrad"]}
    train(mixed(world, tmp_path, steps=1, interference=remedies, rollout=rollout))
    (step,) = metrics(tmp_path)
    tasks = ("digits", "letters", "seen")
    coefficients = [step[f"pcgrad/{task}"] for task in tasks]
    assert step["interference/cosine/digits~letters/all"] < 0 and max(coefficients) > 1

    def norm(coefficients) -> float:
        total = 0.0
        for (a, c), (b, d) in itertools.product(zip(tasks, coefficients, strict=True), repeat=2):
            cosine = 1.0 if a == b else step[f"interference/cosine/{min(a, b)}~{max(a, b)}/all"]
            total += c * d * step[f"interference/norm/{a}/all"] * step[f"interference/norm/{b}/all"] * cosine
        return total**0.5

    assert step["grad_norm"] == pytest.approx(norm(coefficients), rel=1e-4)
    assert step["grad_norm"] != pytest.approx(norm([1.0] * 3), rel=1e-2)


def test_task_steps_train_on_one_task_at_a_time(world, tmp_path):
    train(mixed(world, tmp_path, interference={"remedies": ["task_steps"]}, steps=4, save_every=4))
    for step in range(1, 5):
        assert len({r["task"] for r in rollouts(tmp_path) if r["step"] == step}) == 1
    assert len({r["task"] for r in rollouts(tmp_path)}) > 1


def test_task_tokens_and_the_length_baseline_change_the_gradient_and_not_the_rollouts(world, plain, tmp_path):
    norms = {metrics(plain)[0]["grad_norm"]}
    for remedy in ("task_tokens", "length_baseline"):
        out = tmp_path / remedy
        train(mixed(world, out, steps=1, interference={"remedies": [remedy]}))
        norms.add(metrics(out)[0]["grad_norm"])
        texts = [[r["completion"] for r in rollouts(run) if r["step"] == 1] for run in (plain, out)]
        assert texts[0] == texts[1]
        if remedy == "length_baseline":
            pushes = {}
            for r in rollouts(out):
                pushes[r["row_id"]] = pushes.get(r["row_id"], 0.0) + r["tokens"] * (r["advantage"] or 0.0)
            assert all(abs(push) < 1e-6 for push in pushes.values())
    assert len(norms) == 3


def test_what_excludes_each_other_is_refused(world, tmp_path):
    with pytest.raises(ValidationError, match="with task_steps a step has one task"):
        mixed(world, tmp_path, interference={"remedies": ["task_steps", "pcgrad"]})
    with pytest.raises(ValidationError, match="with task_steps a step has one task"):
        mixed(world, tmp_path, interference={"every": 3, "remedies": ["task_steps"]})
    with pytest.raises(ValidationError, match="expected each once"):
        mixed(world, tmp_path, interference={"remedies": ["pcgrad", "pcgrad"]})


def test_every_trained_parameter_is_in_one_block(world):
    model = load_model(world / "model")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    blocks = blocks_of(family_of_model(model), names)
    assert sorted(place for places in blocks.values() for place in places) == list(range(len(names)))
    assert list(blocks) == ["vision", "projector", "embedding", "layers_0_0", "layers_1_1"]
    many = [f"model.language_model.layers.{i}.mlp.up_proj.weight" for i in range(28)]
    assert {b: len(p) for b, p in blocks_of(family_of_model(model), many).items()} == {
        "layers_0_6": 7,
        "layers_7_13": 7,
        "layers_14_20": 7,
        "layers_21_27": 7,
    }

"""The comparison of single-task and mixed runs compares like with like."""

from __future__ import annotations

import json

import pytest

from benchmarks.mixed_tasks import (
    CONFIGS,
    FORMS,
    WORLDS,
    compare,
    rewards_by_form,
    runs_of,
    settings_of,
    size_of,
    training_rewards,
)
from core.config import ConfigError, read_config
from rl.config import GRPOConfig


@pytest.fixture
def rewards(tmp_path):
    """Two seeds with two tasks; the run on math alone fails at counting, which is not its task."""
    values = {
        ("sft", "math"): 0.0, ("sft", "counting"): 0.0,
        ("single-math", "math"): 0.5, ("single-math", "counting"): 0.0,
        ("single-counting", "math"): 0.0, ("single-counting", "counting"): 1.0,
        ("mixed", "math"): 1.0, ("mixed", "counting"): 0.5,
    }  # fmt: skip
    evaluations = []
    for (name, task), value in values.items():
        folder = tmp_path / f"eval_{len(evaluations)}"
        folder.mkdir()
        lines = [
            json.dumps({"checkpoint": name, "task": task, "row_id": f"{task}-{row}", "reward": value})
            for row in range(4)
        ]
        (folder / "eval_rollouts.jsonl").write_text("\n".join(lines) + "\n")
        evaluations.append(folder)
    return {seed: rewards_by_form(evaluations, seed) for seed in (0, 1)}


def test_a_run_on_one_task_counts_for_that_task_alone(rewards):
    results = compare(rewards, ["single", "mixed"], ["math", "counting"])
    assert results["single"]["math"]["reward"]["mean"] == 0.5
    assert results["single"]["counting"]["reward"]["mean"] == 1.0
    assert results["single"]["all"]["reward"]["mean"] == 0.75


def test_differences_are_paired_by_task_over_the_seeds(rewards):
    results = compare(rewards, ["single", "mixed"], ["math", "counting"])
    assert results["mixed"]["math"]["from_single"]["mean"] == 0.5
    assert results["mixed"]["counting"]["from_single"]["mean"] == -0.5
    assert results["mixed"]["counting"]["from_single"]["by_seed"] == [-0.5, -0.5]
    assert results["mixed"]["all"]["from_sft"]["mean"] == 0.75
    assert "from_single" not in results["single"]["math"]


def test_some_of_the_tasks_are_compared_alone(rewards):
    results = compare(rewards, ["single", "mixed"], ["math"])
    assert list(results["mixed"]) == ["math", "all"]
    assert results["mixed"]["all"] == results["mixed"]["math"]


def test_captions_are_compared_by_what_is_right_as_well(tmp_path):
    records = [
        {
            "checkpoint": name,
            "task": "chat",
            "row_id": "0",
            "reward": score,
            "components": {"exact_text": right},
        }
        for name, score, right in (("sft", 0.1, 0.0), ("single-chat", 0.9, 0.0), ("mixed", 0.8, 1.0))
    ]
    (tmp_path / "eval_rollouts.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    mixed = compare({0: rewards_by_form([tmp_path], seed=0)}, ["single", "mixed"], ["chat"])["mixed"]
    assert mixed["chat"]["from_single"]["mean"] == mixed["all"]["from_single"]["mean"] == pytest.approx(-0.1)
    assert mixed["chat, exact_text"]["from_single"]["mean"] == 1.0


def test_rewards_of_training_are_means_over_tasks_by_parts_of_the_steps(tmp_path):
    runs = {
        "single-math": [{"reward/mean": value} for value in (0.0, 0.2, 0.4, 0.6)],
        "single-chat": [{"reward/mean": value} for value in (0.5, 0.5, 1.0, 1.0)],
        "mixed": [{"reward/math": 0.1, "reward/chat": 0.3}, {"reward/math": 0.3}, {"reward/chat": 1.0}, {"reward/chat": 1.0}],
    }  # fmt: skip
    for name, steps in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    means = training_rewards([tmp_path], ["single", "mixed"], ["math", "chat"], parts=2)
    assert means["single"] == pytest.approx([0.3, 0.75])
    assert means["mixed"] == pytest.approx([0.25, 1.0])  # a part of the steps may have no prompt of a task


def test_every_kind_of_single_form_has_a_run_for_each_task():
    assert runs_of(["single", "single+sqrt_lr", "mixed"], ["math", "chat"]) == [
        "single-math", "single-chat", "single+sqrt_lr-math", "single+sqrt_lr-chat", "mixed",
    ]  # fmt: skip


@pytest.mark.parametrize("config", [name for _, name, _ in WORLDS.values()])
@pytest.mark.parametrize("form", [*FORMS, "sqrt_lr+task_std+task_tokens+pcgrad", "single+sqrt_lr"])
def test_the_settings_of_a_form_are_its_remedies_in_the_worlds_config(config, form):
    changed = read_config(GRPOConfig, CONFIGS / f"grpo_{config}.yaml", settings_of(form, 1e-5, tasks=4))
    parts = set(form.split("+")) - {"single", "mixed"}
    assert changed.optimizer.learning_rate == pytest.approx(2e-5 if "sqrt_lr" in parts else 1e-5)
    assert changed.advantage == ("task_std" if "task_std" in parts else "group_std")
    assert set(changed.interference.remedies) == parts - {"task_std", "sqrt_lr"}


def test_a_remedy_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="interference.remedies"):
        read_config(GRPOConfig, CONFIGS / "grpo_demo.yaml", settings_of("task_token", 1e-5, tasks=6))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("single-math", (4, 100)),
        ("single+sqrt_lr-math", (4, 100)),
        ("mixed", (32, 100)),
        ("sqrt_lr+pcgrad", (32, 100)),
        ("task_steps", (4, 800)),
        ("task_std+task_steps", (4, 800)),
    ],
)
def test_every_form_has_as_many_prompts_and_updates_for_each_task(name, size):
    assert size_of(name, prompts=4, steps=100, tasks=8) == size

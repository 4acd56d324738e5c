"""report_to: what reaches a tracker, and what is said where it is not installed."""

from __future__ import annotations

import importlib.util

import pytest
from accelerate import Accelerator

from core.errors import RunError
from core.trackers import flat
from rl.loop import train
from tests.rl.small_run import metrics, small_config, write_small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_small_world(tmp_path_factory.mktemp("world"))


def test_tensorboard_gets_the_config_and_every_step(world, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(small_config(world, tmp_path, steps=2, report_to=["tensorboard"]))
    events = EventAccumulator(str(tmp_path / "onsight-grpo")).Reload()
    logged = [event.value for event in events.Scalars("reward/mean")]
    assert logged == pytest.approx([step["reward/mean"] for step in metrics(tmp_path)])
    (hyperparameters,) = (tmp_path / "onsight-grpo").glob("*/hparams.yml")
    assert "optimizer.learning_rate: 0.001" in hyperparameters.read_text()


def test_the_project_is_named_by_the_environment(world, tmp_path, monkeypatch):
    """Whether wandb then uses that name is wandb's: only accelerate's call is looked at."""
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    named = []
    monkeypatch.setattr(Accelerator, "init_trackers", lambda self, name, config: named.append(name))
    train(small_config(world, tmp_path, steps=1, report_to=["tensorboard"]))
    assert named == ["mine"]


def test_a_tracker_that_is_not_installed_is_one_clear_error(world, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("core.trackers.find_spec", lambda name: None if name == "wandb" else found(name))
    with pytest.raises(RunError, match="report_to: wandb is not installed"):
        train(small_config(world, tmp_path, report_to=["tensorboard", "wandb"]))


def test_a_config_is_flattened_to_values_that_trackers_take():
    assert flat({"a": {"b": 1.0, "c": None}, "d": [1, 2], "e": {}}) == {
        "a.b": 1.0,
        "a.c": "None",
        "d": "[1, 2]",
        "e": "{}",
    }

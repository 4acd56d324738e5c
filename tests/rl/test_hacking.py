"""A GRPO run whose reward model is hacked stops, keeps what it has done, and goes on where it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import RunError
from core.files.run_folder import checkpoints
from rewards.cli import main
from rl.loop import train
from tests.rl.small_run import metrics, small_config, write_small_world


def rising(completion: str, answer: dict, counter: str, **row: object) -> float:
    """A reward that rises with every call, across processes and resumed runs. counter: path of a file that counts."""
    with Path(counter).open("a") as file:
        file.write(".")
    return min(1.0, Path(counter).stat().st_size / 200)


def falling(completion: str, answer: dict, counter: str, **row: object) -> float:
    return 1 - min(1.0, Path(counter).stat().st_size / 200)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_small_world(tmp_path_factory.mktemp("world"))


def config(world: Path, out: Path, **hacking):
    functions = [
        {
            "function": f"{__file__}:{name}",
            "isolate": False,
            "component": name,
            "counter": str(out) + ".count",
            "weight": weight,
        }
        for name, weight in (("rising", 1.0), ("falling", 0.0))
    ]
    watch = {"proxy": "rising", "verified": "falling", "window": 5} | hacking
    rewards = {"grammar": "none", "tasks": {"digits": functions}}
    return small_config(world, out, rewards=rewards, checks={"hacking": watch}, steps=12, save_every=12)


def test_a_hacked_run_stops_with_a_checkpoint_and_goes_on_only_if_told_to(world, tmp_path, capsys):
    out = tmp_path / "run"
    with pytest.raises(RunError, match="'rising' rose from .* while 'falling' fell from .* Saved at step 10"):
        train(config(world, out))
    assert [p.name for p in checkpoints(out)] == ["checkpoint-10"]
    assert metrics(out)[-1]["hacking/verified"] < metrics(out)[0]["hacking/verified"]
    with pytest.raises(RunError, match="from steps 1-5 to 7-11"):  # the watch goes on where it stood
        train(config(world, out))
    assert (
        main(
            [
                "hacking",
                str(out / "rollouts.jsonl"),
                "--proxy",
                "rising",
                "--verified",
                "falling",
                "--window",
                "5",
            ]
        )
        == 0
    )
    assert "would have stopped the run after step 10: reward hacking" in capsys.readouterr().out
    train(config(world, out, stop=False))
    assert len(metrics(out)) == 12 and "".join(capsys.readouterr()).count("reward hacking") == 1


def test_a_watch_of_rewards_that_the_run_lacks_is_an_error_before_it(world, tmp_path):
    with pytest.raises(ValueError, match="expected a task with the rewards 'rising' and 'truth'"):
        config(world, tmp_path / "no", verified="truth")

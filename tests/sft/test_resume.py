"""Resuming SFT: exact where it goes on, a clear refusal where it could not be."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

import sft.loop
from core.errors import RunError
from tests.sft.test_loop import assert_same_weights, metrics, train

RUN = {"save_every": 2, "log_every": 3}


@pytest.fixture(scope="module")
def unbroken(tiny, rows_file, tmp_path_factory) -> Path:
    return train(tiny, rows_file, tmp_path_factory.mktemp("run"), **RUN).parent


@pytest.fixture
def half(unbroken, tmp_path) -> Path:
    """A run that was killed in its fourth step, with its log cut off in a line."""
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("checkpoint-4", "final", "finished.json"))
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    return out


def untimed(out: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in metrics(out)]


def test_a_resumed_run_equals_an_unbroken_one_between_two_logs_too(tiny, rows_file, unbroken, half):
    """Logs at step 3, over steps 1 to 3; the checkpoint is of step 2."""
    train(tiny, rows_file, half, resume="auto", **RUN)
    assert_same_weights(unbroken / "final", half / "final")
    assert untimed(half) == untimed(unbroken) and [line["step"] for line in metrics(half)] == [3]


def test_a_finished_run_does_nothing_but_say_so(tiny, rows_file, unbroken, capfd):
    before = {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.name != ".lock"}
    for _ in range(2):
        assert train(tiny, rows_file, unbroken, resume="auto", **RUN) == unbroken / "final"
    assert "finished already, at step 4" in "".join(capfd.readouterr())
    assert {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.name != ".lock"} == before


def test_a_run_killed_before_its_final_folder_takes_no_step_more(tiny, rows_file, unbroken, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("final", "finished.json"))
    train(tiny, rows_file, out, resume="auto", **RUN)
    assert_same_weights(unbroken / "final", out / "final")
    assert untimed(out) == untimed(unbroken) and not (out / "checkpoint-5").exists()


def test_a_finished_run_without_checkpoints_is_left_as_it_is(tiny, rows_file, tmp_path, capfd):
    once = train(tiny, rows_file, tmp_path, steps=1)
    assert train(tiny, rows_file, tmp_path, steps=1, resume="auto") == once
    assert "finished already" in "".join(capfd.readouterr())
    with pytest.raises(FileExistsError, match="an earlier run"):
        train(tiny, rows_file, tmp_path, steps=1)


def test_a_longer_run_goes_on_and_a_shorter_one_is_refused(tiny, rows_file, unbroken, tmp_path, capfd):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    changes = RUN | {"resume": "auto", "keep_checkpoints": 1}
    train(tiny, rows_file, out, steps=5, **changes)
    assert "steps: 4 until then, 5 from now on" in "".join(capfd.readouterr())
    assert sorted(p.name for p in out.glob("checkpoint-*")) == ["checkpoint-5"]
    with pytest.raises(RunError, match="steps: expected 5 or more, since"):
        train(tiny, rows_file, out, steps=3, **changes)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tiny, rows_file, unbroken, tmp_path, capfd):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("final", "finished.json"))
    os.truncate(out / "checkpoint-4/trainer_state/optimizer.bin", 1000)
    train(tiny, rows_file, out, resume="auto", **RUN)
    assert_same_weights(unbroken / "final", out / "final")
    assert "checkpoint-4 is damaged: trainer_state/optimizer.bin has 1,000 bytes" in "".join(
        capfd.readouterr()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer__learning_rate": 1e-4},
        {"seed": 3},
        {"rows_per_step": 2},
        {"model__trainable": "projector"},
        {"model__lora": {"r": 4}},
    ],
)
def test_another_setting_is_refused_by_name(tiny, rows_file, half, change):
    (key,) = change
    with pytest.raises(RunError, match=rf" {key.replace('__', '.')}"):
        train(tiny, rows_file, half, resume="auto", **RUN | change)


def test_a_folder_of_the_user_outlives_the_limit_of_checkpoints(tiny, rows_file, half):
    shutil.copytree(half / "checkpoint-2", half / "checkpoint-2-best")
    train(tiny, rows_file, half, resume="auto", **RUN | {"save_every": 1, "keep_checkpoints": 1})
    assert sorted(p.name for p in half.glob("checkpoint-*")) == ["checkpoint-2-best", "checkpoint-4"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_finishes_its_step_saves_and_goes_on_exactly(
    tiny, rows_file, unbroken, tmp_path, monkeypatch, capfd, number
):
    update = sft.loop.update

    def then_stop(run, rows):
        if run.step == 2:
            os.kill(os.getpid(), number)
        return update(run, rows)

    monkeypatch.setattr(sft.loop, "update", then_stop)
    with pytest.raises(SystemExit) as left:
        train(tiny, rows_file, tmp_path, **RUN | {"save_every": None})
    assert left.value.code == 128 + number
    assert f"saved {tmp_path}/checkpoint-3; the same command with resume=auto goes on" in "".join(
        capfd.readouterr()
    )
    monkeypatch.setattr(sft.loop, "update", update)
    train(tiny, rows_file, tmp_path, resume="auto", **RUN)
    assert_same_weights(unbroken / "final", tmp_path / "final")
    assert untimed(tmp_path) == untimed(unbroken)


@pytest.mark.parametrize("workers", [1])
def test_lora_with_dropout_and_worker_processes_goes_on_exactly(tiny, rows_file, tmp_path, workers):
    changes = {"model__lora": {"r": 4, "dropout": 0.3}, "data__workers": workers, "save_every": 3}
    train(tiny, rows_file, tmp_path / "a", **changes)
    ignored = shutil.ignore_patterns("checkpoint-4", "adapter", "merged", "finished.json")
    shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=ignored)
    train(tiny, rows_file, tmp_path / "b", resume="auto", **changes)
    assert_same_weights(tmp_path / "a/merged", tmp_path / "b/merged")
    assert untimed(tmp_path / "b") == untimed(tmp_path / "a")

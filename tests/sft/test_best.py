"""The best checkpoint by a loss on held-out rows, and early stopping: alone, resumed, on two processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.errors import RunError
from core.rows import read_rows, write_rows
from sft.best import Best
from sft.config import EarlyStopping
from sft.data import STAGE_NAMES
from tests.sft.test_loop import SMOOTH, assert_same_weights, metrics, settings, train
from tests.sft.test_processes import two

STOPPING = {"metric": "eval_loss/end", "patience": 2}
RUN = SMOOTH | {
    "steps": 8,
    "eval_every": 1,
    "save_every": 1,
    "keep_checkpoints": 1,
    "early_stopping": STOPPING,
}
"""The loss of the end token rises from step 1 to step 3: the traces of these rows end later than those of the training."""
RESULT = shutil.ignore_patterns("final", "finished.json")


@pytest.fixture(scope="module")
def held_out(rows_file, tmp_path_factory) -> Path:
    rows = read_rows(rows_file)[:4]
    for row in rows:
        row["trace"] |= {"conclusion": "When does it change and look?", "caption": "two two two"}
    return write_rows(rows, tmp_path_factory.mktemp("held_out") / "rows.jsonl")


@pytest.fixture(scope="module")
def stopped(tiny, rows_file, held_out, tmp_path_factory) -> Path:
    """A run that stops at step 3 of 8, two evaluations after its best one."""
    return train(tiny, rows_file, tmp_path_factory.mktemp("run"), data__eval_rows=str(held_out), **RUN).parent


def evaluations(out: Path) -> list[dict]:
    return [line for line in metrics(out) if "eval_loss" in line]


def test_a_run_stops_when_its_metric_rises_and_the_result_is_the_best_checkpoint(stopped):
    lines = evaluations(stopped)
    losses = [line["eval_loss/end"] for line in lines]
    assert len(losses) == 3 and losses[0] == min(losses)
    assert [line["best/step"] for line in lines] == [1, 1, 1]
    assert {line["best/eval_loss/end"] for line in lines} == {losses[0]}
    assert sorted(p.name for p in stopped.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-3"]
    assert_same_weights(stopped / "checkpoint-1", stopped / "final")


@pytest.mark.parametrize("last", [1, 3])
def test_a_resumed_run_stops_where_the_unbroken_one_did(tiny, rows_file, held_out, stopped, tmp_path, last):
    """From the best checkpoint; and from the one of the last step, after which nothing is left to do but the result."""
    shutil.copytree(stopped, tmp_path / "run", ignore=RESULT)
    if last == 1:
        shutil.rmtree(tmp_path / "run/checkpoint-3")
    changes = RUN | {"resume": "auto", "data__eval_rows": str(held_out)}
    train(tiny, rows_file, tmp_path / "run", **changes)
    assert evaluations(tmp_path / "run") == evaluations(stopped)
    assert_same_weights(stopped / "final", tmp_path / "run/final")


def test_more_patience_goes_on_and_the_last_weights_may_be_the_result(
    tiny, rows_file, held_out, stopped, tmp_path, capfd
):
    shutil.copytree(stopped, tmp_path / "run")
    changes = RUN | {"resume": "auto", "data__eval_rows": str(held_out)}
    changes["early_stopping"] = STOPPING | {"patience": 3, "final": "last"}
    train(tiny, rows_file, tmp_path / "run", **changes)
    assert "early_stopping.patience: 2 until then, 3 from now on" in "".join(capfd.readouterr())
    assert evaluations(tmp_path / "run")[:3] == evaluations(stopped)
    newest = max((tmp_path / "run").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    assert newest.name != "checkpoint-3"
    assert_same_weights(newest, tmp_path / "run/final")


def test_a_best_checkpoint_that_was_deleted_is_named_and_looked_for_anew(
    tiny, rows_file, held_out, stopped, tmp_path, capfd
):
    ignored = shutil.ignore_patterns("checkpoint-1", "final", "finished.json")
    shutil.copytree(stopped, tmp_path / "run", ignore=ignored)
    changes = RUN | {"resume": "auto", "data__eval_rows": str(held_out)}
    train(tiny, rows_file, tmp_path / "run", **changes)
    assert "checkpoint-1, the best until then, is not there any more" in "".join(capfd.readouterr())
    assert evaluations(tmp_path / "run")[3]["best/step"] == 4


def test_the_result_of_lora_is_the_best_too(tiny, rows_file, held_out, tmp_path):
    changes = RUN | {"data__eval_rows": str(held_out), "model__lora": {"r": 4}, "steps": 3}
    changes["early_stopping"] = {"metric": "eval_loss/end", "patience": None}
    train(tiny, rows_file, tmp_path, **changes)
    best = evaluations(tmp_path)[-1]["best/step"]
    assert best < 3 and len(evaluations(tmp_path)) == 3
    assert_same_weights(tmp_path / f"checkpoint-{best}", tmp_path / "merged")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ZeRO-3"])
def test_two_processes_stop_together_and_write_the_best(tiny, rows_file, held_out, stopped, tmp_path, kind):
    config = settings(tiny, rows_file, tmp_path / "run", data__eval_rows=str(held_out), **RUN)
    two(kind, config, tmp_path)
    ours, theirs = evaluations(tmp_path / "run"), evaluations(stopped)
    assert [line["best/step"] for line in ours] == [line["best/step"] for line in theirs]
    assert_same_weights(stopped / "final", tmp_path / "run/final", atol=1e-5, rtol=1e-4)


def test_the_last_step_is_evaluated(tiny, rows_file, tmp_path):
    train(tiny, rows_file, tmp_path, steps=3, eval_every=2, data__eval_rows=str(rows_file))
    assert [line["step"] for line in evaluations(tmp_path)] == [2, 3]


def test_a_metric_that_the_held_out_rows_lack_is_named_before_the_run(tiny, rows_file, tmp_path):
    changes = {"data__eval_rows": str(rows_file), "early_stopping": {"metric": "eval_loss/turns"}}
    with pytest.raises(RunError, match="early_stopping.metric: .*eval_loss/caption.*got eval_loss/turns"):
        train(tiny, rows_file, tmp_path, **changes)
    with pytest.raises(ValidationError, match="expected held-out rows to evaluate on"):
        train(tiny, rows_file, tmp_path, early_stopping={})


def test_every_stage_may_be_the_metric():
    names = EarlyStopping.model_fields["metric"].annotation.__args__
    assert set(names) == {"eval_loss", *(f"eval_loss/{stage}" for stage in STAGE_NAMES[1:])}


def test_small_improvements_count_once_they_add_up():
    best = Best()
    since = []
    for step, value in enumerate([1.0, 0.96, 0.92, 0.88, 0.9], start=1):
        best.look(step, value, min_delta=0.1)
        since.append(best.since)
    assert since == [0, 1, 2, 0, 1] and (best.step, best.value) == (4, 0.88)
    assert not best.enough(EarlyStopping(patience=2)) and best.enough(EarlyStopping(patience=1))
    assert not best.enough(None) and not best.enough(EarlyStopping(patience=None))

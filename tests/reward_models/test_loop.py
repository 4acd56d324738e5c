"""Whole runs of the tiny model: what is learnt, measured and saved, resuming, adapters, several processes, clear errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from core.errors import RowError
from core.files.jsonl import read
from core.rows import read_rows, write_rows
from reward_models.card import read_card
from reward_models.config import RewardModelConfig
from reward_models.loop import train as run
from reward_models.questions import Question
from reward_models.scoring import load_scorer
from tests import two_processes
from tests.sft.test_loop import assert_same_weights
from tests.sft.test_processes import ZERO
from vlm.checkpoint import CheckpointError

REPOSITORY = Path(__file__).parents[2]


def settings(tiny, file, output, **changes) -> dict:
    """A run of 4 steps, 6 pairs each; `changes` are dotted keys with `__`."""
    config = {
        "kind": "multimodal",
        "model": {"path": str(tiny)},
        "data": {"rows": str(file)},
        "optimizer": {"learning_rate": 3e-3, "schedule": "constant"},
        "steps": 4,
        "rows_per_step": 6,
        "output_dir": str(output),
        "log_every": 1,
        "resume": "never",
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = config
        for name in parents:
            section = section[name]
        section[last] = value
    return config


def train(tiny, file, output, **changes) -> Path:
    return run(RewardModelConfig.model_validate(settings(tiny, file, output, **changes)))


def metrics(output: Path) -> list[dict]:
    return list(read(output / "metrics.jsonl"))


def scores_of(folder: Path, file: Path) -> list[float]:
    scorer = load_scorer(str(folder), device="cpu")
    questions = [Question(row, row[field]) for row in read_rows(file) for field in ("chosen", "rejected")]
    return [float(verdict) for verdict in scorer.judge(questions)]


@pytest.fixture(scope="module")
def finished(tiny, pairs_file, tmp_path_factory):
    """An unbroken run with checkpoints and held-out pairs."""
    changes = {"save_every": 2, "data__eval_rows": str(pairs_file), "eval_every": 2}
    return train(tiny, pairs_file, tmp_path_factory.mktemp("run"), **changes)


def test_a_run_is_measured_and_leaves_a_checkpoint_that_scores(finished, pairs_file):
    lines = metrics(finished.parent)
    training, held_out = [x for x in lines if "loss" in x], [x for x in lines if "eval_accuracy" in x]
    assert [x["step"] for x in training] == [1, 2, 3, 4] and [x["step"] for x in held_out] == [2, 4]
    assert training[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # all scores are 0
    assert training[-1]["loss"] < training[0]["loss"]
    found = json.loads((finished.parent / "evaluation.json").read_text())
    assert found["step"] == 4 and found["pairs"] == 24 and set(found["by_source"]) == {"tiles", "more tiles"}
    assert set(found["by_kind"]) == {"wrong", "wordy"} and sum(b["pairs"] for b in found["calibration"]) == 24
    assert found["length"]["longer_loses"]["pairs"] == 12 and found["length"]["as_long"]["pairs"] == 12

    scores = torch.tensor(scores_of(finished, pairs_file))
    assert float((scores[0::2] > scores[1::2]).double().mean()) == pytest.approx(
        found["accuracy"], abs=1 / 24
    )
    card = read_card(finished)
    assert card is not None and card.scores == 48 and card.kind == "multimodal"
    assert card.mean == pytest.approx(float(scores.mean()), abs=1e-4)
    assert card.std == pytest.approx(float(scores.std(correction=0)), rel=1e-3)


def test_a_resumed_run_equals_an_unbroken_one(finished, tiny, pairs_file, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(finished.parent, output)
    shutil.rmtree(output / "checkpoint-4")
    shutil.rmtree(output / "final")
    changes = {"save_every": 2, "data__eval_rows": str(pairs_file), "eval_every": 2}
    again = train(tiny, pairs_file, output, resume="auto", **changes)
    assert_same_weights(finished, again)
    assert read_card(again) == read_card(finished)
    for one, other in zip(metrics(finished.parent), metrics(output), strict=True):
        assert {k: v for k, v in one.items() if k != "tokens_per_second"} == {
            k: v for k, v in other.items() if k != "tokens_per_second"
        }


def test_the_tiles_are_learnt_from_their_pixels(tiny, pairs_file, tmp_path):
    """The colours are in the images alone, for three rows in four."""
    changes = {"steps": 60, "rows_per_step": 24, "data__eval_rows": str(pairs_file), "log_every": 20}
    final = train(tiny, pairs_file, tmp_path / "run", **changes)
    assert json.loads((final.parent / "evaluation.json").read_text())["accuracy"] > 0.95


def test_a_text_model_is_made_of_the_language_model_alone(tiny, text_pairs_file, tmp_path):
    final = train(tiny, text_pairs_file, tmp_path / "run", kind="text")
    weights = load_file(final / "model.safetensors")
    assert not any("visual" in name for name in weights) and weights["score.weight"].shape == (1, 64)
    assert json.loads((final / "config.json").read_text())["architectures"] == [
        "Qwen2ForSequenceClassification"
    ]
    assert read_card(final).scores == 48  # of the training pairs, since none are held out


def test_adapters_are_saved_beside_a_whole_model_that_scores_the_same(
    tiny, pairs_file, text_pairs_file, tmp_path
):
    for kind, file in (("multimodal", pairs_file), ("text", text_pairs_file)):
        merged = train(
            tiny, file, tmp_path / kind, kind=kind, model__lora={"r": 4}, model__trainable="language"
        )
        base = load_file(tiny / "model.safetensors")
        weights = load_file(merged / "model.safetensors")
        moved = {name for name, w in weights.items() if name in base and not torch.equal(w, base[name])}
        assert moved and all(".layers." in name for name in moved), moved
        saved = load_file(merged.parent / "adapter/trained_base.safetensors")
        assert [name.rpartition("score")[1:] for name in saved] == [("score", ".weight")]
        card = read_card(merged)
        assert card.mean == pytest.approx(sum(scores_of(merged, file)) / 48, abs=1e-4)


@pytest.mark.slow
def test_two_processes_under_zero3_train_as_one(tiny, pairs_file, tmp_path):
    """Five pairs a step, some of them about text alone: shares are unequal, and no process has a whole weight."""
    changes = {"rows_per_step": 5, "steps": 3, "max_tokens_per_microbatch": 60, "optimizer__epsilon": 1e-3}
    changes |= {"data__eval_rows": str(pairs_file), "data__rows_together": 1}
    alone = train(tiny, pairs_file, tmp_path / "alone", **changes)
    config = settings(tiny, pairs_file, tmp_path / "run", **changes)
    stage = {"stage": 3, "stage3_param_persistence_threshold": 0}
    file = tmp_path / "zero.json"
    file.write_text(json.dumps(ZERO | {"zero_optimization": ZERO["zero_optimization"] | stage}))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(config | {"deepspeed": str(file)}))
    arguments = ["--config", str(tmp_path / "two.yaml")]
    two_processes.run(
        REPOSITORY / "reward_model.py", arguments, tmp_path / "log", {"CUDA_VISIBLE_DEVICES": ""}
    )
    for one, other in zip(metrics(tmp_path / "alone"), metrics(tmp_path / "run"), strict=True):
        for name in one.keys() - {"tokens_per_second", "tokens/shared"}:
            assert other[name] == pytest.approx(one[name], abs=5e-5), (one["step"], name)
    assert_same_weights(alone, tmp_path / "run/final", atol=2e-5, rtol=1e-4)


def broken(rows: list[dict]) -> list[tuple[dict, str]]:
    """Rows that cannot be used, and what is said of them."""
    return [
        (
            rows[0] | {"rejected": rows[0]["chosen"]},
            "field 'rejected': expected another response than 'chosen'",
        ),
        (rows[0] | {"chosen": " "}, "field 'chosen': expected a text that is not empty"),
        (rows[0] | {"margin": -1}, "field 'margin': expected a number of at least 0 or null, got -1"),
        (
            rows[0] | {"chosen": "<|im_end|> red"},
            r"row 'pair0': field 'chosen': expected plain text, got the special token",
        ),
        (
            rows[0] | {"chosen": "red " * 5000},
            "row 'pair0': expected at most 4096 tokens of prompt and response",
        ),
    ]


@pytest.mark.parametrize("case", range(5))
def test_rows_that_cannot_be_used_are_named_before_the_run(tiny, pairs_file, tmp_path, case):
    rows = read_rows(pairs_file)
    row, message = broken(rows)[case]
    file = write_rows([row, *rows[1:]], tmp_path / "pairs.jsonl")
    with pytest.raises(RowError, match=message):
        train(tiny, file, tmp_path / "run")


def test_pictures_are_not_for_text_models_nor_text_models_for_pictures(
    tiny, pairs_file, text_pairs_file, tmp_path
):
    with pytest.raises(RowError, match=r"row 'pair0': field 'prompt': expected text alone .* got 1 images"):
        train(tiny, pairs_file, tmp_path / "run", kind="text")
    text = train(tiny, text_pairs_file, tmp_path / "text", kind="text", steps=1)
    with pytest.raises(CheckpointError, match="expected a model of one of the families"):
        train(text, pairs_file, tmp_path / "other")

"""Evaluation of real models through the real engine, and what it says of input it cannot use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate as entry_point
from core.files.hub import HubError
from evaluation.config import EvaluationConfig
from evaluation.report import write_report
from evaluation.run import evaluate, summary_part
from evaluation.weights import named_weights, same_architecture
from rewards.errors import RewardDataError
from tests.evaluation.conftest import Bench
from tests.evaluation.letters import share_of_letters
from vlm.load import load_model, load_processor

LETTERS = {"function": str(Path(__file__).with_name("letters.py")) + ":share_of_letters", "isolate": False}
ROWS, SAMPLES = 14, 2
TASKS = ("choice", "counting", "grounding", "math", "pointing", "temporal")


def config_for(bench: Bench, output: Path, **changes) -> EvaluationConfig:
    settings = {
        "checkpoints": {"untrained": str(bench.one), "sft": str(bench.two), "rl": str(bench.wider)},
        "rows": str(bench.rows),
        "rewards": {"grammar": "none", "tasks": dict.fromkeys(TASKS, LETTERS)},
        "output_dir": str(output),
        "max_tokens": 12,
        "samples": SAMPLES,
        "batch_rows": 8,
        "engine": {"max_model_len": 512, "max_num_seqs": 32, "cpu_kvcache_gb": 0.25},
    }
    return EvaluationConfig.model_validate(settings | changes)


@pytest.fixture(scope="session")
def evaluated(bench, tmp_path_factory) -> tuple[dict, list[dict], Path]:
    """(result, answers, folder) of an evaluation of three checkpoints; the third needs an engine of its own."""
    output = tmp_path_factory.mktemp("run") / "eval-run"
    result = evaluate(config_for(bench, output), show=False)
    answers = [json.loads(line) for line in (output / "eval_rollouts.jsonl").read_text().splitlines()]
    return result, answers, output


@pytest.mark.slow
def test_every_checkpoint_answers_every_row(evaluated):
    result, answers, _ = evaluated
    for name in ("untrained", "sft", "rl"):
        mine = [one for one in answers if one["checkpoint"] == name]
        assert sum(one["mode"] == "greedy" for one in mine) == ROWS
        assert sum(one["mode"] == "sampled" for one in mine) == ROWS * SAMPLES
        assert all(1 <= one["tokens"] <= 12 for one in mine)
        assert result["checkpoints"][name]["greedy"]["overall"]["n"] == ROWS
        assert set(result["checkpoints"][name]["greedy"]["tasks"]) == set(TASKS)
    assert len({one["row_id"] for one in answers}) == ROWS


@pytest.mark.slow
def test_means_are_those_of_the_answers_that_were_kept(evaluated):
    result, answers, _ = evaluated
    for name in ("untrained", "sft", "rl"):
        for mode in ("greedy", "sampled"):
            by_row: dict[str, list[float]] = {}
            for one in answers:
                if (one["checkpoint"], one["mode"]) == (name, mode):
                    assert one["reward"] == share_of_letters(one["completion"])
                    by_row.setdefault(one["row_id"], []).extend(
                        [] if one["reward"] is None else [one["reward"]]
                    )
            means = [np.mean(rewards) for rewards in by_row.values() if rewards]
            assert result["checkpoints"][name][mode]["overall"]["mean"] == pytest.approx(np.mean(means))
    pair = next(d for d in result["differences"] if (d["before"], d["after"]) == ("untrained", "sft"))
    overall = [result["checkpoints"][name]["greedy"]["overall"]["mean"] for name in ("untrained", "sft")]
    assert pair["overall"]["mean"] == pytest.approx(overall[1] - overall[0])


@pytest.mark.slow
def test_a_checkpoint_handed_to_a_running_engine_answers_as_a_model_of_its_own(evaluated, bench, tmp_path):
    """The second checkpoint came by weight sync: the reference engine, started on it, says the same."""
    _, answers, _ = evaluated
    alone = config_for(
        bench,
        tmp_path,
        checkpoints={"sft": str(bench.two)},
        samples=0,
        engine={"kind": "transformers", "max_model_len": 512},
    )
    evaluate(alone, show=False)
    reference = {
        one["row_id"]: one["completion"]
        for one in map(json.loads, (tmp_path / "eval_rollouts.jsonl").read_text().splitlines())
    }
    said = {
        (one["checkpoint"], one["row_id"]): one["completion"] for one in answers if one["mode"] == "greedy"
    }
    assert {row: said["sft", row] for row in reference} == reference
    assert {row: said["untrained", row] for row in reference} != reference


@pytest.mark.slow
def test_the_result_is_what_the_run_summary_and_the_report_need(evaluated):
    result, _, output = evaluated
    assert json.loads((output / "eval.json").read_text()) == result
    part = summary_part(result)
    assert set(part["eval"]) == set(part["overall"]) == {"untrained", "sft", "rl"}
    assert {"mean", "ci95", "n"} <= set(part["eval"]["rl"]["grounding"])
    assert part["overall"]["rl"] == result["checkpoints"]["rl"]["greedy"]["overall"]["mean"]
    page = write_report(output).read_text()
    assert page.count('data-kind="held-out"') >= 3 * len(TASKS) and "drawn at random" in page


def test_weights_are_the_models_tied_head_included(bench):
    import torch

    ours = dict(named_weights(bench.one, torch.float32))
    model = load_model(bench.one)
    theirs = dict(model.named_parameters()) | {"lm_head.weight": model.lm_head.weight}
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert same_architecture(bench.one, bench.two) and not same_architecture(bench.one, bench.wider)


def test_a_trained_and_saved_checkpoint_counts_as_the_same_architecture(bench, tmp_path):
    processor = load_processor(bench.one)
    # changes what is saved
    processor.tokenizer(["a b", "c"], padding=True, truncation=True, max_length=5)
    processor.save_pretrained(tmp_path)
    load_model(bench.one).save_pretrained(tmp_path)
    assert same_architecture(bench.one, tmp_path)


def test_input_that_cannot_be_used_is_refused_before_an_engine_starts(bench, tmp_path):
    with pytest.raises(HubError, match="^checkpoints.sft: .*nowhere: no such folder"):
        evaluate(config_for(bench, tmp_path, checkpoints={"sft": str(tmp_path / "nowhere")}), show=False)
    with pytest.raises(HubError, match="^rows: rows not found: .*none.jsonl"):
        evaluate(config_for(bench, tmp_path, rows=str(tmp_path / "none.jsonl")), show=False)
    with pytest.raises(RewardDataError, match="has no reward"):
        evaluate(config_for(bench, tmp_path, rewards={"tasks": {"math": "math"}}), show=False)


def test_a_dry_run_prints_the_resolved_config_and_a_typo_is_named(bench, tmp_path, capsys):
    import yaml

    file = tmp_path / "eval.yaml"
    file.write_text(yaml.safe_dump(config_for(bench, tmp_path).model_dump(mode="json")))
    entry_point.main(["--config", str(file), "max_tokens=77", "--dry-run"])
    assert "max_tokens: 77" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        entry_point.main(["--config", str(file), "max_token=77"])
    assert stop.value.code == 2 and "max_tokens" in capsys.readouterr().err


def test_the_command_line_works_from_a_shell(bench):
    root = Path(entry_point.__file__).parent
    done = subprocess.run(
        [sys.executable, "evaluate.py", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "checkpoints" in done.stdout

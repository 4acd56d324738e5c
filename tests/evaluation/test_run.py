"""Evaluation of real models through the real engine, and what it says of input it cannot use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate as entry_point
from core.files.hub.ids import HubError
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


# ------------------------------------------------------------------------------------------- data sets, and detectors


@pytest.fixture
def coco_file(tmp_path) -> Path:
    """A COCO file in the train2017/val2017 layout: two images, two categories, one of them absent from the second image."""
    from PIL import Image

    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "val2017").mkdir()
    for name in ("000000000001.jpg", "000000000002.jpg"):
        Image.effect_noise((112, 84), 60).convert("RGB").save(tmp_path / "coco" / "val2017" / name)
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0, "area": 1.0}
        for i, (image, category, bbox) in enumerate(
            [(1, 17, [5, 5, 30, 30]), (1, 17, [50, 40, 40, 30]), (1, 18, [5, 50, 20, 20]), (2, 17, [9, 9, 40, 40])], 1
        )
    ]  # fmt: skip
    images = [
        {"id": i, "file_name": f"{i:012}.jpg", "width": 112, "height": 84} for i in (1, 2)
    ]  # fmt: skip
    names = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    path = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in annotations
    ]
    (tmp_path / "yolo.json").write_text(json.dumps(found[:3]))
    return path


@pytest.mark.slow
def test_a_policy_and_detectors_are_lines_of_one_table(bench, coco_file, tmp_path, capsys):
    """Through the command line, on published files: a policy, a results file, and a checkpoint of transformers."""
    import yaml

    from tests.evaluation.test_detectors import rtdetr

    settings = {
        "checkpoints": {"rl": str(bench.one)},
        "detectors": {
            "yolo": {"results": {"coco": str(tmp_path / "yolo.json")}},
            "rtdetr": {"path": str(rtdetr(tmp_path / "rtdetr"))},
        },
        "rows": str(bench.rows),
        "limit": 3,
        "data_sets": [
            {
                "name": "coco",
                "format": "coco",
                "path": str(coco_file),
                "options": {"media": str(coco_file.parents[1] / "val2017"), "frame_out": "resized"},
            }
        ],
        "rewards": {"grammar": "none", "tasks": {**dict.fromkeys(TASKS, LETTERS), "detection": "box_set"}},
        "output_dir": str(tmp_path / "eval"),
        "max_tokens": 8,
        "engine": {"kind": "transformers", "max_model_len": 512},
    }
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    entry_point.main(["--config", str(tmp_path / "eval.yaml")])
    result = json.loads((tmp_path / "eval" / "eval.json").read_text())
    lines = {(one["data_set"], one["model"]): one for one in result["data_sets"]}
    assert list(lines) == [("rows", "rl"), ("coco", "yolo"), ("coco", "rtdetr"), ("coco", "rl")]
    yolo, policy = lines["coco", "yolo"], lines["coco", "rl"]
    assert (policy["rows"], policy["images"], yolo["rows"]) == (4, 2, 4)  # every category in every image
    assert yolo["detection"]["recall"]["5"]["mean"] == pytest.approx((1 + 1 + 0) / 3)
    assert yolo["images_per_s"] is None and policy["images_per_s"] > 0 and policy["peak_memory_gib"] > 0
    assert lines["rows", "rl"]["detection"] is None  # no row asks for a box
    assert policy["reward"]["n"] == 4 and policy["hardware"] == result["settings"]["hardware"]
    answers = [
        json.loads(line) for line in (tmp_path / "eval" / "eval_rollouts.jsonl").read_text().splitlines()
    ]
    assert sum(one["row_id"].startswith("coco/") and "boxes" in one for one in answers) == 4
    table = (tmp_path / "eval" / "eval.md").read_text()
    assert "NDCG@20" in table and "| coco | yolo |" in table and table.rstrip().endswith(".")
    assert "yolo" in capsys.readouterr().out


def test_results_alone_need_no_images_and_no_rewards(coco_file, tmp_path):
    """The metrics of a results file do not depend on what stands beside it."""
    for image in (coco_file.parents[1] / "val2017").iterdir():
        image.unlink()
    config = EvaluationConfig.model_validate(
        {
            "detectors": {"yolo": {"results": {"coco": str(tmp_path / "yolo.json")}}},
            "data_sets": [{"name": "coco", "format": "coco", "path": str(coco_file)}],
            "output_dir": str(tmp_path / "eval"),
        }
    )
    (line,) = evaluate(config, show=False)["data_sets"]
    assert (line["images"], line["detection"]["questions"]) == (2, 4)
    assert line["detection"]["AP50"] == pytest.approx((0.7 + 1.0) / 2, abs=0.05)  # 2 of 3 cats, the dog


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoints": {}}, "expected checkpoints or detectors"),
        ({"rows": None}, "expected rows, data_sets or benchmarks"),
        ({"rewards": None}, "rewards: expected the reward functions"),
        ({"detectors": {"a": {}}}, "either path or results"),
        ({"detectors": {"sft": {"path": "x"}}}, "names other than those of checkpoints"),
        ({"detectors": {"a": {"results": {"coco": "x"}}}}, "names of data_sets, got 'coco'"),
        ({"data_sets": [{"name": "rows", "format": "coco", "path": "x"}]}, "unique names other than 'rows'"),
    ],
)
def test_a_config_that_asks_for_nothing_or_the_impossible_is_refused(bench, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config_for(bench, tmp_path, **change)

"""A real checkpoint answers benchmarks through `evaluate.py`."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from core.errors import RowError
from evaluation.benchmarks.__main__ import main
from evaluation.benchmarks.answering import Asked
from evaluation.benchmarks.config import BenchmarkConfig
from evaluation.config import EvaluationConfig
from evaluation.run import evaluate
from tests.data_recipes.endpoints import scripted_teacher
from tests.evaluation.benchmarks.test_questions import picture, tsv


def write_sets(folder: Path) -> tuple[Path, Path]:
    """MMStar as VLMEvalKit's TSV, ScreenSpot as published."""
    image = base64.b64encode(picture()).decode()
    header = ["index", "question", "A", "B", "answer", "category", "l2_category", "image"]
    rows = [[str(i), "Which one?", "left", "right", "AB"[i % 2], "math", "geometry", image] for i in range(3)]
    stars = tsv(folder / "MMStar.tsv", header, *rows)
    Image.new("RGB", (40, 30), "red").save(folder / "web.png")
    item = {
        "img_filename": "web.png",
        "bbox": [0, 0, 20, 15],
        "instruction": "close",
        "data_type": "icon",
        "data_source": "shop",
    }
    clicks = folder / "screenspot_web.json"
    clicks.write_text(json.dumps([item]))
    return stars, clicks


def test_checkpoints_answer_benchmarks_alone(bench, tmp_path: Path, capsys) -> None:
    stars, clicks = write_sets(tmp_path)
    output = tmp_path / "run"
    config = EvaluationConfig.model_validate(
        {
            "checkpoints": {"untrained": str(bench.one), "rl": str(bench.two)},
            "benchmarks": [
                {"benchmark": "mmstar", "questions": str(stars), "max_tokens": 8},
                {
                    "benchmark": "mmstar",
                    "name": "MMStar part",
                    "questions": str(stars),
                    "limit": 1,
                    "max_tokens": 8,
                },
                {"benchmark": "screenspot", "questions": str(clicks), "max_tokens": 8, "frame": "norm1000"},
            ],
            "output_dir": str(output),
            "engine": {"kind": "transformers", "max_model_len": 512},
        }
    )
    found = evaluate(config, show=True)["benchmarks"]
    assert list(found) == ["MMStar", "MMStar part, first 1", "ScreenSpot"]
    assert found["MMStar"]["rl"]["n"] == 3
    assert found["ScreenSpot"]["untrained"]["tokens"] <= 8
    assert json.loads((output / "eval.json").read_text())["benchmarks"] == found
    table = (output / "eval.md").read_text()
    assert "| MMStar | untrained | accuracy |" in table
    assert "| ScreenSpot | rl | accuracy |" in table
    assert found["MMStar"]["rl"]["difference"]["before"] == "untrained"
    assert found["MMStar"]["rl"]["difference"]["n"] == 3
    assert "to untrained" in table
    lines = (output / "benchmarks.csv").read_text().splitlines()
    assert lines[0].startswith("benchmark,model,metric,group,value,mean,low,high,n")
    assert any(line.startswith("MMStar,rl,accuracy,category,math,") for line in lines)
    assert "by their official rules" in capsys.readouterr().out

    answers = [json.loads(line) for line in (output / "predictions/mmstar/rl.jsonl").read_text().splitlines()]
    assert [one["id"] for one in answers] == ["0", "1", "2"]
    assert main(["score", "mmstar", "--questions", str(stars), "--predictions", str(output / "predictions/mmstar/rl.jsonl"), "--output", str(tmp_path / "again")]) == 0  # fmt: skip
    again = json.loads((tmp_path / "again" / "figures.json").read_text())
    assert again["metrics"] == found["MMStar"]["rl"]["metrics"]


def test_answers_go_to_the_judge_where_one_is_given(bench, tmp_path: Path) -> None:
    item = {"v1_0": {"imagename": None, "question": "?", "answer": "14", "capability": "ocr"}}
    (tmp_path / "mm-vet.json").write_text(json.dumps(item))
    with scripted_teacher(lambda body, number: "0.7") as judge:
        (tmp_path / "judge.yaml").write_text(f"{{base_url: {judge.url}, model: judge}}")
        benchmark = {
            "benchmark": "mmvet",
            "questions": str(tmp_path / "mm-vet.json"),
            "max_tokens": 4,
            "judge": str(tmp_path / "judge.yaml"),
        }
        settings = {
            "checkpoints": {"rl": str(bench.one)},
            "benchmarks": [benchmark],
            "output_dir": str(tmp_path / "run"),
            "engine": {"kind": "transformers", "max_model_len": 512},
        }
        found = evaluate(EvaluationConfig.model_validate(settings), show=False)["benchmarks"]["MM-Vet"]["rl"]
    assert found["metrics"]["accuracy"]["mean"] == 0.7
    assert found["judge"]["asked"] == 1
    assert "MM-Vet: the judge was asked about 1 answers" in (tmp_path / "run" / "eval.md").read_text()


def test_without_the_official_judge_the_table_says_so(bench, tmp_path: Path) -> None:
    item = {"v1_0": {"imagename": None, "question": "?", "answer": "14", "capability": "ocr"}}
    (tmp_path / "mm-vet.json").write_text(json.dumps(item))
    settings = {
        "checkpoints": {"rl": str(bench.one)},
        "benchmarks": [{"benchmark": "mmvet", "questions": str(tmp_path / "mm-vet.json"), "max_tokens": 4}],
        "output_dir": str(tmp_path / "run"),
        "engine": {"kind": "transformers", "max_model_len": 512},
    }
    found = evaluate(EvaluationConfig.model_validate(settings), show=False)["benchmarks"]["MM-Vet"]["rl"]
    assert "MM-Vet officially needs an LLM judge" in (tmp_path / "run" / "eval.md").read_text()
    assert found["tokens_per_s"] > 0


def test_images_stand_where_the_prompt_marks_them(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "4.jpg")
    question = {"id": "4", "question": "Look: <image1> Which?", "options": [], "answer": "2", "image": "4.jpg", "level": 1, "subject": "x"}  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(question))
    (row,) = Asked(BenchmarkConfig(benchmark="math_vision", questions=str(tmp_path / "test.jsonl"))).rows
    kinds = [part["type"] for part in row["prompt"][0]["content"]]
    assert kinds == ["text", "image", "text"]
    assert row["prompt"][0]["content"][2]["text"].strip() == "Which?"


def test_an_image_that_is_missing_is_named_before_any_engine_starts(tmp_path: Path) -> None:
    _, clicks = write_sets(tmp_path)
    (tmp_path / "web.png").unlink()
    with pytest.raises(
        RowError, match=r"ScreenSpot: question '0': field 'images\[0\]': expected an existing file"
    ):
        Asked(BenchmarkConfig(benchmark="screenspot", questions=str(clicks)))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"checkpoints": {}, "detectors": {"d": {"path": "x"}}}, "benchmarks: expected checkpoints"),
        ({"benchmarks": [{"benchmark": "vstar", "questions": "a"}] * 2}, "expected unique names, got 'vstar' again"),
        ({"benchmarks": []}, "expected rows, data_sets or benchmarks"),
    ],
)  # fmt: skip
def test_configs_that_make_no_sense(changes: dict, wrong: str) -> None:
    settings = {
        "checkpoints": {"a": "x"},
        "benchmarks": [{"benchmark": "vstar", "questions": "a"}],
        "output_dir": "o",
    }
    with pytest.raises(ValidationError, match=wrong):
        EvaluationConfig.model_validate(settings | changes)

"""Figures over all questions: means, groups that count once, parts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.benchmarks.__main__ import main
from evaluation.benchmarks.benchmark import BenchmarkError, load
from evaluation.benchmarks.scoring import figures, score_all


def answered(*texts: str) -> dict[str, dict[str, str]]:
    return {str(i): {"answer": text} for i, text in enumerate(texts)}


def test_circular_evaluation_counts_a_question_once_if_all_rotations_are_right() -> None:
    benchmark = load("mmbench")
    questions = [
        {"id": str(i), "g_index": group, "options": ["x", "y"], "answer": answer, "category": "c"}
        for i, (group, answer) in enumerate([("1", "A"), ("1", "B"), ("2", "A"), ("2", "B")])
    ]
    found = figures(benchmark, score_all(benchmark, questions, answered("A", "B", "A", "A")))
    assert found["metrics"]["accuracy"]["mean"] == 0.5
    assert found["metrics"]["accuracy"]["n"] == 2
    assert found["metrics"]["single"]["mean"] == 0.75


def test_hallusion_bench_by_question_pair_and_by_figure() -> None:
    benchmark = load("hallusion_bench")

    def question(own: int, figure: str, number: str, answer: str) -> dict[str, str]:
        return {
            "id": str(own), "category": "VS", "subcategory": "chart", "set_id": "0", "figure_id": figure,
            "question_id": number, "answer": answer,
        }  # fmt: skip

    questions = [question(0, "0", "0", "1"), question(1, "1", "0", "1"), question(2, "1", "1", "0")]
    metrics = figures(benchmark, score_all(benchmark, questions, answered("no", "yes", "no")))["metrics"]
    assert metrics["aAcc"]["mean"] == pytest.approx(2 / 3)
    assert metrics["qAcc"]["mean"] == 0.5  # question 0 is wrong without a figure
    assert (metrics["fAcc"]["mean"], metrics["fAcc"]["n"]) == (1.0, 1)  # no figure does not count


def questions_file(folder: Path) -> Path:
    rows = [
        {"index": i, "question": "?", "image": "a.png", "answer": "B", "category": c}
        for i, c in enumerate("xxy")
    ]
    path = folder / "val.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_scores_a_file_and_writes_every_verdict(tmp_path: Path, capsys) -> None:
    predictions = tmp_path / "p.json"
    predictions.write_text(json.dumps({"0": "B", "1": "(B)", "2": "A"}))
    command = [
        "score",
        "mmstar",
        "--questions",
        str(questions_file(tmp_path)),
        "--predictions",
        str(predictions),
    ]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert "66.67" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert found["groups"]["category"]["x"]["accuracy"]["mean"] == 1.0
    scores = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [one["scores"]["correct"] for one in scores] == [1, 1, 0]


def test_questions_without_predictions_are_refused_unless_asked_for(tmp_path: Path, capsys) -> None:
    predictions = tmp_path / "p.json"
    predictions.write_text(json.dumps({"0": "B"}))
    command = [
        "score",
        "mmstar",
        "--questions",
        str(questions_file(tmp_path)),
        "--predictions",
        str(predictions),
    ]
    with pytest.raises(SystemExit, match="got none for 2, e.g. '1'"):
        main(command)
    assert main([*command, "--partial"]) == 0
    assert "2 of 3 questions have no prediction and are left out." in capsys.readouterr().out


def test_predictions_of_other_questions_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="got 1 for others, e.g. '7'"):
        score_all(load("mmstar"), [{"id": "0", "answer": "B"}], {"7": {"answer": "B"}})


def test_what_the_official_judge_would_do_is_said(tmp_path: Path, capsys) -> None:
    (tmp_path / "q.json").write_text(
        json.dumps({"v1_0": {"imagename": "a.png", "question": "?", "answer": "14", "capability": "ocr"}})
    )
    (tmp_path / "p.json").write_text(json.dumps({"v1_0": "It is 14."}))
    assert (
        main(
            [
                "score",
                "mmvet",
                "--questions",
                str(tmp_path / "q.json"),
                "--predictions",
                str(tmp_path / "p.json"),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "officially needs an LLM judge: GPT-4 grades every answer" in out
    assert "not comparable with published figures" in out


def test_list_and_show(capsys) -> None:
    assert main(["list"]) == 0
    assert "mathllm/MATH-V@a1f5cc3" in capsys.readouterr().out
    assert main(["show", "vstar"]) == 0
    assert "title: V*Bench" in capsys.readouterr().out

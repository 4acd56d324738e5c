"""The official LLM judge, on a scripted endpoint over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.benchmarks.__main__ import main
from evaluation.benchmarks.benchmark import BenchmarkError, load, names
from evaluation.benchmarks.judging import judged, read_verdict
from evaluation.benchmarks.scoring import Scored, score_all
from tests.data_recipes.endpoints import scripted_teacher, text_of


def endpoint_file(folder: Path, url: str) -> Path:
    path = folder / "judge.yaml"
    path.write_text(f"{{base_url: {url}, model: judge, temperature: 0.0}}")
    return path


def ai2d(folder: Path) -> list[str]:
    """Two questions: one answer names an option, the other would need a judge."""
    rows = [
        {"question": f"Which {i}?", "options": ["a fox", "a hen"], "answer": "1", "image": "a.png"}
        for i in range(2)
    ]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "p.json").write_text(json.dumps({"1": "B", "2": "some kind of chicken"}))
    return ["score", "ai2d", "--questions", str(folder / "q.jsonl"), "--predictions", str(folder / "p.json")]


def test_only_answers_that_the_rules_do_not_read_are_judged_and_only_once(tmp_path: Path, capsys) -> None:
    def script(body, number):
        asked = text_of(body["messages"][-1]["content"])
        assert "some kind of chicken" in asked and "A. a fox B. a hen" in asked
        return "B"

    command = ai2d(tmp_path)
    with scripted_teacher(script) as judge:
        options = [
            "--judge",
            str(endpoint_file(tmp_path, judge.url)),
            "--judge-cache",
            str(tmp_path / "cache"),
        ]
        assert main([*command, *options, "--output", str(tmp_path / "out")]) == 0
        assert "100.00" in capsys.readouterr().out
        assert main([*command, *options]) == 0
        assert "asked about 1 answers (1 replies from the cache)" in capsys.readouterr().out
        assert len(judge.requests) == 1
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["judge"]["asked"] == 1


def test_a_verdict_that_cannot_be_read_is_asked_for_again_and_counted(tmp_path: Path, capsys) -> None:
    with scripted_teacher(lambda body, number: "I would rather not say") as judge:
        options = [
            "--judge",
            str(endpoint_file(tmp_path, judge.url)),
            "--judge-cache",
            str(tmp_path / "cache"),
        ]
        assert main([*ai2d(tmp_path), *options]) == 0
        assert len(judge.requests) == 3
    out = capsys.readouterr().out
    assert "50.00" in out and "1 verdicts could not be read" in out


def test_a_benchmark_without_a_judge_refuses_one(tmp_path: Path) -> None:
    from data_recipes.teacher.endpoint import Endpoint

    with pytest.raises(BenchmarkError, match=r"V\*Bench: expected a benchmark with a judge"):
        judged(load("vstar"), [], Endpoint(base_url="http://127.0.0.1:1/v1", model="m"), tmp_path)


HALLUSION = {"id": "1", "category": "VS", "figure_id": "0", "answer": "1"}


@pytest.mark.parametrize(
    ("name", "question", "reply", "expected"),
    [
        ("hallusion_bench", HALLUSION, "Incorrect.", 0),
        ("hallusion_bench", HALLUSION, "“correct”", 1),
        ("hallusion_bench", HALLUSION, "unclear", 1),  # no figure: not to know is right
        ("hallusion_bench", HALLUSION | {"figure_id": "1"}, "unclear", 0),
        ("hallusion_bench", HALLUSION, "hm", None),
        ("mmvet", {"id": "1", "answer": "x"}, " 0.4", 0.4),
        ("mmvet", {"id": "1", "answer": "x"}, "1.0", 1),
        ("mmvet", {"id": "1", "answer": "x"}, "7", None),
        ("visual_probe", {"id": "1", "answer": "x"}, "It is near 0.5 m.\nScore: 1", 1),
        ("mathvista", {"id": "1", "answer": "14", "question_type": "free_form", "answer_type": "integer"}, " 14\n", 1),
        ("mathvista", {"id": "1", "answer": "14", "question_type": "free_form", "answer_type": "integer"}, "", None),
    ],
)  # fmt: skip
def test_verdicts(name: str, question: dict, reply: str, expected: float | None) -> None:
    benchmark = load(name)
    assert benchmark.judge is not None
    verdict = read_verdict(
        benchmark, benchmark.judge, Scored(question, "said", None, {"correct": 0.0}), reply
    )
    assert (None if verdict is None else verdict.scores["correct"]) == expected


def test_every_official_judge_has_a_prompt_with_the_response_in_it() -> None:
    judges = {name: load(name).judge for name in names() if load(name).judge}
    assert set(judges) == {"ai2d", "hallusion_bench", "mathvista", "mmbench", "mmvet", "visual_probe"}
    assert all(judge.prompt and "{{response}}" in judge.prompt for judge in judges.values())


def test_text_of_a_question_is_not_run_as_a_template() -> None:
    benchmark = load("mmvet")
    question = {"id": "1", "question": "{{ 7 * 6 }}", "answer": "{{answer}}"}
    assert "{{ 7 * 6 }}" in benchmark.ask(question)
    answers = score_all(benchmark, [question], {"1": {"answer": "{{ 7 * 6 }}"}})
    assert answers[0].prediction == "{{ 7 * 6 }}"

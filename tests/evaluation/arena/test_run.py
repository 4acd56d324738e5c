"""The arena on scripted endpoints over HTTP: both orders, images shown, replies kept, endpoints as contestants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from core.errors import RunError
from core.rows import write_rows
from evaluation.arena.__main__ import main
from evaluation.arena.config import ArenaConfig
from evaluation.arena.run import run
from tests.data_recipes.endpoints import ScriptedTeacher, scripted_teacher


def rows_file(folder: Path, count: int = 3) -> Path:
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    # Each row asks something else: of equal requests a later one may be answered from the cache.
    rows = [
        {
            "id": f"r{i}",
            "task": "chat",
            "prompt": [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": f"What is in corner {i}?"}],
                }
            ],
            "images": [str(folder / "a.png")],
            "answer": None,
        }
        for i in range(count)
    ]
    return write_rows(rows, folder / "rows.jsonl")


def prefers_good(body, number: int) -> str:
    """A judge that finds the better answer, and prefers the first among equals."""
    text = ScriptedTeacher(lambda *_: "", requests=[body]).text(0)
    first, second = text.split("Assistant B's Answer")[0], text.split("Assistant B's Answer")[1]
    return "[[A>>B]]" if "good" in first or "good" not in second else "It is B. [[B>A]]"


def answers_file(folder: Path, **texts: str) -> Path:
    """As `evaluate.py` writes them: greedy and sampled answers of several checkpoints."""
    path = folder / "eval_rollouts.jsonl"
    lines = [
        {"checkpoint": name, "mode": mode, "row_id": f"r{i}", "completion": text if mode == "greedy" else "?"}
        for name, text in texts.items()
        for mode in ("greedy", "sampled")
        for i in range(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def config_for(folder: Path, judge: ScriptedTeacher, **contestants: dict) -> dict:
    (folder / "judge.yaml").write_text(f"{{base_url: {judge.url}, model: judge}}")
    return {
        "rows": str(rows_file(folder)),
        "contestants": contestants,
        "judge": str(folder / "judge.yaml"),
        "resamples": 100,
        "output_dir": str(folder / "arena"),
    }


def test_two_checkpoints_in_both_orders_with_the_image(tmp_path: Path, capsys) -> None:
    bad = "<SUMMARY>s</SUMMARY><CAPTION>good</CAPTION><REASONING>r</REASONING><CONCLUSION>bad</CONCLUSION>"
    answers = {"answers": str(answers_file(tmp_path, sft=bad, rl="good"))}
    with scripted_teacher(prefers_good) as judge:
        config = ArenaConfig.model_validate(config_for(tmp_path, judge, sft=answers, rl=answers))
        found = run(config)
        assert len(judge.requests) == 6  # three rows, both orders
        parts = judge.requests[0]["messages"][1]["content"]
        assert sum(part["type"] == "image_url" for part in parts) == 1
        again = run(config, show=False)
        assert len(judge.requests) == 6  # all replies come from the cache
    assert found["wins"] == {
        "sft": {"rl": 0.0},
        "rl": {"sft": 1.0},
    }  # of an answer only its conclusion is judged
    assert found["ratings"] == again["ratings"]
    assert found["ratings"]["plain"]["rl"]["rating"] > found["ratings"]["plain"]["sft"]["rating"]
    assert found["position_bias"] == 0.5
    table = (tmp_path / "arena" / "arena.md").read_text()
    assert table.splitlines()[2].startswith("| rl |")
    assert "6 judgements, each pair in both orders" in capsys.readouterr().out
    judgements = (tmp_path / "arena" / "judgements.jsonl").read_text().splitlines()
    assert {json.loads(line)["won"] for line in judgements} == {0.0, 1.0}


def test_an_endpoint_is_a_contestant_and_unreadable_verdicts_are_counted(tmp_path: Path) -> None:
    def script(body, number):
        if body["model"] == "teacher":
            return "good"
        return "no verdict" if "r0" in str(number) else prefers_good(body, number)

    with scripted_teacher(script) as judge:
        (tmp_path / "teacher.yaml").write_text(f"{{base_url: {judge.url}, model: teacher}}")
        ours = {"answers": str(answers_file(tmp_path, rl="bad")), "checkpoint": "rl"}
        settings = config_for(
            tmp_path, judge, ours=ours, teacher={"endpoint": str(tmp_path / "teacher.yaml")}
        )
        found = run(ArenaConfig.model_validate(settings), show=False)
    assert found["wins"]["teacher"]["ours"] == 1.0
    assert found["counts"]["teacher/requests"] == 3

    with scripted_teacher(lambda body, number: "good" if body["model"] == "teacher" else "?") as judge:
        (tmp_path / "teacher.yaml").write_text(f"{{base_url: {judge.url}, model: teacher}}")
        settings = config_for(
            tmp_path, judge, ours=ours, teacher={"endpoint": str(tmp_path / "teacher.yaml")}
        )
        settings["output_dir"] = str(tmp_path / "other")
        with pytest.raises(RunError, match="expected verdicts, got none that could be read of 6"):
            run(ArenaConfig.model_validate(settings), show=False)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"id": "r0", "response": "x"}\n', "got none to 2, e.g. 'r1'"),
        ('{"id": "r0"}\n', r"a\.jsonl:1: expected id and response, got id"),
        ("{\n", r"a\.jsonl:1: expected a JSON object"),
    ],
)
def test_answers_that_are_missing_or_broken_are_named(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    answers = {"answers": str(tmp_path / "a.jsonl")}
    settings = config_for(
        tmp_path, ScriptedTeacher(prefers_good, "http://127.0.0.1:1/v1"), a=answers, b=answers
    )
    with pytest.raises(RunError, match=wrong):
        run(ArenaConfig.model_validate(settings), show=False)


def test_the_command_checks_its_config(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["rows=x", "judge=j", "output_dir=o", "contestants={a: {answers: f}}"])
    assert "contestants" in capsys.readouterr().err

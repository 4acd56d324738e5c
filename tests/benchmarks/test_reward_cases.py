"""The table of hand-written reward cases: what it counts, and that the real cases stay decided as expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reward_cases

BOX = {"box": [10, 20, 50, 60], "frame": "pixel"}
CASES: list[dict[str, Any]] = [
    {"reward": "choice", "answer": {"letter": "B"}, "completion": "B", "expected": 1, "kind": "letter"},
    {"reward": "choice", "answer": {"letter": "B"}, "completion": "C", "expected": 0, "kind": "letter"},
    {"reward": "choice", "answer": {"letter": "B"}, "completion": "C", "expected": 1, "kind": "mistaken"},
    {"reward": "iou", "answer": BOX, "completion": "[10, 20, 50, 61]", "expected": 0, "kind": "box"},
    {"reward": "iou", "answer": BOX, "completion": "[100, 200, 500, 600]", "expected": 1, "kind": "frame",
     "row": {"frame_out": "norm1000", "image_size": [100, 100]}},
    {"reward": "iou", "answer": {"box": [5, 5, 5, 5]}, "completion": "[1, 2, 3, 4]", "expected": 0, "kind": "refused"},
]  # fmt: skip


def write(folder: Path, cases: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rewards.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return folder


def test_cases_are_counted_by_reward_and_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reward_cases.main([str(write(tmp_path, CASES)), "--wrong"]) == 1
    printed = capsys.readouterr().out
    assert "| choice | letter | 2 | 2 | 100.0 % |" in printed
    assert "| choice | mistaken | 1 | 0 | 0.0 % |" in printed
    assert "| iou | all | 3 | 2 | 66.7 % |" in printed
    assert '"kind": "mistaken"} got 0.0' in printed and "got truth refused: answer.boxes" in printed
    assert json.loads(printed.splitlines()[-1]) == {
        "cases": 6,
        "as_expected": 4,
        "share": pytest.approx(4 / 6),
    }


def test_a_kept_result_is_shown_beside_and_lost_cases_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, kept = str(write(tmp_path / "cases", CASES)), tmp_path / "kept.json"
    reward_cases.main([folder, "--save", str(kept)])
    wrong = json.loads(kept.read_text())
    kept.write_text(json.dumps(wrong[1:]))  # as if the mistaken case had been decided as expected before
    capsys.readouterr()
    reward_cases.main([folder, "--against", str(kept)])
    printed = capsys.readouterr().out
    assert "| choice | mistaken | 1 | 0 | 0.0 % | 100.0 % |" in printed
    assert "1 cases were decided as expected before and are not now" in printed


@pytest.mark.parametrize("line", ['{"reward": "choice"}', '{"reward": "no", "answer": {}, "completion": "", "expected": 1, "kind": ""}'])  # fmt: skip
def test_a_line_that_is_no_case_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "rewards.jsonl").write_text("\n" + line + "\n")
    with pytest.raises(ValueError, match="line 2: expected a case"):
        reward_cases.read_cases(tmp_path)


def test_hand_written_cases_are_decided_as_expected(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data.parent / "cases"
    if not (folder / "rewards.jsonl").is_file():
        pytest.skip(f"no hand-written cases at {folder}")
    assert reward_cases.main([str(folder), "--wrong"]) == 0, capsys.readouterr().out
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cases"] >= 800

"""The check of the text filters says what is missing, and holds on the real rows that are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import text_filters


def figures(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, int]]:
    return json.loads(next(line for line in capsys.readouterr().out.splitlines() if line.startswith("{")))


def test_real_rows_are_decided_as_a_reader_decided_them(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text_filters.main([str(shared_data)]) == 0
    found = figures(capsys)
    for name in (
        "repetition",
        "languages: [en]",
        "free_form, needs its options",
        "given_answer",
        "unseen_media",
    ):
        for half in ("rules", "aside"):
            counts = found[f"{name}/{half}"]
            assert counts["should"] >= 3, name
            assert counts["found"] >= 0.9 * counts["should"], (name, half)
            assert counts["wrongly"] <= 1, (name, half)


def test_a_folder_without_sets_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert text_filters.main([str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "not there:" in captured.out and "nothing real was checked" in captured.err

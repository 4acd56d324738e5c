"""Agreement with recorded verdicts on real model outputs stays at what the benchmark's limits say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import reward_agreement


def test_recorded_verdicts_are_reproduced(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reward_agreement.main(["--data", str(shared_data)]) == 0
    printed = capsys.readouterr().out
    assert "| gui_points | point_in_box | ScreenSpot-Pro verdicts |" in printed
    assert '"passed": true' in printed.splitlines()[-1]


def test_half_open_boxes_matter_on_the_recorded_clicks(shared_data: Path) -> None:
    """The two edge cases that a closed test gets wrong."""
    rows = list(reward_agreement.read_lines(shared_data / "gui_points" / "logs_sspro_omniv2.jsonl"))
    edges = [
        row
        for row in rows
        if row["bbox"][0] <= row["pred"][0] <= row["bbox"][2]
        and row["bbox"][1] <= row["pred"][1] <= row["bbox"][3]
        and (row["pred"][0] == row["bbox"][2] or row["pred"][1] == row["bbox"][3])
    ]
    assert edges and all(row["correctness"] == "wrong" for row in edges)

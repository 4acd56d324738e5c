"""On real photographs, fixed boxes score no better than the centre box, and the benchmark's table shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import constant_answers


def test_fixed_boxes_earn_next_to_nothing_above_the_centre(shared_data: Path) -> None:
    rows = constant_answers.read_voc(shared_data / "raccoon" / "annotations")
    means = constant_answers.measure(rows)
    for answer in constant_answers.FIXED:
        assert means[answer]["iou_above_centre"] == pytest.approx(0.0)
        assert means[answer]["giou"] > 0.6  # the floor of MiMo-VL's map
    assert means["the best fixed box"]["iou_above_centre"] < 0.15
    looking = means["the true box shifted by 5 %"]["iou_above_centre"]
    assert looking > 3 * means["the best fixed box"]["iou_above_centre"]


def test_annotations_become_a_row_for_each_box(tmp_path: Path) -> None:
    box = "<object><bndbox><xmin>{}</xmin><ymin>10</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object>"
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>100</width><height>80</height></size>"
        + box.format(5) + box.format(20) + box.format(45) + "</annotation>"
    )  # fmt: skip
    rows = constant_answers.read_voc(tmp_path)
    assert [(row.size, row.true) for row in rows] == [
        ((100, 80), (5, 10, 40, 50)),
        ((100, 80), (20, 10, 40, 50)),
    ]
    assert rows[0].shifted(0.1) == pytest.approx((8.5, 14, 43.5, 54))
    with pytest.raises(ValueError, match="expected annotations"):
        constant_answers.read_voc(tmp_path / "none")

"""Moments spread evenly over their videos: cells are cut to one height, whatever the order of rows, and bins are counted."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from data_recipes.operations.balance_moments import OPERATIONS, BalanceMoments, height
from data_recipes.records import Context, Signature
from data_recipes.synthetic.world import encoded_video

OPERATION = OPERATIONS["balance_moments"]


def row(
    name: Any, *spans: list[float], duration: float | None = 100.0, task: str = "temporal"
) -> dict[str, Any]:
    known = {} if duration is None else {"duration": duration}
    return {"id": str(name), "task": task, "answer": {"spans": list(spans)}, "videos": ["v.mp4"]} | known


def skewed(count: int) -> list[dict[str, Any]]:
    """Half of the moments begin with the video, and most are short, as in real sets."""
    r = random.Random(0)
    rows = []
    for i in range(count):
        start = 0.0 if r.random() < 0.5 else r.uniform(0, 70)
        rows.append(row(i, [start, start + r.choice([3, 8, 8, 8, 8, 15, 28])]))
    return rows


def removed(rows: list[dict[str, Any]], seed: int = 0, **options: Any) -> tuple[set[str], Counter]:
    typed, context = BalanceMoments(**options), Context(None, seed=seed)  # type: ignore[arg-type]

    def signatures():
        for one in rows:
            yield Signature(one["id"], one["task"], "set", json.loads(json.dumps(OPERATION.sign(one, typed))))

    return {d.id for d in OPERATION.decide(signatures, typed, context)}, context.counts


def bins(counts: Counter, kind: str, when: str) -> list[int]:
    return [n for key, n in counts.items() if key.startswith(kind) and key.endswith(when)]


def test_starts_and_lengths_spread_evenly():
    rows = skewed(4000)
    gone, counts = removed(rows, keep=0.3)
    assert 4000 - len(gone) >= 1200
    for kind in ("start", "length"):
        before, after = bins(counts, kind, ": before"), bins(counts, kind, ": after")
        assert sum(before) == 4000 and sum(after) == 4000 - len(gone)
        assert max(after) / np.mean(after) < 0.75 * max(before) / np.mean(before), kind
    assert counts["start 0 to 0.1: before"] > 2000 and counts["start 0 to 0.1: after"] < 500


def test_no_cell_keeps_more_than_its_height_and_small_ones_keep_all():
    rows = [row(f"a{i}", [0, 8]) for i in range(50)] + [row(f"b{i}", [55, 63]) for i in range(5)]
    gone, counts = removed(rows, keep=0.5)
    assert len(gone) == 27 and all(name.startswith("a") for name in gone)  # 5 + 23 of 55 stay
    assert counts["rows_per_cell_at_most"] == 23
    assert removed(rows, keep=1.0)[0] == set()


def test_the_choice_depends_on_seed_and_id_alone():
    rows = skewed(300)
    first = removed(rows)[0]
    assert removed(rows[::-1])[0] == first != removed(rows, seed=1)[0]


def test_the_height_is_the_lowest_that_leaves_enough():
    r = random.Random(1)
    for _ in range(200):
        sizes = [r.randint(1, 40) for _ in range(r.randint(1, 12))]
        keep = r.choice([0.1, 0.37, 0.5, 0.9, 1.0])
        most = height(sizes, keep)
        assert sum(min(n, most) for n in sizes) >= keep * sum(sizes) - 1e-9
        assert most == 1 or sum(min(n, most - 1) for n in sizes) < keep * sum(sizes)
    assert height([], 0.5) == 0


def test_cells_are_of_the_first_start_and_the_length_of_all_spans():
    options = BalanceMoments()
    assert OPERATION.sign(row("a", [0, 5]), options) == {
        "start": "start 0 to 0.1",
        "length": "length 0.05 to 0.1",
    }
    several = row("a", [90, 95], [30, 60])
    assert OPERATION.sign(several, options) == {"start": "start 0.3 to 0.4", "length": "length 0.2 to 0.4"}
    whole = row("a", [0, 100])
    assert OPERATION.sign(whole, options)["length"] == "length 0.4 to 1"
    assert OPERATION.sign(row("a", [0, 5], task="math"), options) == {}
    assert OPERATION.sign({"id": "a", "task": "temporal", "answer": None}, options) == {}


def test_without_a_duration_the_file_says_it(tmp_path):
    frames = (np.zeros((64, 64, 3), np.uint8) for _ in range(20))
    (tmp_path / "v.mp4").write_bytes(encoded_video(frames, 2))
    made = row("a", [5, 6], duration=None) | {"videos": [str(tmp_path / "v.mp4")]}
    assert OPERATION.sign(made, BalanceMoments())["start"] == "start 0.5 to 0.6"
    part = made | {"videos": [{"path": str(tmp_path / "v.mp4"), "start": 2.0, "end": 8.0}]}
    assert OPERATION.sign(part, BalanceMoments())["start"] == "start 0.8 to 0.9"
    with pytest.raises(ValueError, match="expected a column 'duration' or the video"):
        OPERATION.sign(made | {"videos": []}, BalanceMoments())


@pytest.mark.parametrize("edges", [(0.2, 0.1), (0.0, 0.5), (0.5, 1.0), (-0.1, 0.5)])
def test_edges_must_rise_between_0_and_1(edges):
    with pytest.raises(ValidationError, match="expected edges that rise"):
        BalanceMoments(lengths=edges)

"""All rows are checked once before a run, in worker processes; unusable ones are named."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from core.rows import RowError
from vlm import preflight
from vlm.inputs import encode_row, prompt_length
from vlm.load import load_processor
from vlm.preflight import look_at_rows, row_key, usable_rows
from vlm.tiny import build_tiny_vlm


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build_tiny_vlm(folder, ["what is it"] * 3, hidden=64, layers=1)
    return load_processor(folder)


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ONSIGHT_CACHE", str(tmp_path / "cache"))


def rows_in(folder: Path, count: int) -> list[dict]:
    rows = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.new("RGB", (28 * (1 + i % 3), 28)).save(path)
        content = [{"type": "image"}, {"type": "text", "text": f"what is {i}"}]
        prompt = [{"role": "user", "content": content}]
        rows.append({"id": f"r{i}", "prompt": prompt, "trace": None, "images": [str(path)], "videos": []})
    return rows


class Counted:
    """`prompt_length`, with the ids it was asked about."""

    def __init__(self, processor):
        self.processor, self.seen = processor, []

    def __call__(self, row):
        self.seen.append(row["id"])
        return prompt_length(self.processor, row)


def look(rows, measure, **changes):
    return look_at_rows(rows, measure, measure.processor, **{"what": "prompts", "max_frames": 8} | changes)


def test_lengths_are_those_of_the_encoded_prompts(processor, tmp_path):
    rows = rows_in(tmp_path, 6)
    looked = look(rows, Counted(processor))
    assert looked.lengths == [len(encode_row(processor, row)) for row in rows] and not looked.problems


def test_a_second_look_measures_only_what_is_new_has_changed_or_failed(processor, tmp_path):
    rows = rows_in(tmp_path, 6)
    Path(rows[2]["images"][0]).write_bytes(b"no image")
    first, second = Counted(processor), Counted(processor)
    looked = look(rows[:5], first)
    assert len(first.seen) == 5 and looked.problems.keys() == {"r2"} and looked.lengths[2] == 0
    assert "row 'r2': expected an image that decodes, got " + rows[2]["images"][0] in looked.problems["r2"]
    Image.new("RGB", (84, 56)).save(rows[1]["images"][0])
    rows[3]["prompt"][0]["content"][1]["text"] += " now"
    again = look(rows, second)
    assert second.seen == ["r1", "r2", "r3", "r5"]  # another image, broken, another text, new
    assert again.lengths == [len(encode_row(processor, r)) if r["id"] != "r2" else 0 for r in rows]


def test_another_setting_is_another_look(processor, tmp_path):
    rows = rows_in(tmp_path, 2)
    for changes in ({}, {"what": "traces"}, {"max_frames": 16}):
        measure = Counted(processor)
        look(rows, measure, **changes)
        assert len(measure.seen) == 2


def test_a_cut_line_and_a_cache_that_cannot_be_written_cost_nothing_but_time(
    processor, tmp_path, monkeypatch
):
    rows = rows_in(tmp_path, 3)
    expected = look(rows, Counted(processor))
    (file,) = (tmp_path / "cache/rows").iterdir()
    file.write_text(file.read_text()[:-20])
    measure = Counted(processor)
    assert look(rows, measure) == expected and measure.seen == ["r2"]
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("ONSIGHT_CACHE", str(tmp_path / "blocked"))
    assert look(rows, Counted(processor)) == expected


def test_workers_find_what_this_process_finds(processor, tmp_path, monkeypatch):
    rows = rows_in(tmp_path, 40)
    Path(rows[17]["images"][0]).write_bytes(b"no image")
    alone = look(rows, Counted(processor))
    monkeypatch.setenv("ONSIGHT_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(preflight, "ROWS_PER_WORKER", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    measure = Counted(processor)
    assert look(rows, measure) == alone and not measure.seen  # elsewhere


def test_the_key_of_a_row_is_its_content(tmp_path):
    (row,) = rows_in(tmp_path, 1)
    assert row_key(row) == row_key(row | {"id": "other", "answer": {"value": 1}})
    in_bytes = row | {"images": [{"bytes": Path(row["images"][0]).read_bytes()}]}
    assert len({row_key(row), row_key(in_bytes), row_key(row | {"images": [], "videos": row["images"]})}) == 3
    assert row_key(row | {"images": [str(tmp_path / "gone.png")]}) is None


def test_unusable_rows_stop_the_run_or_are_left_out_up_to_a_share(tmp_path):
    rows = rows_in(tmp_path, 50)
    problems = {f"r{i}": f"row 'r{i}': broken" for i in range(25)}
    keep = partial(usable_rows, rows, path="rows.jsonl")
    with pytest.raises(
        RowError, match=r"rows\.jsonl: 25 of 50 rows cannot be used .*\n  row 'r0': broken\n"
    ) as caught:
        keep(problems, drop=False, most=1.0)
    assert str(caught.value).count("broken") == 20 and "and 5 more" in str(caught.value)
    kept, message = keep(problems, drop=True, most=0.5)
    assert [row["id"] for row in kept] == [f"r{i}" for i in range(25, 50)] and "row 'r3': broken" in message
    with pytest.raises(RowError, match=r"more than the share max_bad_rows = 0\.1"):
        keep(problems, drop=True, most=0.1)
    with pytest.raises(RowError, match="50 of 50 rows"):
        keep({row["id"]: "broken" for row in rows}, drop=True, most=1.0)
    assert keep({}, drop=False, most=0.0) == (rows, None)

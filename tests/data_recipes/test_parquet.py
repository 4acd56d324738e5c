"""Rows of all tasks in one Parquet schema, and back."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from data_recipes.parquet import BATCH, write_parquet
from vlm.rows import read_rows


def row(i: int, **fields) -> dict:
    prompt = [{"role": "user", "content": f"Question {i}?"}]
    return {
        "id": f"r{i}",
        "task": "math",
        "prompt": prompt,
        "images": [],
        "videos": [],
        "answer": {},
    } | fields


def test_answers_of_different_types_survive(tmp_path):
    answers = [
        {"value": "4,656"},
        {"value": 3},
        {"boxes": [[1, 2, 3.5, 4]], "frame": "pixel"},
        {"letter": "A"},
    ]
    write_parquet([row(i, answer=a) for i, a in enumerate(answers)], tmp_path / "r.parquet")
    assert [r["answer"] for r in read_rows(tmp_path / "r.parquet")] == answers


def test_a_type_that_changes_in_a_later_batch_is_seen(tmp_path):
    rows = [
        row(i, answer={"value": i if i < BATCH else str(i)}, level=1 if i < BATCH else 1.5)
        for i in range(BATCH + 5)
    ]
    write_parquet(rows, tmp_path / "r.parquet")
    back = read_rows(tmp_path / "r.parquet")
    assert [r["answer"] for r in back] == [r["answer"] for r in rows]
    assert [r["level"] for r in back] == [r["level"] for r in rows]
    assert not list(tmp_path.glob("*.spool")) and not list(tmp_path.glob("*.part"))


def test_columns_with_one_type_stay_columns(tmp_path):
    rows = [row(i, answer={"value": str(i)}, source={"name": "a", "licence": None}) for i in range(3)]
    write_parquet(rows, tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert table[0]["answer"] == {"value": "0"}
    assert table[0]["prompt"][0]["content"] == [{"type": "text", "text": "Question 0?"}]


def test_both_kinds_of_traces_in_one_file(tmp_path):
    stages = {"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "3"}
    turns = [{"role": "assistant", "content": [{"type": "text", "text": "Three."}]}]
    write_parquet([row(0, trace=stages), row(1, trace=turns), row(2, trace=None)], tmp_path / "r.parquet")
    assert [r["trace"] for r in read_rows(tmp_path / "r.parquet")] == [stages, turns, None]
    stored = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert json.loads(stored[0]["trace"]) == stages

"""Rows of all tasks in one Parquet schema, and back."""

from __future__ import annotations

import json

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.rows import read_rows
from data_recipes.config import Recipe
from data_recipes.files.parquet import BATCH, write_parquet
from data_recipes.runner import run_recipe


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


ANSWERS = [
    {"value": "4,656"},
    {"value": 3},
    {"letter": "B", "options": ["1", "2"]},
    {"boxes": [[1, 2, 9, 8]], "frame": "pixel"},
]
TASKS = ["math", "counting", "choice", "grounding"]


@pytest.mark.parametrize("output", ["parquet", "jsonl"])
def test_more_shards_than_rows_are_read_by_datasets(output, tmp_path):
    """Every shard has the same columns with the same types, none is empty, and the reports beside them are no rows."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1 + 1?"}]}]
    kinds = [0, 1, 2, 3] if output == "parquet" else [0, 2, 3]  # in JSON "4,656" and 3 cannot be one column
    with (tmp_path / "rows.jsonl").open("w") as file:
        for i in range(12):
            row = {
                "id": f"r{i}",
                "task": TASKS[kinds[i % len(kinds)]],
                "prompt": prompt,
                "images": ["a.png"],
                "answer": ANSWERS[kinds[i % len(kinds)]],
            }
            more = {"score": i} if i % 3 else {"note": "x", "score": 0.5}
            file.write(json.dumps(row | (more if output == "parquet" else {})) + "\n")
    sources = [{"name": "s", "format": "rows", "path": str(tmp_path / "rows.jsonl")}]
    out = {"format": output}
    recipe = {
        "name": "t",
        "sources": sources,
        "output_dir": str(tmp_path / "out"),
        "output": out,
        "tasks": 16,
        "workers": 1,
    }
    run_recipe(Recipe.model_validate(recipe), say=lambda line: None)
    assert len(list((tmp_path / "out").glob("rows-*"))) == (12 if output == "parquet" else 1)
    for name in (str(tmp_path / "out"), None):
        files = None if name else {"train": str(tmp_path / "out" / "rows-*")}
        kind = name or ("parquet" if output == "parquet" else "json")
        found = datasets.load_dataset(
            kind, data_files=files, split="train", cache_dir=str(tmp_path / f"cache{name is None}")
        )
        assert sorted(found["id"]) == sorted(f"s/r{i}" for i in range(12))
    rows = {row["id"]: row for row in read_rows(tmp_path / "out")}
    assert [rows[f"s/r{i}"]["answer"] for i in range(4)] == [ANSWERS[kinds[i % len(kinds)]] for i in range(4)]
    run_recipe(Recipe.model_validate(recipe | {"tasks": 2}), say=lambda line: None)
    assert len(list((tmp_path / "out").glob("rows-*"))) == (2 if output == "parquet" else 1)

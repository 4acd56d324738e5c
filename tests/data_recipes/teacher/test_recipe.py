"""Teachers inside recipes: several workers, kills, and changes of the recipe, with nothing paid twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from core.rows import read_rows
from data_recipes.config import Recipe
from data_recipes.runner import run_recipe
from rewards.stages import render
from tests.data_recipes.conftest import write_source
from tests.data_recipes.endpoints import REPOSITORY, scripted_teacher

RIGHT = {"math": "4656", "counting": "3"}


def script(body, number):
    """Right for all questions but every fifth."""
    text = json.dumps(body)
    index = int(re.search(r"Question (\d+)\?", text).group(1))
    conclusion = "none" if index % 5 == 0 else ("4656" if index % 4 == 0 else "3")
    return render({"summary": "s", "caption": "c", "reasoning": "r", "conclusion": conclusion})


def recipe(source: Path, out: Path, url: str, **fields) -> dict:
    traces = {
        "teacher": {"base_url": url, "model": "big", "concurrency": 2, "price_completion": 10.0},
        "rewards": {"tasks": {"math": "math", "counting": "counting"}},
        "tasks": ["math", "counting"],
        "max_tries": 2,
    }
    return {
        "name": "t",
        "sources": [{"name": "made", "format": "rows", "path": str(source)}],
        "operations": [{"traces": traces}],
        "output_dir": str(out),
        "tasks": 2,
        "workers": 2,
    } | fields


def run(fields: dict) -> dict:
    made = Recipe.model_validate(fields)
    run_recipe(made, say=lambda line: None)
    return json.loads((made.output_dir / "data_card.json").read_text())


def expected(count: int) -> set[str]:
    """Ids of the rows that stay: those that the teacher gets right (boxes without an image are no rows at all)."""
    return {f"made/r{i}" for i in range(count) if i % 4 < 2 and i % 5}


@pytest.mark.slow
def test_cost_and_acceptance_stand_in_the_card_and_a_changed_recipe_pays_nothing(tmp_path):
    source = write_source(tmp_path / "data" / "rows.jsonl", 40, images=False)
    with scripted_teacher(script) as teacher:
        fields = recipe(source, tmp_path / "out", teacher.url, tasks=1, workers=1)
        card = run(fields)
        rows = read_rows(tmp_path / "out")
        assert {row["id"] for row in rows} == expected(40)
        assert all(row["trace"]["conclusion"] == RIGHT[row["task"]] for row in rows)
        assert len(teacher.requests) == 16 + 2 * 4
        figures = card["operations"]["traces"]
        assert figures["asked"] == 20 and figures["accepted"] == 16 and figures["refused/wrong"] == 4
        assert figures["teacher/requests"] == 24 and figures["teacher/cost"] == pytest.approx(0.0024)
        figures = run(fields | {"seed": 7})["operations"]["traces"]
        assert len(teacher.requests) == 24
        assert figures["teacher/cached"] == 24 and figures["teacher/cost_cached"] == pytest.approx(0.0024)
    removed = [json.loads(line) for line in (tmp_path / "out" / "removed.jsonl").read_text().splitlines()]
    assert {line["rule"] for line in removed} == {"trace_wrong"} and len(removed) == 4


@pytest.mark.slow
def test_a_killed_recipe_goes_on_without_paying_twice(tmp_path):
    source = write_source(tmp_path / "data" / "rows.jsonl", 80, images=False)
    with scripted_teacher(script, delay_s=0.2) as teacher:
        fields = recipe(source, tmp_path / "out", teacher.url)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(fields))
        command = [sys.executable, "-m", "data_recipes", "run", str(path)]
        killed = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True, stdout=subprocess.DEVNULL)
        while len(teacher.requests) < 20:
            assert killed.poll() is None
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        time.sleep(0.5)  # the server finishes what it had begun
        assert 20 <= len(teacher.requests) < 48
        run(fields)
        assert {row["id"] for row in read_rows(tmp_path / "out")} == expected(80)
        assert len(teacher.requests) <= 32 + 2 * 8 + 2 * 2  # both workers had at most two requests under way

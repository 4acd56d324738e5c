"""Data sets of the Hub as sources of recipes, and rows made of one in another form (tests/hub_stand_in.py)."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.files.hub.ids import HubError
from data_recipes.config import Recipe
from data_recipes.hub_sources import local_sources
from tests.hub_stand_in import StandIn, hub_stand_in

REPOSITORY = Path(__file__).parents[2]
READ = """
import sys
from core.files.hub.paths import TRAIN
from core.processes.explained import explained
from core.rows import read_rows
from data_recipes.hub_rows import rows_of_hub
if __name__ == "__main__":
    with explained():
        if sys.argv[2:]:
            rows_of_hub({"prompts.rows": sys.argv[1]}, TRAIN)
        for row in read_rows(sys.argv[1], split=TRAIN):
            print("ROW", row["id"], row["task"], row["answer"], row["prompt"][0]["content"][0]["type"], len(row["images"]))
"""


def geometry(split: str, rows: int) -> bytes:
    """A Parquet file with the columns of hiyouga/geometry3k."""
    picture = io.BytesIO()
    Image.new("RGB", (32, 24), "white").save(picture, "PNG")
    image = {"bytes": picture.getvalue(), "path": "a.png"}
    records = [
        {"images": [image], "problem": f"<image>Find x, {split} {i}.", "answer": str(i)} for i in range(rows)
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), file)
    return file.getvalue()


@pytest.fixture
def hub() -> Iterator[StandIn]:
    with hub_stand_in() as server:
        files = {
            f"data/{split}-00000-of-00001.parquet": geometry(split, rows)
            for split, rows in (("train", 3), ("test", 2))
        }
        server.add("dataset", "hiyouga/geometry3k", files | {"README.md": b"---\nlicense: mit\n---\n"})
        yield server


def run(hub: StandIn, home: Path, *command: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, *command],
        env=hub.environment(home / "hf", ONSIGHT_CACHE=str(home / "own"), PYTHONPATH=str(REPOSITORY)),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stdout + ran.stderr


def test_a_data_set_in_a_known_form_is_made_into_rows_once(hub, tmp_path):
    (tmp_path / "read.py").write_text(READ)
    code, said = run(hub, tmp_path, "read.py", "hiyouga/geometry3k")
    assert code == 1 and "got the columns images, problem, answer" in said
    assert "`python -m data_recipes rows hiyouga/geometry3k` makes rows" in said
    code, said = run(hub, tmp_path, "read.py", "hiyouga/geometry3k", "make")
    made = [line for line in said.splitlines() if line.startswith("ROW")]
    assert code == 0 and len(made) == 3, said
    assert made[0].split(maxsplit=2)[2] == "math {'value': '0'} image 1"
    assert not [r for r in hub.requests if "test-00000" in r]  # the split that nobody asked for
    assert run(hub, tmp_path, "read.py", "hiyouga/geometry3k")[1].splitlines()[-3:] == made


def test_a_recipe_reads_a_pinned_data_set_of_the_hub(hub, tmp_path):
    commit = hub.repositories["dataset", "hiyouga/geometry3k"].refs["main"]
    hub.add("dataset", "hiyouga/geometry3k", {"README.md": b"emptied"})
    (tmp_path / "recipe.yaml").write_text(
        "name: geometry\noutput_dir: out\ntasks: 1\n"
        f"sources: [{{name: g, format: geometry3k_parquet, path: 'hiyouga/geometry3k@{commit}:test'}}]\n"
    )
    code, said = run(hub, tmp_path, "-m", "data_recipes", "run", "recipe.yaml")
    assert (
        code == 0 and len((tmp_path / "out" / "rows-00000-of-00001.jsonl").read_text().splitlines()) == 2
    ), said


def test_a_source_that_cannot_be_had_is_named():
    source = {"name": "g", "format": "geometry3k_parquet", "path": "me/none"}
    recipe = Recipe.model_validate({"name": "r", "sources": [source], "output_dir": "out"})
    with pytest.raises(HubError, match="^source 'g': me/none: HF_HUB_OFFLINE is set"):
        local_sources(recipe)

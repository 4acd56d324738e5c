"""Recipes run to their end, and after a kill, on two workers or two machines, to the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from core.rows import read_rows
from data_recipes.config import Recipe
from data_recipes.files.output import join_tasks, task_file
from data_recipes.runner import RecipeError, run_recipe
from tests.data_recipes.conftest import write_source
from vlm.tiny import build_tiny_vlm

REPOSITORY = Path(__file__).parents[2]


def recipe(source: Path, out: Path, **fields) -> Recipe:
    sources = [{"name": "made", "format": "rows", "path": str(source)}]
    values = {"name": "t", "tasks": 1, "sources": sources, "output_dir": str(out)}
    return Recipe.model_validate(values | fields)


def run(source: Path, out: Path, **fields) -> dict:
    run_recipe(recipe(source, out, **fields), say=lambda line: None)
    return json.loads((out / "data_card.json").read_text())


def contents(out: Path) -> dict[str, bytes]:
    """What a recipe made, without its work folder."""
    return {p.name: p.read_bytes() for p in sorted(out.iterdir()) if p.is_file()}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_come_out_checked_with_their_origin_and_media(source, tmp_path):
    card = run(source, tmp_path / "out", tasks=3, workers=1)
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 60 and card["rows"] == 60
    assert {row["id"] for row in rows} == {f"made/r{i}" for i in range(60)}
    assert rows[0]["origin"] == f"{source}:1"
    assert rows[0]["source"] == {"name": "made", "dataset": "made"}
    assert all(
        os.path.samefile(r["images"][0], source.parent / f"images/rows-{r['id'][6:]}.png") for r in rows
    )
    assert card["by_source_and_task"]["made"] == dict.fromkeys(
        ("counting", "grounding", "math", "pointing"), 15
    )


def test_bad_rows_are_rejected_with_reason_file_and_line(source, tmp_path):
    rows = lines(source)
    rows[3]["answer"] = {"box": [1, 2, 500, 30], "frame": "pixel"}
    rows[5]["images"] = ["images/none.png"]
    (source.parent / rows[7]["images"][0]).write_bytes(b"no image")
    text = [json.dumps(row) for row in rows] + ["{broken"]
    source.write_text("\n".join(text) + "\n")
    card = run(source, tmp_path / "out")
    rejected = {entry["origin"]: entry["reason"] for entry in lines(tmp_path / "out" / "rejected.jsonl")}
    assert set(rejected) == {f"{source}:{n}" for n in (4, 6, 8, 61)}
    assert "answer" in rejected[f"{source}:4"] and "500" in rejected[f"{source}:4"]
    assert "images/none.png" in rejected[f"{source}:6"]
    assert "decode" in rejected[f"{source}:8"]
    assert "JSON" in rejected[f"{source}:61"]
    assert card["sources"][0]["records"] == 61 and card["sources"][0]["rejected"] == 4 and card["rows"] == 57


def test_strict_makes_rejected_rows_an_error(source, tmp_path):
    rows = lines(source)
    rows[3]["answer"] = {"box": [1, 2, 500, 30], "frame": "pixel"}
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RecipeError, match=r"1 records rejected[\s\S]*rows.jsonl:4: "):
        run(source, tmp_path / "out", strict=True)
    file = write_recipe(tmp_path / "r.yaml", source, tmp_path / "command", 1)
    done = subprocess.run(command(file, "--strict"), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and f"{source}:4: field 'answer" in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_where_the_format_reads_a_file_names_the_source(source, tmp_path, workers):
    sources = [{"name": "tables", "format": "tabmwp", "path": str(source.parent)}]
    with pytest.raises(
        ValueError, match=r"source 'tables': expected what the format 'tabmwp' reads at .*directory"
    ):
        run(source, tmp_path / "out", sources=sources, tasks=2, workers=workers)


def test_a_repeated_id_leaves_and_names_where_it_stood_first(source, tmp_path):
    rows = lines(source)
    rows[9]["id"] = "r2"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = run(source, tmp_path / "out", tasks=2)
    (removed,) = lines(tmp_path / "out" / "removed.jsonl")
    assert removed["rule"] == "duplicate_id" and f"{source}:3" in removed["reason"]
    assert removed["origin"] == f"{source}:10" and card["rows"] == 59


def test_workers_change_nothing(source, tmp_path):
    fields = {"tasks": 4, "mixture": {"caps": {"math": 5}}}
    run(source, tmp_path / "one", workers=1, **fields)
    run(source, tmp_path / "two", workers=2, **fields)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_tasks_change_files_but_not_rows(source, tmp_path):
    run(source, tmp_path / "one", tasks=1)
    run(source, tmp_path / "five", tasks=5)

    def by_id(out: Path) -> list[dict]:
        return sorted(read_rows(out), key=lambda row: row["id"])

    assert by_id(tmp_path / "one") == by_id(tmp_path / "five")
    assert [p.name for p in (tmp_path / "five").glob("rows-*")] == ["rows-00000-of-00001.jsonl"]


def test_files_of_the_output_have_rows_of_all_kinds(tmp_path):
    for rows, sizes in (
        ([], []), ([0, 0], []), ([3, 0, 4], [7]), ([600] * 4, [1200, 1200]), ([600] * 5, [1200, 1800]),
        ([2000, 0, 2000, 1], [2000, 2001]), ([0, 5000], [5000]), ([400, 400], [800]),
    ):  # fmt: skip
        out = tmp_path / "-".join(map(str, ["out", *rows]))
        out.mkdir()
        for rank, count in enumerate(rows):
            task_file(out, rank, len(rows)).write_text(f"{rank}\n" * count)
        names = join_tasks(out, rows)
        assert [len((out / name).read_text().split()) for name in names] == sizes
        assert names == join_tasks(out, rows)  # after an interruption
        assert [len((out / name).read_text().split()) for name in names] == sizes


def test_a_finished_recipe_is_not_made_again_until_its_source_changes(source, tmp_path):
    out = tmp_path / "out"
    run(source, out)
    written = (out / "data_card.json").stat().st_mtime_ns
    run(source, out)
    assert (out / "data_card.json").stat().st_mtime_ns == written
    source.write_text("\n".join(source.read_text().splitlines()[:40]) + "\n")
    assert run(source, out)["rows"] == 40
    assert len(read_rows(out)) == 40


def test_shards_of_an_earlier_recipe_do_not_stay(source, tmp_path):
    run(source, tmp_path / "out", tasks=4)
    run(source, tmp_path / "out", tasks=2)
    assert len(read_rows(tmp_path / "out")) == 60


def test_lengths_are_in_tokens_of_a_given_tokenizer(source, tmp_path):
    model = build_tiny_vlm(tmp_path / "model", ["Question 0 1 2 3 4 5 6 7 8 9?"] * 5, layers=1)
    card = run(source, tmp_path / "out", output_dir=str(tmp_path / "out"), output={"tokenizer": str(model)})
    assert card["unit_of_length"] == "tokens"
    # "Question", a space, one token per digit, "?"
    assert card["prompt_length"] == {"0%": 4, "10%": 4, "50%": 5, "90%": 5, "100%": 5}
    assert card["pixels"]["50%"] == 1600


def test_copied_media_travel_with_the_output(source, tmp_path):
    run(source, tmp_path / "out", output_dir=str(tmp_path / "out"), output={"media": "copy"})
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    rows = read_rows(moved)
    assert all(Path(row["images"][0]).is_relative_to(moved / "media") for row in rows)


def test_parquet_with_embedded_media_reads_back_as_the_same_rows(source, tmp_path):
    run(source, tmp_path / "jsonl")
    out = {"format": "parquet", "media": "embed"}
    run(source, tmp_path / "parquet", output_dir=str(tmp_path / "parquet"), output=out, tasks=2)
    expected = {row["id"]: row for row in read_rows(tmp_path / "jsonl")}
    rows = read_rows(tmp_path / "parquet")
    assert len(rows) == 60
    for row in rows:
        other = expected[row["id"]]
        assert row["answer"] == other["answer"] and row["prompt"] == other["prompt"]
        assert row["images"][0]["bytes"] == Path(other["images"][0]).read_bytes()


def test_bytes_inside_a_source_become_files(source, tmp_path, monkeypatch):
    out = {"format": "parquet", "media": "embed"}
    run(source, tmp_path / "parquet", output_dir=str(tmp_path / "parquet"), output=out)
    monkeypatch.chdir(tmp_path)  # recipes mostly name folders from where they are run
    run(Path("parquet"), Path("again"))
    rows = read_rows(tmp_path / "again")
    assert len(rows) == 60 and rows[0]["id"] == "made/made/r0"
    with Image.open(rows[0]["images"][0]) as image:
        assert image.size == (40, 40)
    assert Path(rows[0]["images"][0]).is_relative_to(tmp_path / "again" / "media")


def command(file: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "data_recipes", "run", str(file), *more]


def write_recipe(path: Path, source: Path, out: Path, tasks: int) -> Path:
    path.write_text(
        f"name: killed\ntasks: {tasks}\nworkers: 2\nmixture: {{caps: {{math: 30}}}}\noutput_dir: {out}\n"
        f"sources: [{{name: made, format: rows, path: {source}}}]\noperations: [dedup]\n"
    )
    return path


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    source = write_source(tmp_path / "data" / "rows.jsonl", 1200)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(write_recipe(tmp_path / "w.yaml", source, whole, 24)), check=True, cwd=REPOSITORY)
    file = write_recipe(tmp_path / "k.yaml", source, killed, 24)
    process = subprocess.Popen(command(file), cwd=REPOSITORY, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(done := list(killed.glob(".work/*/log/stage0/completions/*"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline, (
            "the run ended before it could be killed"
        )
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(done) < 24 and not (killed / "data_card.json").exists()
    subprocess.run(command(file), check=True, cwd=REPOSITORY)
    # hashes of the recipes differ by nothing: where the output lies is no part of it
    assert contents(whole) == contents(killed)
    assert Counter(row["task"] for row in read_rows(killed))["math"] == 30


@pytest.mark.slow
def test_two_machines_on_one_file_system_make_what_one_makes(tmp_path):
    source = write_source(tmp_path / "data" / "rows.jsonl", 200)
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run(command(write_recipe(tmp_path / "1.yaml", source, one, 5)), check=True, cwd=REPOSITORY)
    file = write_recipe(tmp_path / "2.yaml", source, two, 5)
    machines = [subprocess.Popen(command(file, "--machine", f"{i}/2"), cwd=REPOSITORY) for i in range(2)]
    assert [machine.wait(timeout=300) for machine in machines] == [0, 0]
    assert contents(one) == contents(two)


@pytest.mark.slow
def test_a_run_whose_terminal_closes_goes_on_to_its_end(source, tmp_path):
    file = write_recipe(tmp_path / "r.yaml", source, tmp_path / "out", 4)
    reading, writing = os.pipe()
    process = subprocess.Popen(command(file), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    os.close(reading)  # from now on every write to stderr fails
    assert process.wait(timeout=200) == 0
    assert len(read_rows(tmp_path / "out")) == 60

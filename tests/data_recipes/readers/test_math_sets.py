"""MATH-V, MathVista, Geometry3K and GSM8K as published."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.rows import check_row, count_placeholders
from data_recipes.readers import FORMATS
from data_recipes.records import Record, Rejected
from rewards.functions.choice import choice_reward
from rewards.functions.math_answer import math_reward
from vlm.media import load_image

REWARDS = {"math": math_reward, "choice": choice_reward}


def rows_of(name: str, path: Path, **options) -> list[dict]:
    form = FORMATS[name]
    chosen = form.options(**options)
    return [row for record in form.read(path, chosen) for row in form.convert(record, chosen)]


def convert(name: str, data, **options) -> dict:
    form = FORMATS[name]
    (row,) = form.convert(Record(data, Path("/data/file.json"), "7"), form.options(**options))
    return row


def guesses(path: Path, first) -> list[str]:
    return [name for name, form in FORMATS.items() if form.looks_like(path, first)]


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------------- MATH-V


def test_mathv_rows_have_their_images_and_golds_that_parse(shared_data):
    path = shared_data / "mathv" / "test.jsonl"
    rows = [check_row(row, path.parent) for row in rows_of("mathv", path)]
    assert len(rows) == len({row["id"] for row in rows}) == 65
    for row in rows:
        REWARDS[row["task"]].check_gold(row["answer"], row)
        assert "<image" not in str(row["prompt"])
    assert sum(row["task"] == "choice" for row in rows) == 30
    assert rows[0]["prompt"][0]["content"][1] == {"type": "image"}  # behind the question, as there
    assert guesses(path, json.loads(path.read_text().splitlines()[0])) == ["mathv"]


def test_mathv_calls_further_figures_of_the_one_image_by_number(shared_data):
    rows = rows_of("mathv", shared_data / "mathv" / "questions_for_outputs.jsonl")
    row = next(row for row in rows if row["id"] == "59")
    assert count_placeholders(row["prompt"], "image") == 1
    assert "Which side is opposite to (image 3)?" in row["prompt"][0]["content"][1]["text"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "F"}, "field 'answer': expected a letter of the 2 options, got 'F'"),
        ({"options": None}, "field 'options': expected a list"),
        ({"question": 5}, "field 'question': expected a text, got 5"),
    ],
)
def test_a_broken_mathv_record_is_rejected(change, message):
    record = {
        "id": "1",
        "question": "?\n<image1>",
        "options": ["x", "y"],
        "answer": "B",
        "image": "images/1.jpg",
    }
    assert convert("mathv", record)["answer"] == {"letter": "B", "options": ["x", "y"]}
    with pytest.raises(Rejected, match=message):
        convert("mathv", record | change)


# ---------------------------------------------------------------------------------------------------------- MathVista


def test_mathvista_outputs_are_read_as_problems(shared_data):
    path = shared_data / "mathvista_outputs" / "output_bard.json"
    rows = rows_of("mathvista", path)
    assert len(rows) == len({row["id"] for row in rows}) == 200
    for row in rows:
        REWARDS[row["task"]].check_gold(row["answer"], row)
        assert row["prompt"][0]["content"][0] == {"type": "image"}
        assert row["prompt"][0]["content"][1]["text"].startswith("Hint: Please answer")
    assert {row["task"] for row in rows} == {"math", "choice"}


PROBLEM = {
    "pid": "5",
    "question": r"Find $m\angle H$",
    "image": "images/5.jpg",
    "choices": ["97", "102", "107", "122"],
    "unit": None,
    "precision": None,
    "answer": "102",
    "question_type": "multi_choice",
    "answer_type": "text",
    "metadata": {
        "split": "testmini",
        "source": "Geometry3K",
        "task": "geometry problem solving",
        "grade": "high school",
    },
    "query": "Hint: … Question: …",
}


def test_mathvista_json_with_the_bare_question():
    row = convert("mathvista", PROBLEM, prompt="question", media="/pictures")
    assert row["answer"] == {"letter": "B", "options": ["97", "102", "107", "122"]}
    assert row["prompt"][0]["content"][1]["text"].endswith("Options:\nA. 97\nB. 102\nC. 107\nD. 122")
    assert row["images"] == ["/pictures/images/5.jpg"]
    assert (row["subset"], row["split"], row["id"]) == ("Geometry3K", "testmini", "5")


def test_mathvista_parquet_brings_its_images(tmp_path):
    path = tmp_path / "testmini-00000-of-00001.parquet"
    data = PROBLEM | {"decoded_image": {"bytes": png(), "path": "5.jpg"}}
    pq.write_table(pa.Table.from_pylist([data]), path)
    (row,) = rows_of("mathvista", path)
    assert load_image(check_row(row, tmp_path)["images"][0]).size == (40, 30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": ""}, "field 'answer': expected the true answer, got ''"),
        ({"answer": "98"}, "field 'answer': expected exactly one of the choices"),
        (
            {"choices": ["9", "18", "18"], "answer": "18"},
            "field 'answer': expected exactly one of the choices",
        ),
        ({"question_type": "essay"}, "field 'question_type': expected multi_choice or free_form"),
        ({"image": None}, "field 'image': expected a path, got null"),
    ],
)
def test_a_broken_mathvista_problem_is_rejected(change, message):
    with pytest.raises(Rejected, match=message):
        convert("mathvista", PROBLEM | change)


# --------------------------------------------------------------------------------------------------------- Geometry3K


def geometry3k(folder: Path) -> Path:
    problem = {
        "problem_text": "Find x.",
        "annotat_text": "Find $x$.",
        "choices": ["6", r"6 \sqrt { 3 }", "12", r"12 \sqrt { 3 }"],
        "answer": "B",
        "problem_type_graph": ["Triangle"],
        "problem_type_goal": ["Length"],
        "data_type": "train",
        "id": 10,
    }
    for split, number in (("train", "10"), ("train", "2"), ("val", "3")):
        (folder / split / number).mkdir(parents=True)
        (folder / split / number / "data.json").write_text(json.dumps(problem))
        (folder / split / number / "img_diagram.png").write_bytes(png())
    return folder


def test_geometry3k_folders_are_read_in_the_order_of_their_numbers(tmp_path):
    folder = geometry3k(tmp_path / "geometry3k")
    rows = [check_row(row, tmp_path) for row in rows_of("geometry3k", folder)]
    assert [row["id"] for row in rows] == ["train/2", "train/10", "val/3"]
    assert rows[0]["answer"] == {"value": r"6 \sqrt { 3 }"}
    assert rows[0]["prompt"][0]["content"] == [{"type": "image"}, {"type": "text", "text": "Find $x$."}]
    assert math_reward(r"\boxed{6\sqrt{3}}", rows[0]["answer"], choices_text=rows[0]["choices_text"]) == 1.0
    assert [row["id"] for row in rows_of("geometry3k", folder / "train")] == ["2", "10"]
    assert guesses(folder, None) == guesses(folder / "train", None) == ["geometry3k"]


def test_geometry3k_as_multiple_choice(tmp_path):
    folder = geometry3k(tmp_path / "geometry3k")
    row = rows_of("geometry3k", folder / "val", answer="choice")[0]
    assert (row["task"], row["answer"]["letter"]) == ("choice", "B")
    assert "B. 6 \\sqrt { 3 }" in row["prompt"][0]["content"][1]["text"]


def test_a_geometry3k_problem_that_is_no_json_is_a_record_with_a_problem(tmp_path):
    folder = geometry3k(tmp_path / "geometry3k")
    (folder / "val" / "3" / "data.json").write_text("{")
    record = next(FORMATS["geometry3k"].read(folder / "val", FORMATS["geometry3k"].options()))
    assert "no valid JSON" in record.problem
    with pytest.raises(Rejected, match="field 'answer': expected a letter of the 1 options, got 'Q'"):
        convert("geometry3k", {"problem_text": "?", "choices": ["1"], "answer": "Q"})


def test_geometry3k_parquet_of_easyr1(tmp_path):
    path = tmp_path / "geometry3k" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    data = {"images": [{"bytes": png(), "path": None}], "problem": "<image>Find x.", "answer": "3"}
    pq.write_table(pa.Table.from_pylist([data]), path)
    (row,) = rows_of("geometry3k_parquet", path)
    assert row["source"] == {"dataset": "Geometry3K", "licence": "MIT"}
    assert row["prompt"][0]["content"] == [{"type": "image"}, {"type": "text", "text": "Find x."}]
    assert load_image(check_row(row, tmp_path)["images"][0]).size == (40, 30)
    assert "geometry3k_parquet" in guesses(path, data)


# -------------------------------------------------------------------------------------------------------------- GSM8K


def test_gsm8k_answers_and_solutions_without_calculator_marks(shared_data):
    path = shared_data / "gsm8k" / "train.subset.jsonl"
    rows = [check_row(row, path.parent) for row in rows_of("gsm8k", path, trace="solution")]
    assert len(rows) == 200
    for row in rows:
        assert "<<" not in row["solution"] and "####" not in row["solution"]
        assert math_reward(row["trace"][0]["content"], row["answer"]) == 1.0
    assert rows[0]["answer"] == {"value": "70"}
    assert rows_of("gsm8k", path)[0]["trace"] is None
    assert guesses(path, json.loads(path.read_text().splitlines()[0])) == ["gsm8k"]


@pytest.mark.parametrize("answer", ["So 5.", "a #### 3 #### 4", None, ""])
def test_a_gsm8k_solution_without_one_final_answer_is_rejected(answer):
    with pytest.raises(Rejected, match="field 'answer': expected a solution that ends with"):
        convert("gsm8k", {"question": "?", "answer": answer})


def test_a_line_that_is_no_json_is_a_record_with_a_problem(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "?", "answer": "1\\n#### 1"}\n{broken\n')
    good, bad = FORMATS["gsm8k"].read(path, FORMATS["gsm8k"].options())
    assert good.at == 1 and good.problem is None
    assert bad.at == 2 and "no valid JSON" in bad.problem

"""Questions from files made as published, and what is said of broken ones."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evaluation.benchmarks.benchmark import Benchmark, BenchmarkError, load, names
from evaluation.benchmarks.predictions import read_predictions
from evaluation.benchmarks.questions import read_questions
from evaluation.benchmarks.scoring import score_all


def picture(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def tsv(path: Path, header: list[str], *rows: list[str]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in (header, *rows)))
    return path


HEADER = ["index", "question", "A", "B", "C", "answer", "category", "l2-category", "image"]


def test_vlmevalkit_tables_with_images_in_base64(tmp_path: Path) -> None:
    image = base64.b64encode(picture()).decode()
    path = tsv(
        tmp_path / "MMBench_DEV_EN.tsv",
        HEADER,
        ["7", "What?", "one", "two", "", "A", "logic", "x", image],
        ["1000007", "What?", "two", "one", "", "B", "logic", "x", "7"],  # VLMEvalKit: the image of row 7
    )
    first, second = read_questions(load("mmbench"), path)
    assert (first["id"], first["options"], first["g_index"]) == ("7", ["one", "two"], "7")
    assert (second["id"], second["g_index"]) == ("1000007", "7")
    assert first["images"] == second["images"] == [{"bytes": picture()}]
    assert "image" not in first  # the text of an image is not kept beside the image
    assert read_questions(load("mmbench"), path, need_images=False)[0]["images"] == []
    assert load("mmbench").ask(second) == (
        "Question: What?\nOptions:\nA. two\nB. one\nPlease select the correct answer from the options above."
    )


@pytest.mark.parametrize(
    ("header", "row", "wrong"),
    [
        (HEADER[:-1] + ["picture"], ["7", "?", "1", "2", "", "A", "c", "l", "x"], "column 'image': expected it"),
        (HEADER, ["", "?", "1", "2", "", "A", "c", "l", ""], "column 'g_index'|field 'g_index'|column 'id'"),
        (HEADER, ["7", "?", "1", "2", "", "A", "c", "l", "9"], "column 'image': expected the index of an earlier row"),
        (HEADER, ["7", "?", "1", "2", "", "A", "c", "l", "&" * 80], "column 'image': expected an image in base64"),
        (HEADER, ["7", "?", "1"], "expected 9 columns, got another number"),
        (HEADER[1:], ["?", "1", "2", "", "A", "c", "l", "x"], "column 'index': expected it, got only question, A, B"),
    ],
)  # fmt: skip
def test_a_broken_row_of_a_table_is_named_with_file_line_and_column(tmp_path, header, row, wrong) -> None:
    path = tsv(tmp_path / "set.tsv", header, row)
    with pytest.raises(BenchmarkError, match=rf"set\.tsv:2: .*({wrong})"):
        read_questions(load("mmbench"), path)


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    row = ["7", "?", "1", "2", "", "A", "c", "l", ""]
    with pytest.raises(BenchmarkError, match=r"set\.tsv:3: field 'id': expected a unique id, got '7' again"):
        read_questions(load("mmbench"), tsv(tmp_path / "set.tsv", HEADER, row, row))


def test_vlmevalkits_mathvista_has_lists_as_text_and_no_precision(tmp_path: Path) -> None:
    header = ["index", "question", "choices", "answer", "question_type", "answer_type", "image"]
    image = base64.b64encode(picture()).decode()
    path = tsv(
        tmp_path / "MathVista_MINI.tsv",
        header,
        ["1", "Hint: … Question: Which?", "['red', 'green']", "green", "multi_choice", "text", image],
        ["2", "Hint: … Question: How long?", "", "1.2", "free_form", "float", image],
    )
    benchmark = load("mathvista")
    questions = read_questions(benchmark, path)
    assert benchmark.ask(questions[0]) == "Hint: … Question: Which?"
    answers = score_all(benchmark, questions, {"1": {"answer": "green"}, "2": {"answer": "1.23"}})
    assert [one.scores["correct"] for one in answers] == [1.0, 1.0]


def test_a_form_in_which_a_benchmark_is_not_published_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"expected V\*Bench as json, got a file of the form 'tsv'"):
        read_questions(load("vstar"), tsv(tmp_path / "a.tsv", ["index"], ["1"]))


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(BenchmarkError, match="did you mean 'mmstar'"):
        load("mmstarr")


def test_questions_of_parquet_with_several_images_in_the_text(tmp_path: Path) -> None:
    row = {
        "id": "validation_Art_1", "question": "Compare <image 1> with <image 2>.", "options": "['left', 'right']", "answer": "A",
        "question_type": "multiple-choice", "image_1": {"bytes": picture(), "path": None},
        "image_2": {"bytes": picture("blue"), "path": None}, "image_3": None,
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "validation-00000-of-00001.parquet")
    (question,) = read_questions(load("mmmu"), tmp_path)
    assert [one["bytes"] for one in question["images"]] == [picture(), picture("blue")]
    assert question["options"] == ["left", "right"]
    assert question["subject"] == "Art"
    assert load("mmmu").ask(question).startswith("Compare <image> with <image>.\n\n(A) left\n(B) right\n")


PUBLISHED: dict[str, tuple[str, str]] = {
    "math_vision": ("test.jsonl", json.dumps({"id": "4", "question": "Which?\n<image1>", "options": ["A", "B", "C", "D", "E"], "answer": "C", "image": "images/4.jpg", "level": 2, "subject": "counting"})),
    "mathvista": ("testmini.json", json.dumps({"1": {"pid": "1", "question": "?", "query": "Hint: …\nQuestion: ?", "image": "images/1.jpg", "choices": None, "precision": 1.0, "answer": "1.2", "question_type": "free_form", "answer_type": "float"}})),
    "mmstar": ("val.jsonl", json.dumps({"index": 0, "question": "Which?\nOptions: A: x, B: y", "image": "a.png", "answer": "B", "category": "math", "l2_category": "geometry"})),
    "ai2d": ("test.jsonl", json.dumps({"question": "Which?", "options": ["x", "y"], "answer": "1", "image": "a.png"})),
    "hallusion_bench": ("HallusionBench.json", json.dumps([{"category": "VS", "subcategory": "chart", "visual_input": "0", "set_id": "0", "figure_id": "0", "question_id": "1", "question": "Is it?", "gt_answer": "1", "filename": None}])),
    "chartqa": ("test_human.json", json.dumps([{"imgname": "41.png", "query": "How many?", "label": "14"}])),
    "refcoco": ("refcoco_val.jsonl", json.dumps({"image": "COCO_train2014_000000581857.jpg", "sent": "the bear", "bbox": [1, 2, 3, 4], "height": 10, "width": 10})),
    "screenspot": ("screenspot_web.json", json.dumps([{"img_filename": "web.png", "bbox": [10, 20, 30, 40], "instruction": "close", "data_type": "icon", "data_source": "shop"}])),
    "screenspot_v2": ("screenspot_web_v2.json", json.dumps([{"img_filename": "web.png", "bbox": [10, 20, 30, 40], "instruction": "close", "data_type": "icon", "data_source": "shop"}])),
    "screenspot_pro": ("blender.json", json.dumps([{"id": "b_0", "img_filename": "blender/1.png", "bbox": [1, 2, 3, 4], "img_size": [9, 9], "instruction": "x", "ui_type": "icon", "group": "CAD"}])),
    "osworld_g": ("OSWorld-G.json", json.dumps([{"id": "0-0", "image_path": "a.png", "image_size": [10, 10], "instruction": "x", "box_type": "bbox", "box_coordinates": [1, 1, 2, 2]}])),
    "charades_sta": ("charades_sta_test.txt", "3MSZA 24.3 30.4##person turn a light on."),
    "activitynet": ("val_1.json", json.dumps({"v_x": {"duration": 82.7, "timestamps": [[0.8, 19.9], [17.4, 60.8]], "sentences": ["One.", " Two."]}})),
    "qvhighlights": ("highlight_val_release.jsonl", json.dumps({"qid": 2579, "query": "A girl.", "vid": "N_210.0_360.0", "duration": 150, "relevant_windows": [[82, 150]]})),
    "countbench": ("test.jsonl", json.dumps({"question": "How many?", "number": 7, "image": "a.png"})),
    "pixmo_count": ("test.jsonl", json.dumps({"question": "<image>How many?", "answer": "7", "image": "a.png"})),
    "vstar": ("test_questions.jsonl", json.dumps({"question_id": "0", "image": "direct_attributes/sa.jpg", "text": "What?\n(A) x\n(B) y", "category": "direct_attributes", "label": "A"})),
    "visual_probe": ("val.json", json.dumps([{"doc_id": "p1", "problem": "<image>What?", "solution": "<answer>red</answer>", "images": ["a.jpg"]}])),
    "mmvet": ("mm-vet.json", json.dumps({"v1_0": {"imagename": "v1_0.png", "question": "?", "answer": "-1<AND>-5", "capability": ["ocr"]}})),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_files_as_published_are_read_and_asked(name: str, tmp_path: Path) -> None:
    file, text = PUBLISHED[name]
    (tmp_path / file).write_text(text + "\n")
    benchmark = load(name)
    questions = read_questions(benchmark, tmp_path / file)
    assert len(questions) == (2 if name == "activitynet" else 1)
    first = questions[0] | {"unit": "pixels"}
    assert benchmark.ask(first)
    assert first["images"] or first["videos"] or name == "hallusion_bench"


def test_every_benchmark_has_a_file_as_published_here() -> None:
    assert set(names()) == set(PUBLISHED) | {"mmbench", "mmmu"}


def test_what_the_fields_are(tmp_path: Path) -> None:
    def first(name: str):
        (tmp_path / PUBLISHED[name][0]).write_text(PUBLISHED[name][1])
        return read_questions(load(name), tmp_path / PUBLISHED[name][0])

    assert first("screenspot")[0]["box"] == [10, 20, 40, 60]
    assert first("charades_sta")[0]["windows"] == [[24.3, 30.4]]
    assert [one["id"] for one in first("activitynet")] == ["v_x-0", "v_x-1"]
    assert first("activitynet")[1]["videos"] == [str(tmp_path / "v_x.mp4")]
    assert first("ai2d")[0]["answer"] == "B"
    assert first("chartqa")[0]["images"] == [str(tmp_path / "png" / "41.png")]
    assert first("hallusion_bench")[0]["id"] == "VS_chart_0_0_1"


def test_own_benchmarks_name_functions_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def read(response, record): return response\ndef score(p, record): return p == record['answer']\n"
    )
    (tmp_path / "mine.yaml").write_text(
        f"{{name: mine, title: Mine, version: 1, source: me, data: me, task: math, files: {{json: {{}}}},"
        f" extract: '{tmp_path}/mine.py:read', rule: '{tmp_path}/mine.py:score'}}"
    )
    assert isinstance(load(str(tmp_path / "mine.yaml")), Benchmark)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("p.jsonl", '{"id": "a", "response": "1"}\n{"id": "b", "response": "2"}\n'),
        ("p.json", '[{"id": "a", "prediction": "1"}, {"id": "b", "prediction": "2"}]'),
        ("p.json", '{"a": "1", "b": "2"}'),
        ("p.json", '{"a": {"response": "1"}, "b": {"response": "2"}}'),
        ("p.tsv", "index\tprediction\na\t1\nb\t2\n"),
        ("p.csv", "id,answer\na,1\nb,2\n"),
    ],
)
def test_predictions_in_every_form(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    found = read_predictions(load("math_vision"), tmp_path / file)
    assert {own: one["answer"] for own, one in found.items()} == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"id": "a"}\n', r"p\.jsonl:1: expected a column response or prediction or answer, got id"),
        ('{"id": "a", "response": "1"}\n' * 2, r"p\.jsonl:2: expected one prediction for 'a', got another"),
        ('{"response": "1"}\n', r"p\.jsonl:1: expected a column id"),
        ("{\n", r"p\.jsonl:1: expected one JSON value"),
    ],
)
def test_broken_predictions_are_named(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(BenchmarkError, match=wrong):
        read_predictions(load("math_vision"), tmp_path / "p.jsonl")

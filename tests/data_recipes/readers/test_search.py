"""Visual-search questions and Mini-o3's cold-start dialogues."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.rows import check_row
from data_recipes.readers import FORMATS
from data_recipes.records import Record, Rejected
from vlm.media import load_image

QUESTION = {
    "images": ["images/7.jpg"],
    "doc_id": "7",
    "problem": "<image>\nWhat is written on the small sign?",
    "solution": "EXIT",
    "data_source": "visual_probe_hard",
}
CALL = '<think>It is small.</think><grounding>{"bbox_2d": [0.1, 0.2, 0.3, 0.4], "source": "original_image"}</grounding>'
DIALOGUE = [
    {"from": "system", "value": "You may zoom."},
    {"from": "human", "value": "<image>\nWhat is written on the small sign?"},
    {"from": "gpt", "value": CALL},
    {"from": "human", "value": "After the above Action 0, here is the the zoom-in image (Observation 1):\n<image>.\nContinue."},
    {"from": "gpt", "value": "<think>I can read it.</think><answer> EXIT </answer>"},
]  # fmt: skip


def convert(name: str, data, **options) -> dict:
    form = FORMATS[name]
    (row,) = form.convert(Record(data, Path("/data/train.json"), 4), form.options(**options))
    return row


def png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()


def test_a_question_becomes_a_row_of_task_search(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([QUESTION, QUESTION | {"data_source": "deepeyes_train"}]))
    form = FORMATS["visual_search"]
    records = list(form.read(path, form.options()))
    first, second = (row for record in records for row in form.convert(record, form.options()))
    assert (first["id"], first["task"], first["difficulty"]) == ("7@0", "search", "hard")
    assert first["answer"] == {"value": "EXIT"}
    assert first["prompt"][0]["content"][0] == {"type": "image"}
    assert first["images"] == [str(tmp_path / "images/7.jpg")]
    assert first["source"] == {"dataset": "visual_probe_hard", "licence": "CC BY-NC 4.0"}
    assert "difficulty" not in second
    assert "visual_search" in [name for name, f in FORMATS.items() if f.looks_like(path, records[0].data)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solution": " "}, "field 'solution': expected the true answer"),
        ({"problem": None}, "field 'problem': expected a text, got null"),
        ({"images": "a.jpg"}, "field 'images': expected a list of paths"),
        ({"images": []}, r"field 'images': expected 1 image\(s\)"),
        ({"data_source": 1}, "field 'data_source': expected a text"),
    ],
)
def test_a_broken_question_is_rejected(change, message):
    with pytest.raises(Rejected, match=message):
        convert("visual_search", QUESTION | change)


@pytest.mark.parametrize("written", [json.dumps(DIALOGUE), repr(DIALOGUE)])
def test_cold_start_parquet_with_its_dialogue_as_text(tmp_path, written):
    path = tmp_path / "train-00000.parquet"
    data = {
        "images": [{"bytes": png((400, 300)), "path": None}, {"bytes": png((80, 60)), "path": None}],
        "image_names": ["original.jpg", "observation_1.jpg"],
        "conversations": written,
        "data_source": "visual_probe_train",
        "sample_index": 12,
        "rollout_index": 3,
    }
    pq.write_table(pa.Table.from_pylist([data]), path)
    form = FORMATS["mini_o3_coldstart"]
    (record,) = form.read(path, form.options())
    (row,) = form.convert(record, form.options(keep="answered"))
    row = check_row(row, tmp_path)
    assert (row["id"], row["turns"], row["answer"]) == ("12_r3@1", 2, {"value": "EXIT"})
    assert [m["role"] for m in row["prompt"]] == ["system", "user"]
    assert [m["role"] for m in row["trace"]] == ["assistant", "user", "assistant"]
    assert row["trace"][1]["content"][1] == {"type": "image"}
    assert [load_image(image).size for image in row["images"]] == [(400, 300), (80, 60)]
    assert [name for name, f in FORMATS.items() if f.looks_like(path, record.data)] == ["mini_o3_coldstart"]


def test_cold_start_as_sharegpt():
    data = {"images": ["i/0.jpg", "i/1.jpg"], "conversations": DIALOGUE}
    row = convert("mini_o3_coldstart", data, media="/pictures")
    assert (row["id"], row["images"]) == ("4", ["/pictures/i/0.jpg", "/pictures/i/1.jpg"])
    assert "mini_o3_coldstart" in [n for n, f in FORMATS.items() if f.looks_like(Path("a.json"), data)]


def test_the_beginning_of_a_dialogue_is_kept_without_an_answer_unless_answers_are_asked_for():
    data = {"images": ["0.jpg"], "conversations": DIALOGUE[:3]}
    row = convert("mini_o3_coldstart", data)
    assert (row["answer"], len(row["trace"])) == (None, 1)
    with pytest.raises(Rejected, match="expected a last turn with <answer>"):
        convert("mini_o3_coldstart", data, keep="answered")


def test_the_text_of_a_dialogue_is_never_run(tmp_path):
    trap = tmp_path / "ran"
    for text in (
        f"__import__('pathlib').Path({str(trap)!r}).touch() or []",
        f"[open({str(trap)!r}, 'w')]",
        "(" * 100_000,
        "[1, 2",
    ):
        with pytest.raises(Rejected, match="field 'conversations': expected JSON or a Python literal"):
            convert("mini_o3_coldstart", {"images": [], "conversations": text})
    assert not trap.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": '{"a": 1}'}, "field 'conversations': expected a list of turns"),
        ({"conversations": DIALOGUE[:2]}, "field 'conversations': expected a dialogue that ends with gpt"),
        (
            {"conversations": None},
            "field 'conversations': expected a list of turns, or one written as a text",
        ),
        ({"images": ["0.jpg"]}, r"field 'images': expected 2 image\(s\)"),
        ({"images": None}, "field 'images': expected a list of images"),
    ],
)
def test_a_broken_dialogue_is_rejected(change, message):
    with pytest.raises(Rejected, match=message):
        convert("mini_o3_coldstart", {"images": ["0.jpg", "1.jpg"], "conversations": DIALOGUE} | change)


DEEPEYES = {
    "data_source": "vstar",
    "prompt": [
        {"role": "system", "content": "# Tools\nYou may call image_zoom_in_tool …"},
        {"role": "user", "content": "<image>\nIs the cup red or blue?\nThink first, call **image_zoom_in_tool** if needed."},
    ],
    "images": [{"bytes": png((60, 40)), "path": None}],
    "ability": "vl_chart",
    "env_name": "visual_toolbox_v2",
    "reward_model": {"ground_truth": "The cup is blue.", "style": "model"},
    "extra_info": {"answer": "The cup is blue.", "index": "7", "question": "Is the cup red or blue?", "split": "train"},
}  # fmt: skip


def test_deepeyes_parquet_gives_the_question_alone_or_the_published_messages(tmp_path):
    path = tmp_path / "data_0.1.2_visual_toolbox_v2.parquet"
    pq.write_table(pa.Table.from_pylist([DEEPEYES]), path)
    form = FORMATS["deepeyes"]
    (record,) = form.read(path, form.options())
    (row,) = form.convert(record, form.options())
    row = check_row(row, tmp_path)
    parts = [{"type": "image"}, {"type": "text", "text": "Is the cup red or blue?"}]
    assert row["prompt"] == [{"role": "user", "content": parts}]
    assert (row["id"], row["task"], row["answer"]) == ("train-7@1", "search", {"value": "The cup is blue."})
    assert (row["env_name"], row["trace"]) == ("visual_toolbox_v2", None)
    assert load_image(row["images"][0]).size == (60, 40)
    (published,) = form.convert(record, form.options(prompt="published"))
    assert [message["role"] for message in published["prompt"]] == ["system", "user"]
    assert "image_zoom_in_tool" in published["prompt"][1]["content"][1]["text"]
    assert "deepeyes" in [name for name, f in FORMATS.items() if f.looks_like(path, record.data)]


def test_deepeyes_tasks_follow_the_data_source():
    assert convert("deepeyes", DEEPEYES | {"data_source": "thinklite_eureka"})["task"] == "math"
    assert convert("deepeyes", DEEPEYES, tasks={"vstar": "mine"})["task"] == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra_info": {"index": "7"}}, "field 'question': expected a text, got nothing"),
        ({"extra_info": {"question": "<image> "}}, "field 'extra_info.question': expected the question"),
        ({"reward_model": {"style": "model"}}, "field 'reward_model.ground_truth': expected the true answer"),
    ],
)
def test_a_broken_deepeyes_record_is_rejected(change, message):
    with pytest.raises(Rejected, match=message):
        convert("deepeyes", DEEPEYES | change)

"""V*Bench files, made in the published form."""

from __future__ import annotations

import json

import pytest
from PIL import Image

QUESTION = {
    "image": "direct_attributes/sa_1.jpg",
    "text": "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\n"
    "Answer with the option's letter from the given choices directly.",
    "category": "direct_attributes",
    "label": "A",
    "question_id": "0",
}


@pytest.fixture
def bench(tmp_path):
    """The folder vstar_bench with one question, its image, and the file of targets beside the image."""
    folder = tmp_path / "vstar_bench"
    (folder / "direct_attributes").mkdir(parents=True)
    Image.new("RGB", (200, 150)).save(folder / QUESTION["image"])
    targets = {"target_object": ["glove"], "bbox": [[56, 14, 15, 16]], "question": "…", "options": ["a", "b"]}
    (folder / "direct_attributes" / "sa_1.json").write_text(json.dumps(targets))
    (folder / "test_questions.jsonl").write_text(json.dumps(QUESTION) + "\n")
    return folder


@pytest.mark.parametrize("path", ["", "test_questions.jsonl"])
def test_a_question_is_a_choice_and_its_targets_stay_with_it(read_file, bench, path):
    (row,) = read_file("vstar", bench / path).valid
    assert row["answer"] == {"letter": "A", "options": ["rubber", "cotton", "kevlar", "leather"]}
    assert row["targets"] == {"glove": [[56, 14, 71, 30]]}
    assert (row["task"], row["category"]) == ("choice", "direct_attributes")
    assert row["prompt"][0]["content"][1]["text"] == QUESTION["text"]


def test_questions_without_targets_are_read_too(read_file, bench):
    (bench / "direct_attributes" / "sa_1.json").unlink()
    (row,) = read_file("vstar", bench).valid
    assert "targets" not in row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "E"}, "field 'label': expected a letter of ABCD, got 'E'"),
        ({"label": "AB"}, "field 'label'"),
        ({"text": "What?"}, "field 'text': expected options"),
        ({"image": ["a.jpg", "b.jpg"]}, "field 'image': expected one image"),
    ],
)
def test_a_question_that_cannot_be_used_is_rejected(read_file, bench, change, message):
    (bench / "test_questions.jsonl").write_text(json.dumps(QUESTION | change) + "\n")
    read = read_file("vstar", bench / "test_questions.jsonl")
    assert not read.rows and message in read.rejected[0]


def test_targets_that_cannot_be_read_are_named(read_file, bench):
    (bench / "direct_attributes" / "sa_1.json").write_text('{"target_object": ["glove"], "bbox": []}')
    assert "sa_1.json: expected a box for each of 1 targets, got 0" in read_file("vstar", bench).rejected[0]

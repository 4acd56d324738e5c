"""LLaVA-CoT-100k: staged traces as rows, broken ones rejected with their rule, golds from conclusions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_recipes.readers import FORMATS
from data_recipes.readers.llava_cot import LLaVACoTOptions, convert, gold, listed_options, read, subset_of
from data_recipes.records import Record, Rejected
from rewards.functions.choice import choice_reward
from rewards.functions.math_answer import math_reward

TRACE = (
    "<SUMMARY> I will look. </SUMMARY>\n\n<CAPTION> A chart. </CAPTION>\n\n"
    "<REASONING> The bar is 38. </REASONING>\n\n<CONCLUSION> {} </CONCLUSION>"
)


def record(*turns: tuple[str, str], image: str = "chartqa/train/png/1.png", **more) -> Record:
    conversation = [
        {"from": role, "value": text}
        for turn in turns
        for role, text in zip(("human", "gpt"), turn, strict=True)
    ]
    data = {"id": "chart_1", "image": image, "conversations": conversation} | more
    return Record(data, Path("/data/train.jsonl"), 3)


def rows_of(made: Record, **options) -> list:
    return list(convert(made, LLaVACoTOptions(**options)))


def test_a_question_becomes_a_row_with_its_stages_and_the_conclusion_as_gold():
    (row,) = rows_of(record(("What is the value?", TRACE.format("38"))))
    assert row["id"] == "chart_1"
    assert row["prompt"] == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is the value?"}]}
    ]
    assert row["trace"] == {
        "summary": "I will look.",
        "caption": "A chart.",
        "reasoning": "The bar is 38.",
        "conclusion": "38",
    }
    assert (row["task"], row["answer"], row["subset"]) == ("math", {"value": "38"}, "ChartQA")
    assert row["images"] == ["/data/chartqa/train/png/1.png"]
    assert row["source"] == {"dataset": "LLaVA-CoT-100k", "licence": "Apache-2.0"}
    assert rows_of(record(("?", TRACE.format("38"))), media="/m")[0]["images"] == [
        "/m/chartqa/train/png/1.png"
    ]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("<CONCLUSION>38</CONCLUSION>", "missing:SUMMARY"),  # all that the set's own filter asks for
        (TRACE.format("38").replace("</REASONING>", ""), "unclosed:REASONING"),
        (TRACE.format("38") + "<CAPTION>x</CAPTION>", "repeated:CAPTION"),
        ("Sure! " + TRACE.format("38"), "outside:before SUMMARY"),
        ("I cannot help with that.", "missing:SUMMARY"),
    ],
)
def test_a_broken_trace_is_rejected_with_the_rule_it_breaks(text, rule):
    (rejected,) = rows_of(record(("?", text)))
    assert isinstance(rejected, Rejected)
    assert "field 'conversations[1].value'" in str(rejected)
    assert f"'{rule}'" in str(rejected)


def test_several_questions_become_rows_with_their_history():
    made = record(("First?", TRACE.format("1")), ("Second?", TRACE.format("red")))
    first, second = rows_of(made)
    assert [first["id"], second["id"]] == ["chart_1-1", "chart_1-2"]
    assert [m["role"] for m in second["prompt"]] == ["user", "assistant", "user"]
    assert second["trace"]["conclusion"] == "red"
    assert (second["task"], second["answer"]) == ("text", {"value": "red"})
    (row,) = rows_of(made, turns="dialogue")
    assert (row["task"], row["answer"], len(row["trace"])) == ("chat", None, 3)


def test_questions_after_a_broken_trace_go_with_it():
    made = record(("1?", TRACE.format("1")), ("2?", "broken"), ("3?", TRACE.format("3")))
    row, rejected = rows_of(made)
    assert row["id"] == "chart_1-1"
    assert "1 questions after it" in str(rejected)
    with pytest.raises(Rejected, match="missing:SUMMARY"):
        rows_of(made, turns="dialogue")


@pytest.mark.parametrize(
    ("question", "conclusion", "task", "answer"),
    [
        ("Which?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.", "B",
         "choice", {"letter": "B", "options": ["red", "blue"]}),
        ("How many? Options: A. 4, B. 8, C. 2, D. 6", "The answer is B: 8.",
         "choice", {"letter": "B", "options": ["4", "8", "2", "6"]}),
        ("Which?\nOptions: (A) a cat (B) a dog", "a dog", "choice", {"letter": "B", "options": ["a cat", "a dog"]}),
        ("Which?\nA. red\nB. blue", "Neither of them fits the picture.", "chat", None),
        ("Choose.", "C", "choice", {"letter": "C"}),
        ("How much?", "The answer is 4,656.", "math", {"value": "4,656"}),
        ("Who?", "A friend of the girl", "text", {"value": "A friend of the girl"}),
        ("Describe it.", "The image shows a street with many cars and people.", "chat", None),
    ],
)  # fmt: skip
def test_the_conclusion_tells_task_and_gold(question, conclusion, task, answer):
    assert gold(question, conclusion) == (task, answer)
    if task in ("choice", "math"):
        reward = {"choice": choice_reward, "math": math_reward}[task]
        assert reward(conclusion, answer) == 1.0


def test_options_are_read_only_where_letters_follow_each_other():
    assert listed_options("What is vitamin A. good for?") is None
    assert listed_options("A: 15 MPa, B: 5 MPa") == ["15 MPa", "5 MPa"]
    assert listed_options("See A. \nB. then C. x") is None  # an empty option


@pytest.mark.parametrize(
    ("image", "question", "subset"),
    [
        ("chartqa/train/png/1.png", "?", "ChartQA"),
        ("sqa/train/20839/image.png", "?", "ScienceQA"),
        ("geoqa+/images/5238.png", "?", "GeoQA+"),
        ("ai2d/images/1.png", "?", "AI2D"),
        ("docvqa/train/documents/x.png", "?", "DocVQA"),
        ("pisc/image/1.jpg", "?", "PISC"),
        ("CLEVR_v1.0/images/train/CLEVR_train_1.png", "How many cubes are there?", "CLEVR"),
        ("CLEVR_v1.0/images/train/CLEVR_train_1.png", "Subtract all cubes. How many are left?", "CLEVR-Math"),
        ("coco/train2017/1.jpg", "What is it?\nA. cat\nB. dog", "A-OKVQA"),
        ("coco/train2017/1.jpg", "What is in the image?", "ShareGPT4V"),
        ("sam/images/sa_1.jpg", "Describe.", "ShareGPT4V"),
    ],
)
def test_the_image_path_tells_the_data_set(image, question, subset):
    assert subset_of(image, question) == subset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "field 'image': expected a path, got null"),
        ({"conversations": []}, "field 'conversations': expected questions with answers, got 0 turns"),
        (
            {"conversations": [{"from": "gpt", "value": "x"}]},
            r"field 'conversations\[0\].from': expected human and gpt",
        ),
        (
            {"conversations": [{"from": "bot", "value": "x"}]},
            r"field 'conversations\[0\].from': expected human, gpt",
        ),
        ({"conversations": ["x"]}, r"field 'conversations\[0\]'"),
    ],
)
def test_a_record_of_another_form_is_rejected_with_its_field(change, message):
    with pytest.raises(Rejected, match=message):
        rows_of(record(("?", TRACE.format("1")), **change))


def test_lines_are_read_one_by_one_and_the_format_is_told(tmp_path):
    path = tmp_path / "train.jsonl"
    good = record(("?", TRACE.format("1"))).data
    path.write_text(json.dumps(good) + "\n{\n", encoding="utf-8")
    first, second = read(path, LLaVACoTOptions())
    assert first.data == good
    assert second.at == 2
    assert "no valid JSON" in second.problem
    assert "llava_cot" in [name for name, form in FORMATS.items() if form.looks_like(path, good)]

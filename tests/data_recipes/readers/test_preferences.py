"""Preference files as published and as training tools take them: every record becomes pairs or a rejection that says why."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.pairs import check_pair
from data_recipes.inspection import guess, inspect
from data_recipes.readers import FORMATS
from data_recipes.records import Rejected

USER, ANSWER = {"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Red."}
OTHER = {"role": "assistant", "content": "Blue."}
IMAGE_PART = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "a.png").write_bytes(png())
    return tmp_path


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def rows_of(name: str, path: Path, **options: Any) -> list[Any]:
    form = FORMATS[name]
    typed = form.options(**options)
    return [row for record in form.read(path, typed) for row in form.rows(record, typed)]


TOOLS: dict[str, dict] = {
    "trl_explicit": {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
    "trl_explicit_texts": {"prompt": "Which?", "chosen": "Red.", "rejected": "Blue."},
    "trl_implicit": {"chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
    "trl_binarized": {
        "prompt": "Which?",
        "chosen": [USER, ANSWER],
        "rejected": [USER, OTHER],
        "score_chosen": 8,
        "score_rejected": 5,
    },
    "trl_images": {"images": ["a.png"], "prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
    "trl_image_parts": {"images": ["a.png"], "chosen": [IMAGE_PART, ANSWER], "rejected": [IMAGE_PART, OTHER]},
    "hh_rlhf": {
        "chosen": "\n\nHuman: Which?\n\nAssistant: Red.",
        "rejected": "\n\nHuman: Which?\n\nAssistant: Blue.",
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "<image>Which?"}],
        "chosen": {"from": "gpt", "value": "Red."},
        "rejected": {"from": "gpt", "value": "Blue."},
        "images": ["a.png"],
    },
    "alpaca": {"instruction": "Which?", "input": "", "chosen": "Red.", "rejected": "Blue."},
    "alpaca_ranked": {"instruction": "Which?", "input": "", "output": ["Red.", "Blue."]},
    "swift": {"messages": [USER, ANSWER], "rejected_response": "Blue."},
    "swift_messages": {"messages": [USER, ANSWER], "rejected_messages": [USER, OTHER]},
    "swift_old": {"query": "Which?", "response": "Red.", "rejected_response": "Blue."},
}


@pytest.mark.parametrize("name", TOOLS)
def test_pairs_of_training_tools_become_rows(folder, name):
    path = write(folder / f"{name}.jsonl", [TOOLS[name]])
    assert guess(path)[0].name == "preference"
    (made,) = rows_of("preference", path)
    row = check_pair(made, folder)
    assert (row["chosen"], row["rejected"]) == ("Red.", "Blue.")
    content = row["prompt"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    assert text == "Which?" and len(row["prompt"]) == 1
    pictures = len(TOOLS[name].get("images", ()))
    assert len(row["images"]) == pictures == (0 if isinstance(content, str) else 1)
    assert row["margin"] == (3 if name == "trl_binarized" else None)


def test_conversations_part_where_they_differ(folder):
    turns = [USER, ANSWER, {"role": "user", "content": "Sure?"}]
    last = [{"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No."}]
    pairs = [{"chosen": [*turns, last[0]], "rejected": [*turns, last[1]]}]
    pairs += [{"chosen": [USER, ANSWER, turns[2], last[0]], "rejected": [USER, OTHER, turns[2], last[0]]}]
    late, early = (check_pair(row, folder) for row in rows_of("preference", write(folder / "a.jsonl", pairs)))
    assert len(late["prompt"]) == 3 and (late["chosen"], late["rejected"]) == ("Yes.", "No.")
    assert len(early["prompt"]) == 1 and [t["role"] for t in early["chosen"]] == [
        "assistant",
        "user",
        "assistant",
    ]


RATED = {"Helpfulness": 5, "Visual Faithfulness": 3, "Ethical Considerations": 4}


def notes(*values: Any) -> dict:
    return {name: {"Rating": str(v), "Rationale": "…"} for name, v in zip(RATED, values, strict=True)}


SETS: dict[str, tuple[dict, int]] = {
    "rlhf_v": (
        {"ds_name": "RLHF-V", "image": {"path": "a.png", "bytes": None}, "idx": 3, "origin_dataset": "x",
         "text": json.dumps({"question": "Which?", "chosen": "Red.", "rejected": "Blue."})}, 1,
    ),
    "rlaif_v": ({"ds_name": "R", "image": "a.png", "question": "Which?", "chosen": "Red.", "rejected": "Blue.", "idx": 1}, 1),
    "mm_rlhf": ({"image": "a.png", "prompt": "<image>\nWhich?", "chosen": "Red.", "rejected": "Blue.", "chosen_score": 3, "rejected_score": 1}, 1),
    "llava_rlhf": (
        {"id": "7", "image": "a.png", "preference": 2, "output_1": {"from": "llava", "value": "Blue."},
         "output_2": {"from": "llava", "value": "Red."},
         "conversations": [{"from": "human", "value": "<image>\nWhich?"}, {"from": "gpt", "value": ""}]}, 1,
    ),
    "vlfeedback": (
        {"id": "v", "prompt": "Which?", "img_path": "a.png", "models": ["m", "n", "o"],
         "completions": {"annotations": [notes(1, 1, 4), notes(5, 5, 5)], "model": ["m", "n"], "response": ["Blue.", "Red."]}}, 1,
    ),
    "ultrafeedback": (
        {"instruction": "Which?", "source": "s", "completions": [
            {"response": "Blue.", "fine-grained_score": 2.5, "overall_score": 10.0},
            {"response": "Red.", "fine-grained_score": 4.0, "overall_score": 7.0}]}, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_published_sets_become_rows(folder, name):
    record, count = SETS[name]
    path = write(folder / f"{name}.jsonl", [record])
    assert guess(path)[0].name == name
    made = rows_of(name, path)
    assert len(made) == count
    row = check_pair(made[0], folder)
    assert (row["chosen"], row["rejected"]) == ("Red.", "Blue.") and row["answer"] is None
    assert len(row["images"]) == (name != "ultrafeedback")
    assert row["source"]["dataset"]
    said = list(inspect(path, None, {}, root=folder))
    assert any(line.startswith(f"{path}: {name}") for line in said), said
    assert any("1 records; 1 good rows" in line for line in said), said


def test_a_parquet_file_holds_its_images(folder):
    record = {
        "ds_name": "R",
        "image": {"bytes": png(), "path": None},
        "question": "Which?",
        "chosen": "Red.",
        "rejected": "Blue.",
    }
    path = folder / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([record]), path)
    (row,) = rows_of("rlaif_v", path)
    assert row["images"] == [{"bytes": png()}]


HELPSTEER = [
    (
        {
            "prompt": "Which?",
            "response": r,
            "helpfulness": h,
            "correctness": 3,
            "coherence": 4,
            "complexity": 1,
            "verbosity": 1,
        }
    )
    for r, h in (("Blue.", 1), ("Red.", 4), ("Green.", 1))
]


def test_helpsteer_rates_responses_line_by_line(folder):
    alone = HELPSTEER[0] | {"prompt": "Another?"}
    made = rows_of("helpsteer", write(folder / "train.jsonl", [*HELPSTEER, alone]))
    pairs = [(row["chosen"], row["rejected"], row["margin"]) for row in made if not isinstance(row, Rejected)]
    assert pairs == [("Red.", "Blue.", 3), ("Red.", "Green.", 3)]
    said = [str(row) for row in made if isinstance(row, Rejected)]
    assert said == [
        "responses 1 and 3: expected one response to be better, got a tie",
        "field 'response': expected two or more responses to a prompt in a row, got one",
    ]
    (best,) = rows_of("helpsteer", write(folder / "train.jsonl", HELPSTEER), pairs="extremes")
    assert (best["chosen"], best["rejected"]) == ("Red.", "Blue.")


@pytest.mark.parametrize(
    "record",
    [
        {
            "split": "train",
            "prompt": "Hi<x>",
            "response_1": "Blue.",
            "response_2": "Red.",
            "preference_strength": 2,
        },
        {
            "domain": "general",
            "context": [USER],
            "response1": "Blue.",
            "response2": "Red.",
            "overall_preference": 3,
        },
    ],
)
def test_helpsteer_preferences(folder, record):
    path = write(folder / "preference.jsonl", [record])
    assert guess(path)[0].name == "helpsteer"
    (row,) = rows_of("helpsteer", path)
    assert (row["chosen"], row["rejected"]) == ("Red.", "Blue.")
    field = "overall_preference" if "context" in record else "preference_strength"
    (tie,) = rows_of("helpsteer", write(path, [record | {field: 0}]))
    assert str(tie) == f"field '{field}': expected one response to be better, got a tie"


def test_helpsteer2_writes_several_turns_into_one_prompt(folder):
    text = "Hi.\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nWhich?"
    record = {"prompt": text, "response_1": "Red.", "response_2": "Blue.", "preference_strength": -1}
    (row,) = rows_of("helpsteer", write(folder / "p.jsonl", [record]))
    assert [(m["role"], m["content"]) for m in row["prompt"]] == [
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "Which?"),
    ]


def test_every_pair_of_rated_responses_is_a_row_or_a_rejection(folder):
    record = SETS["vlfeedback"][0] | {"completions": [
        {"response": text, "model": "m", "annotations": annotations}
        for text, annotations in (("Red.", notes(5, 5, 5)), ("Blue.", notes(1, 2, 5)), ("Sky.", notes(2, 1, 5)), ("?", notes("N/A", 1, 5)))
    ]}  # fmt: skip
    made = rows_of("vlfeedback", write(folder / "a.jsonl", [record]))
    assert len(made) == 6 and len({row["id"] for row in made if not isinstance(row, Rejected)}) == 2
    said = sorted(str(row) for row in made if isinstance(row, Rejected))
    assert (
        said.count(
            "field 'completions[3].annotations.Helpfulness.Rating': expected a number, got 'N/A' (str)"
        )
        == 3
    )
    assert "responses 2 and 3: expected one response to be better, got a tie" in said


WRONG = {
    "no_rejected": ({"prompt": "Which?", "chosen": "Red."}, "field 'rejected': expected a response, got nothing"),
    "tie": ({"prompt": "Which?", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 2}, "got a tie"),
    "reversed": ({"prompt": "Which?", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 2}, "expected at least 'score_rejected'"),
    "two_sets_of_images": ({"prompt": "W", "chosen": "a", "rejected": "b", "rejected_images": ["b.png"]}, "field 'rejected_images'"),
    "other_question": ({"chosen": [USER, ANSWER], "rejected": [{"role": "user", "content": "Who?"}, OTHER]}, "expected it to begin with the same question"),
    "no_transcript": ({"chosen": "Red.", "rejected": "Blue."}, "expected messages, a text beside a 'prompt'"),
    "margin": ({"prompt": "W", "chosen": "a", "rejected": "b", "margin": "much"}, "field 'margin': expected a number, got 'much'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_record_without_a_preference_is_rejected(folder, name):
    record, message = WRONG[name]
    (made,) = rows_of("preference", write(folder / "a.jsonl", [record]))
    assert isinstance(made, Rejected) and message in str(made), made


def test_responses_alike_or_empty_are_named_by_file_and_row(folder):
    records = [{"prompt": "Which?", "chosen": "Red.", "rejected": text} for text in ("Red.", " ", "Blue.")]
    path = write(folder / "pairs.jsonl", records)
    said = "\n".join(inspect(path, None, {}, root=folder))
    assert (
        f"{path}:1" in said
        and "field 'rejected': expected another response than 'chosen', got the same" in said
    )
    assert f"{path}:2" in said and "field 'rejected': expected a text that is not empty" in said

"""LLaVA-Video-178K, VideoChat2-IT and Video-R1: records in the form of their files, made up here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_recipes.inspection import guess
from data_recipes.readers import FORMATS
from rewards.functions.choice import choice_reward

LLAVA_VIDEO = {
    "id": "split_4",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is on the stove?\nA. A kettle\nB. A pot\nC. A pan\nPlease respond with only the letter of the correct answer."},
        {"from": "gpt", "value": "C."},
        {"from": "human", "value": "What colour is the spoon?\nA. Black\nB. Silver\nPlease provide your answer by stating the letter followed by the full option."},
        {"from": "gpt", "value": "B. Silver."},
        {"from": "human", "value": "How does the cook turn the egg?"},
        {"from": "gpt", "value": "She slides a spatula under it and flips it with a turn of the wrist."},
    ],
    "data_source": "0_30_s_academic_v0_1",
    "video": "academic_source/youcook2/101/split_4.mp4",
}  # fmt: skip
VIDEOCHAT = {
    "video": "cooking/7.webm",
    "start": 12.5,
    "end": 30,
    "QA": [
        {"i": "Watch closely and answer.", "q": "What happens first?\nOptions:\n(A) frying\n(B) chopping", "a": "Answer: (B) chopping"},
        {"i": "Look at the details.", "q": "Who is cooking?", "a": "A man with an apron, who talks to the camera all the time."},
    ],
}  # fmt: skip
CAPTION = {"video": "1.mp4", "QA": [{"i": "Describe the video.", "q": "", "a": "A dog runs along a beach."}]}
VIDEO_R1 = {
    "problem_id": 7,
    "problem": "What appears on the screen?",
    "data_type": "video",
    "problem_type": "multiple choice",
    "options": ["A. A warning", "B. A map", "C. A clock"],
    "solution": "<answer>B</answer>",
    "path": "./LLaVA-Video-178K/academic_source/7.mp4",
    "data_source": "LLaVA-Video-178K/30_60_s_academic_v0_1",
}


def rows_of(read_file, tmp_path, kind: str, *records: dict, **options):
    path = tmp_path / "records.json"
    path.write_text(json.dumps(list(records)))
    return read_file(kind, path, validate=False, **options)


def text_of(row: dict) -> str:
    return "".join(part["text"] for part in row["prompt"][-1]["content"] if part["type"] == "text")


def test_the_image_in_llava_videos_text_is_the_video(read_file, tmp_path):
    (row,) = rows_of(read_file, tmp_path, "llava_video", LLAVA_VIDEO).rows
    assert row["videos"] == [str(tmp_path / LLAVA_VIDEO["video"])] and not row["images"]
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["video", "text"]
    assert [message["role"] for message in row["trace"]] == [
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert (row["task"], row["subset"], row["answer"]) == ("chat", "0_30_s_academic_v0_1", None)


def test_llava_video_questions_can_be_rows_with_gold(read_file, tmp_path):
    rows = rows_of(read_file, tmp_path, "llava_video", LLAVA_VIDEO, turns="rows", media=Path("/videos")).rows
    assert [row["task"] for row in rows] == ["choice", "choice", "chat"]
    assert rows[0]["answer"] == {"letter": "C", "options": ["A kettle", "A pot", "A pan"]}
    assert rows[1]["answer"]["letter"] == "B" and choice_reward("Silver", **rows[1]) == 1.0
    assert all(len(row["prompt"]) == 1 and len(row["videos"]) == 1 for row in rows)
    assert rows[2]["trace"][0]["content"].startswith("She slides") and rows[2]["answer"] is None


def test_videochat_shows_its_first_instruction_and_keeps_the_part_of_the_video(read_file, tmp_path):
    (row,) = rows_of(read_file, tmp_path, "videochat", VIDEOCHAT).rows
    assert row["prompt"][0] == {"role": "system", "content": "Watch closely and answer."}
    assert row["videos"] == [{"path": str(tmp_path / "cooking/7.webm"), "start": 12.5, "end": 30}]
    assert len(row["trace"]) == 3
    first, second = rows_of(read_file, tmp_path, "videochat", VIDEOCHAT, turns="rows").rows
    assert first["answer"] == {"letter": "B", "options": ["frying", "chopping"]}
    assert second["prompt"][0]["content"] == "Look at the details." and second["task"] == "chat"


def test_a_question_without_text_is_asked_by_the_instruction(read_file, tmp_path):
    image = {"image": "a.png", "QA": [{"q": "What is it?", "a": "A cat."}]}
    caption, other = rows_of(read_file, tmp_path, "videochat", CAPTION, image).rows
    assert len(caption["prompt"]) == 1 and text_of(caption) == "Describe the video."
    assert other["images"] and not other["videos"]


def test_video_r1_problems_get_the_task_of_their_type(read_file, tmp_path):
    types = {
        "numerical": ("4", "math"),
        "OCR": ("EXIT", "ocr"),
        "regression": ("3.4", "regression"),
        "free-form": ("two dogs", "text"),
    }
    others = [VIDEO_R1 | {"problem_type": kind, "options": [], "solution": f"<answer>{value}</answer>"}
              for kind, (value, _) in types.items()]  # fmt: skip
    read = rows_of(read_file, tmp_path, "video_r1", VIDEO_R1, *others)
    assert read.rejected == []
    assert [row["task"] for row in read.rows] == ["choice", *(task for _, task in types.values())]
    first = read.rows[0]
    assert first["answer"] == {"letter": "B", "options": ["A warning", "A map", "A clock"]}
    assert text_of(first).endswith("Options:\nA. A warning\nB. A map\nC. A clock")
    assert first["videos"] == [str(tmp_path / "LLaVA-Video-178K/academic_source/7.mp4")]
    assert read.rows[1]["answer"] == {"value": "4"} and first["trace"] is None


def test_long_answers_and_thoughts_of_video_r1_are_traces(read_file, tmp_path):
    long = VIDEO_R1 | {
        "problem_type": "free-form", "data_type": "image", "path": "a.png",
        "solution": "<answer>A man walks in and puts a box on the table.</answer>",
    }  # fmt: skip
    thought = VIDEO_R1 | {"process": "<think>The map is shown at 0:05.</think>"}
    plain, cot = rows_of(read_file, tmp_path, "video_r1", long, thought).rows
    assert plain["task"] == "chat" and plain["answer"] is None and plain["images"]
    assert plain["trace"][0]["content"] == "A man walks in and puts a box on the table."
    assert cot["answer"]["letter"] == "B"
    assert cot["trace"][0]["content"] == "<think>The map is shown at 0:05.</think>\n<answer>B</answer>"


@pytest.mark.parametrize(
    ("kind", "record", "reason"),
    [
        ("llava_video", LLAVA_VIDEO | {"video": 3}, "field 'video': expected the video's path"),
        ("llava_video", LLAVA_VIDEO | {"conversations": LLAVA_VIDEO["conversations"][:3]}, "got 3 turns"),
        ("llava_video", LLAVA_VIDEO | {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "<image>"}]}, "field 'images': expected 1 image(s)"),
        ("llava_video", LLAVA_VIDEO | {"conversations": [{"from": "human", "value": "<image><image>What?"}, {"from": "gpt", "value": "A."}]}, "expected one <image> at most"),
        ("videochat", VIDEOCHAT | {"QA": [{"q": "", "a": "A dog."}]}, "field 'QA[0].q': expected a question or"),
        ("videochat", VIDEOCHAT | {"QA": [{"q": "What?", "a": " "}]}, "field 'QA[0].a': expected an answer"),
        ("video_r1", VIDEO_R1 | {"solution": "<answer>D</answer>"}, "expected the letter of one of 3 options"),
        ("video_r1", VIDEO_R1 | {"solution": "B"}, "field 'solution': expected <answer>…</answer>"),
        ("video_r1", VIDEO_R1 | {"data_type": "audio"}, "field 'data_type': expected image or video"),
        ("video_r1", VIDEO_R1 | {"problem_type": "essay"}, "field 'problem_type': expected multiple choice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(read_file, tmp_path, kind, record, reason):
    read = rows_of(read_file, tmp_path, kind, record)
    assert not read.rows and reason in read.rejected[0]


@pytest.mark.parametrize(
    ("kind", "record"), [("llava_video", LLAVA_VIDEO), ("videochat", VIDEOCHAT), ("video_r1", VIDEO_R1)]
)
def test_the_likeliest_format_is_theirs(tmp_path, kind, record):
    (tmp_path / "a.json").write_text(json.dumps([record]))
    assert guess(tmp_path / "a.json")[0] is FORMATS[kind]

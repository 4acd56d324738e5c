"""Files of users of other tools, unchanged: EasyR1, verl, LLaMA-Factory, LLaVA, ms-swift."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from core.rows import check_row
from data_recipes.readers import FORMATS
from data_recipes.records import Record, Rejected
from rewards.functions.grounding import box_set_reward, giou_reward
from vlm.media import load_image


def rows_of(name: str, path: Path, **options) -> list[dict]:
    form = FORMATS[name]
    chosen = form.options(**options)
    return [row for record in form.read(path, chosen) for row in form.convert(record, chosen)]


def convert(name: str, data, **options) -> dict:
    form = FORMATS[name]
    (row,) = form.convert(Record(data, Path("/data/set.json"), 7), form.options(**options))
    return row


def guesses(first) -> list[str]:
    return [name for name, form in FORMATS.items() if form.looks_like(Path("/data/set.json"), first)]


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------ EasyR1 and verl


def test_easyr1_parquet_with_image_bytes_and_other_columns(tmp_path, read_file):
    path = tmp_path / "train.parquet"
    data = {
        "images": [{"bytes": png(), "path": None}] * 2,
        "problem": "<image>A <image>\nB?",
        "answer": "3",
        "level": 4,
    }
    pq.write_table(pa.Table.from_pylist([data, data]), path)
    first, second = (check_row(row, tmp_path) for row in rows_of("easyr1", path))
    assert (first["id"], second["id"]) == ("1", "2")
    assert [part["type"] for part in first["prompt"][0]["content"]] == ["image", "text", "image", "text"]
    assert (first["answer"], first["level"], first["task"]) == ({"value": "3"}, 4, "math")
    assert load_image(first["images"][1]).size == (40, 30)
    assert "easyr1" in guesses(data)
    assert len(read_file("easyr1", path).valid) == 2


def test_easyr1_columns_are_options_and_image_dir_is_media():
    data = {"q": "<image>Where?", "a": "[1, 2, 3, 4]", "pics": ["x.png"]}
    keys = {"prompt_key": "q", "answer_key": "a", "image_key": "pics"}
    row = convert("easyr1", data, task="grounding", media="/pictures", **keys)
    assert row["images"] == ["/pictures/x.png"]
    assert row["answer"] == {"boxes": [[1, 2, 3, 4]], "frame": "pixel"}
    giou_reward.check_gold(row["answer"], row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": None}, "field 'problem': expected a text, got null"),
        ({"answer": None}, "field 'answer': expected the true answer, got null"),
        ({"answer": True}, "field 'answer': expected a text or a number"),
        ({"images": []}, r"field 'images': expected 1 image\(s\), one per <image> in 'problem', got 0"),
        ({"images": ["https://x.org/a.png"]}, r"field 'images\[0\]': expected a file, got a URL"),
        ({"images": [{"bytes": None, "path": None}]}, r"field 'images\[0\]': expected a path, bytes"),
    ],
)
def test_a_broken_easyr1_record_is_rejected(change, message):
    data = {"images": ["a.png"], "problem": "<image>Find x.", "answer": "3"}
    assert convert("easyr1", data)["images"] == ["/data/a.png"]
    with pytest.raises(Rejected, match=message):
        convert("easyr1", data | change)


VERL = {
    "data_source": "hiyouga/geometry3k",
    "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "<image>Find x."}],
    "images": [{"bytes": b"", "path": "a.png"}],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "3"},
    "extra_info": {"split": "train", "index": 5, "question": "<image>Find x."},
}


def test_verl_parquet_keeps_its_columns(tmp_path):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([VERL | {"images": [{"bytes": png(), "path": None}]}]), path)
    row = check_row(rows_of("verl", path)[0], tmp_path)
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert (row["id"], row["answer"], row["task"]) == ("train-5@1", {"value": "3"}, "math")
    assert row["source"]["dataset"] == row["data_source"] == "hiyouga/geometry3k"
    assert row["extra_info"]["question"] == "<image>Find x."
    assert "verl" in guesses(VERL)


def test_verl_tasks_by_data_source_and_media_of_qwen_vl_utils():
    video = {"type": "video", "video": "file:///clips/a.mp4", "fps": 2.0, "video_start": 1.0}
    data = VERL | {
        "prompt": [{"role": "user", "content": "<video>When?"}],
        "images": None,
        "videos": [video],
        "reward_model": {"ground_truth": "[1.5, 3]"},
    }
    row = convert("verl", data, tasks={"hiyouga/geometry3k": "temporal"})
    assert row["videos"] == [{"path": "/clips/a.mp4", "start": 1.0, "fps": 2.0}]
    assert (row["task"], row["answer"]) == ("temporal", {"spans": [[1.5, 3]]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "Find x."}, "field 'prompt': expected a list of messages"),
        (
            {"prompt": [{"role": "bot", "content": "?"}], "images": []},
            r"field 'prompt\[0\].role': expected one of",
        ),
        ({"reward_model": {}}, "field 'reward_model.ground_truth': expected the true answer"),
        ({"reward_model": None}, "field 'reward_model': expected an object"),
        ({"data_source": None}, "field 'data_source': expected a text"),
    ],
)
def test_a_broken_verl_record_is_rejected(change, message):
    with pytest.raises(Rejected, match=message):
        convert("verl", VERL | change)


# ------------------------------------------------------------------------------------------------------ LLaMA-Factory

OPENAI = {
    "messages": [
        {"content": "<image>Who are they?", "role": "user"},
        {"content": "Two players.", "role": "assistant"},
        {"content": "What are they doing?<image>", "role": "user"},
        {"content": "They celebrate.", "role": "assistant"},
    ],
    "images": ["demo/1.jpg", "demo/2.jpg"],
}


def test_messages_of_several_turns_with_images_in_reading_order():
    row = convert("sharegpt", OPENAI)
    assert row["prompt"] == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who are they?"}]}
    ]
    assert [m["role"] for m in row["trace"]] == ["assistant", "user", "assistant"]
    assert row["trace"][1]["content"][1] == {"type": "image"}
    assert row["images"] == ["/data/demo/1.jpg", "/data/demo/2.jpg"]
    assert "sharegpt" in guesses(OPENAI)
    assert "ms_swift" not in guesses(OPENAI)


@pytest.mark.parametrize("name", ["sharegpt", "llava"])
def test_an_escaped_placeholder_is_the_text_itself(name):
    turns = [
        {"from": "human", "value": "<image>\nWhich tag is \\<image> here?"},
        {"from": "gpt", "value": "HTML has no \\<image>, but <img>; \\<video> it has."},
    ]
    row = convert(name, {"id": "1", "image": "a.png", "images": ["a.png"], "conversations": turns})
    assert row["prompt"][-1]["content"] == [
        {"type": "image"},
        {"type": "text", "text": "Which tag is <image> here?"},
    ]
    assert row["trace"][0]["content"] == "HTML has no <image>, but <img>; <video> it has."
    turns[1]["value"] = "HTML has no <image>."
    with pytest.raises(
        Rejected,
        match=r"expected 2 image\(s\), one per <image> in .*, got 1 \(\\<image> is the text itself\)",
    ):
        convert(name, {"id": "1", "image": "a.png", "images": ["a.png"], "conversations": turns})


def test_conversations_with_system_tools_calls_and_video():
    call = '{"name": "zoom", "arguments": {}}'
    data = {
        "conversations": [
            {"from": "human", "value": "<video>\nWhy?"},
            {"from": "function_call", "value": call},
            {"from": "observation", "value": "done"},
            {"from": "gpt", "value": "Because."},
        ],
        "system": "Be brief.",
        "tools": "[]",
        "videos": ["a.mp4"],
    }
    row = convert("sharegpt", data, media="/clips")
    assert [m["role"] for m in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"] == [{"type": "video"}, {"type": "text", "text": "Why?"}]
    assert [m["role"] for m in row["trace"]] == ["assistant", "tool", "assistant"]
    assert row["trace"][0]["content"] == f"<tool_call>\n{call}\n</tool_call>"
    assert (row["videos"], row["tools"]) == (["/clips/a.mp4"], "[]")


def test_dataset_info_gives_columns_and_tags(tmp_path):
    info = {
        "mine": {
            "file_name": "mine.json",
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "images": "pics"},
            "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "me", "assistant_tag": "it"},
        },
        "other": {"file_name": "other.json"},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    talk = [{"who": "me", "says": "<image>?"}, {"who": "it", "says": "!"}]
    (tmp_path / "mine.json").write_text(json.dumps([{"talk": talk, "pics": ["a.png"]}]))
    (row,) = rows_of("sharegpt", tmp_path / "mine.json", dataset_info=tmp_path / "dataset_info.json")
    assert row["trace"] == [{"role": "assistant", "content": "!"}]
    with pytest.raises(ValueError, match="other: expected formatting sharegpt, got alpaca"):
        rows_of(
            "sharegpt", tmp_path / "mine.json", dataset_info=tmp_path / "dataset_info.json", entry="other"
        )
    with pytest.raises(ValidationError, match="tags: expected some of"):
        FORMATS["sharegpt"].options(tags={"role": "from"})


def test_one_answer_in_four_stages_becomes_a_trace_of_stages():
    text = "<SUMMARY>s</SUMMARY><CAPTION>c</CAPTION><REASONING>r</REASONING><CONCLUSION>B</CONCLUSION>"
    row = convert(
        "sharegpt", {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": text}]}
    )
    assert row["trace"] == {"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "B"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"messages": OPENAI["messages"][1:]},
            r"field 'messages\[0\].role': expected user or observation, got 'assist",
        ),
        ({"messages": OPENAI["messages"][:3]}, "field 'messages': expected an answer as the last turn"),
        ({"messages": None}, "field 'messages': expected a list of turns, got null"),
        (
            {"messages": [{"role": "user", "content": None}]},
            r"field 'messages\[0\].content': expected a text",
        ),
        ({"images": ["demo/1.jpg"]}, r"field 'images': expected 2 image\(s\)"),
        ({"chosen": {"role": "assistant", "content": "x"}}, "field 'chosen': expected no preference data"),
        ({"audios": ["a.mp3"]}, "field 'audios': expected only images and videos"),
    ],
)
def test_what_llama_factory_would_skip_is_rejected_with_its_field(change, message):
    with pytest.raises(Rejected, match=message):
        convert("sharegpt", OPENAI | change)


def test_a_call_that_is_no_json_is_rejected():
    turns = [{"from": "human", "value": "?"}, {"from": "function_call", "value": "zoom()"}]
    with pytest.raises(Rejected, match=r"field 'conversations\[1\].value': expected a tool call in JSON"):
        convert("sharegpt", {"conversations": turns})


def test_real_reasoning_and_tool_messages_are_read(shared_data):
    path = shared_data / "sft_traces" / "reason_tool_use_demo.first25.jsonl"
    rows = [check_row(row, path.parent) for row in rows_of("llamafactory_v1", path)]
    assert len(rows) == 25
    assert all(row["trace"][0]["content"].startswith("<think>\n") for row in rows)
    assert any("<tool_call>\n{" in str(turn["content"]) for row in rows for turn in row["trace"])
    assert guesses(json.loads(path.read_text().splitlines()[0])) == ["llamafactory_v1"]


def test_typed_parts_bring_their_media_and_wrong_ones_are_rejected():
    def messages(*parts):
        return {
            "messages": [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": [text]}]
        }

    text = {"type": "text", "value": "It is red."}
    row = convert(
        "llamafactory_v1", messages({"type": "image_url", "value": "a.png"}, {"type": "text", "value": "?"})
    )
    assert row["images"] == ["/data/a.png"]
    assert row["prompt"][0]["content"][0] == {"type": "image"}
    with pytest.raises(Rejected, match=r"field 'messages\[0\].content\[0\].type': .* got 'audio_url'"):
        convert("llamafactory_v1", messages({"type": "audio_url", "value": "a.mp3"}))


# -------------------------------------------------------------------------------------------------------------- LLaVA


def test_real_chart_questions_in_llava_form(shared_data):
    path = shared_data / "cookbook_traces" / "chart_demo" / "single_images.json"
    rows = rows_of("llava", path)
    assert len(rows) == 3
    assert rows[0]["prompt"][0]["content"][-1] == {"type": "image"}  # at the end of the turn, as there
    assert rows[0]["images"][0].endswith("/chart_demo/demo/images/10095.png")
    golds = rows_of("llava", path, gold="last", task="text")
    assert [row["answer"]["value"] for row in golds] == ["Yes", "6", "2014"]
    assert all(row["trace"] is None for row in golds)


def test_real_chart_questions_pass_validation_with_their_images(shared_data, tmp_path, read_file):
    demo = shared_data / "cookbook_traces" / "chart_demo"
    shutil.copytree(demo / "images", tmp_path / "demo" / "images")
    found = read_file("llava", demo / "single_images.json", media=tmp_path)
    assert (len(found.valid), found.rejected, found.invalid) == (3, [], [])
    golds = read_file("llava", demo / "single_images.json", media=tmp_path, gold="last", task="text")
    assert len(golds.valid) == 3


def test_llava_ids_that_repeat_and_images_without_a_placeholder(tmp_path):
    talk = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]
    records = [{"id": "1", "image": "a.jpg", "conversations": talk}, {"id": "1", "conversations": talk}]
    path = tmp_path / "mix.json"
    path.write_text(json.dumps(records))
    first, second = rows_of("llava", path)
    assert (first["id"], second["id"]) == ("1@0", "1@1")
    assert first["prompt"][0]["content"][0] == {"type": "image"}
    assert second["prompt"][0]["content"] == "What?"
    assert guesses(records[0]) == ["llava"]


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([{"from": "human", "value": 1}], r"field 'conversations\[0\].value': expected a text, got 1"),
        (
            [{"from": "robot", "value": "x"}],
            r"field 'conversations\[0\].from': expected human, gpt or system",
        ),
        (
            [{"from": "gpt", "value": "x"}],
            "field 'conversations': expected a question before the first answer",
        ),
        ([], "field 'conversations': expected at least one turn"),
        (None, "field 'conversations': expected a list of turns"),
    ],
)
def test_a_broken_llava_record_is_rejected(conversation, message):
    with pytest.raises(Rejected, match=message):
        convert("llava", {"id": "1", "conversations": conversation})


def test_gold_last_needs_one_plain_answer():
    talk = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "1"}]
    with pytest.raises(
        Rejected, match="gold 'last': expected one question and one answer of plain text, got 3 turns"
    ):
        convert("llava", {"conversations": talk * 2}, gold="last")


# ----------------------------------------------------------------------------------------------------------- ms-swift

SHEEP = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "<image>Find the <ref-object> in the image"},
        {"role": "assistant", "content": "<bbox><bbox>"},
    ],
    "images": ["x.jpg"],
    "objects": {"ref": ["sheep"], "bbox": [[90.9, 160.8, 135, 212.8], [360.9, 480.8, 495, 532.8]]},
}


def test_objects_stand_in_the_text_in_reading_order():
    row = convert("ms_swift", SHEEP)
    assert row["prompt"][1]["content"][1]["text"] == "Find the sheep in the image"
    assert row["trace"] == [{"role": "assistant", "content": "[91, 161, 135, 213][361, 481, 495, 533]"}]
    assert row["objects"]["frame"] == "pixel"
    assert "ms_swift" in guesses(SHEEP)


def test_boxes_of_the_answer_as_gold():
    row = convert("ms_swift", SHEEP, task="grounding", gold="objects")
    assert row["answer"] == {"boxes": SHEEP["objects"]["bbox"], "frame": "pixel"}
    assert row["trace"] is None
    box_set_reward.check_gold(row["answer"], row)


def test_fractions_points_and_objects_written_as_text():
    data = {
        "messages": [
            {"role": "system", "content": "Be exact."},
            {"role": "user", "content": "Help me open Google Chrome"},
            {"role": "assistant", "content": "Action: click(start_box='<bbox>')"},
        ],
        "images": ["x.jpg"],
        "objects": json.dumps({"ref": [], "bbox": [[0.125, 0.5]], "bbox_type": "norm1"}),
    }
    row = convert("ms_swift", data)
    assert row["prompt"][1]["content"][0] == {"type": "image"}  # no tag: in front
    assert row["trace"][0]["content"] == "Action: click(start_box='[0.125, 0.5]')"
    assert convert("ms_swift", data, gold="objects")["answer"] == {"point": [0.125, 0.5], "frame": "norm1"}


def test_the_other_forms_of_a_dialogue():
    query = convert(
        "ms_swift",
        {"system": "s", "query": "b?", "response": "B", "history": [["a?", "A"]], "images": ["x.jpg"]},
    )
    assert [m["role"] for m in query["prompt"] + query["trace"]] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    alpaca = convert("ms_swift", {"instruction": "Translate.", "input": "Hund", "output": "dog"})
    assert alpaca["prompt"] == [{"role": "user", "content": "Translate.\nHund"}]
    pairs = convert(
        "ms_swift", {"conversation": [{"human": "1?", "assistant": "1"}, {"human": "2?", "assistant": "2"}]}
    )
    assert len(pairs["trace"]) == 3


def test_prompts_for_grpo_end_with_the_user_and_take_their_gold_from_a_column():
    messages = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And 1 more?"},
    ]
    row = convert("ms_swift", {"messages": messages, "solution": "3"}, task="math", gold="solution")
    assert (row["answer"], row["trace"], len(row["prompt"])) == ({"value": "3"}, None, 3)


def test_tool_calls_and_their_words_are_one_turn():
    data = {
        "messages": [
            {"role": "user", "content": "<image>What time is it now?"},
            {"role": "assistant", "content": "<think>\nI open the calendar.\n</think>\n"},
            {"role": "tool_call", "content": '{"name": "click", "arguments": {"x": 105, "y": 132}}'},
            {"role": "tool_response", "content": '{"images": "<image>", "status": "success"}'},
            {"role": "assistant", "content": "11 o'clock."},
        ],
        "images": ["desktop.png", "calendar.png"],
    }
    row = convert("ms_swift", data)
    assert [m["role"] for m in row["trace"]] == ["assistant", "tool", "assistant"]
    assert row["trace"][0]["content"].startswith("<think>\nI open the calendar.\n</think>\n<tool_call>\n{")
    assert {"type": "image"} in row["trace"][1]["content"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": None}, "field 'objects': expected one entry for each of 3"),
        (
            {"objects": {"ref": ["a"], "bbox": [[1, 2, 3, 4]]}},
            "field 'objects.bbox': expected 2, one per <bbox>, got 1",
        ),
        ({"objects": {"ref": [], "bbox": SHEEP["objects"]["bbox"]}}, "field 'objects.ref': expected 1"),
        (
            {"objects": {"ref": ["a"], "bbox": [[1, 2, 3], [1, 2, 3, 4]]}},
            r"field 'objects.bbox\[0\]': expected 4 numbers",
        ),
        (
            {"objects": SHEEP["objects"] | {"bbox_type": "norm"}},
            "field 'objects.bbox_type': expected real or norm1",
        ),
        (
            {"objects": SHEEP["objects"] | {"image_id": [3]}},
            r"field 'objects.image_id\[0\]': expected one of 1 images",
        ),
        ({"objects": "__import__('os')"}, "field 'objects': expected JSON or a Python literal"),
        ({"images": []}, r"field 'images': expected 1 image\(s\)"),
        ({"rejected_response": "x"}, "field 'rejected_response': expected none"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, r"field 'messages\[0\].role'"),
        (
            {"messages": [{"role": "user", "content": 3}]},
            r"field 'messages\[0\].content': expected a text, got 3",
        ),
    ],
)
def test_a_broken_ms_swift_record_is_rejected(change, message):
    with pytest.raises(Rejected, match=message):
        convert("ms_swift", SHEEP | change)

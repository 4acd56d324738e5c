"""Dialogues by a scripted teacher over HTTP: a model that searches well does not fit into a test (see endpoints.py)."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.rows import check_row, read_rows, write_rows
from data_recipes.config import Recipe
from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed
from data_recipes.runner import run_recipe
from data_recipes.teacher.endpoint import Reply
from data_recipes.teacher.trajectories import turn_of
from environments.dialogue import SYSTEM
from tests.data_recipes.endpoints import error, scripted_teacher, text_of

SIZE = (400, 300)
STOP = ("</grounding>", "</tool_call>")


def call(box: list[float], source: str = "original_image", thought: str = "It is small.") -> str:
    wanted = json.dumps({"bbox_2d": box, "source": source})
    return f"<think>{thought}</think><grounding>{wanted}</grounding>"


ANSWER = "<think>Now I can read it.</think><answer>47</answer>"
FIRST, SECOND = call([0.25, 0.2, 0.75, 0.8]), call([0.5, 0.5, 1.0, 1.0], "observation_1")


@pytest.fixture
def image(tmp_path) -> str:
    """Every pixel tells where it is."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    path = tmp_path / "image.png"
    Image.fromarray(np.stack([x % 256, y % 256, x // 256 * 64 + y // 256 * 16], -1).astype(np.uint8)).save(
        path
    )
    return str(path)


def row(image: str, number: int = 0, **more: Any) -> dict:
    content = [{"type": "image"}, {"type": "text", "text": f"What number is on the sign {number}?"}]
    return {
        "id": f"r{number}",
        "task": "search",
        "prompt": [{"role": "user", "content": content}],
        "images": [image],
        "videos": [],
        "answer": {"value": "47"},
        "trace": None,
        "source": None,
    } | more


def collect(rows, url: str, folder: Path, **options):
    """(rows out, counts) of the operation with the teacher at the url."""
    teacher = {"base_url": url, "model": "big", "max_retries": 2}
    settings: dict[str, Any] = {"teacher": teacher, "rewards": {"tasks": {"search": "exact_text"}}} | options
    operation = OPERATIONS["trajectories"]
    context = Context(folder)
    return list(operation.apply(iter(rows), operation.options(**settings), context)), context.counts


def by_turn(*replies: Any):
    """A script that plays replies by the number of turns that the dialogue in a request has already."""

    def script(body: dict[str, Any], number: int) -> Any:
        return replies[sum(message["role"] == "assistant" for message in body["messages"])]

    return script


def sent_images(message: dict[str, Any]) -> list[Image.Image]:
    urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def test_calls_are_carried_out_until_the_teacher_answers(image, tmp_path):
    with scripted_teacher(by_turn(FIRST, SECOND, ANSWER)) as teacher:
        (out,), counts = collect([row(image)], teacher.url, tmp_path / "work")
    out = check_row(out, tmp_path)
    assert [turn["role"] for turn in out["trace"]] == ["assistant", "user", "assistant", "user", "assistant"]
    assert [turn["content"] for turn in out["trace"][::2]] == [FIRST, SECOND, ANSWER]
    assert out["prompt"][0] == {"role": "system", "content": SYSTEM} and out["turns"] == 3
    assert out["teacher"] == {"model": "big", "tries": 1, "verified_by": "reward"}
    original = Image.open(image)
    first = original.crop((100, 60, 300, 240))
    crops = [first, first.crop((100, 90, 200, 180))]
    requests = [request["messages"] for request in teacher.requests]
    assert [len(messages) for messages in requests] == [2, 4, 6] and teacher.requests[0]["stop"] == list(STOP)
    for number, crop in enumerate(crops, start=1):
        kept, sent = Image.open(out["images"][number]), sent_images(requests[number][-1])[0]
        assert np.array_equal(kept, sent)
        scale = (40_000 / (crop.width * crop.height)) ** 0.5  # observations are enlarged to 40,000 pixels
        size = (round(crop.width * max(1, scale)), round(crop.height * max(1, scale)))
        assert kept.size == size and np.array_equal(
            kept, crop if scale <= 1 else crop.resize(size, Image.Resampling.LANCZOS)
        )
        text = text_of(requests[number][-1]["content"])
        assert f"Action {number - 1} gave this region (Observation {number})" in text
        assert text == text_of(out["trace"][2 * number - 1]["content"])
    assert counts["accepted"] == counts["accepted/turns_3"] == counts["dialogues"] == 1


def test_the_teacher_may_be_sent_smaller_images_than_crops_are_taken_from(image, tmp_path):
    teacher_options = {"model": "big", "max_pixels": 10_000}
    with scripted_teacher(by_turn(FIRST, ANSWER)) as teacher:
        (out,), _ = collect(
            [row(image)], teacher.url, tmp_path, teacher=teacher_options | {"base_url": teacher.url}
        )
    shown = sent_images(teacher.requests[0]["messages"][1])[0]
    assert shown.width * shown.height <= 10_000
    crop = Image.open(image).crop((100, 60, 300, 240)).resize((211, 190), Image.Resampling.LANCZOS)
    assert np.array_equal(Image.open(out["images"][1]), crop)


def test_examples_come_before_the_question_with_their_images(image, tmp_path):
    example = row(
        image,
        7,
        trace=[
            {"role": "assistant", "content": FIRST},
            observation(),
            {"role": "assistant", "content": ANSWER},
        ],
    )
    example["prompt"].insert(0, {"role": "system", "content": "Another wording."})
    example["images"] *= 2
    examples = write_rows([example, example | {"id": "r8"}], tmp_path / "examples.jsonl")
    with scripted_teacher(lambda body, number: ANSWER) as teacher:
        (out,), _ = collect([row(image)], teacher.url, tmp_path / "work", examples=str(examples), shots=1)
    messages = teacher.requests[0]["messages"]
    assert [message["role"] for message in messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert messages[0]["content"] == SYSTEM and [len(sent_images(m)) for m in messages[1::2]] == [1, 1, 1]
    assert len(out["images"]) == 1 and len(out["trace"]) == 1
    plain = write_rows([row(image, 9)], tmp_path / "plain.jsonl")
    with pytest.raises(ValueError, match="expected rows with dialogues as traces, got row 'r9' without one"):
        collect([row(image)], teacher.url, tmp_path / "other", examples=str(plain))


def observation() -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "The region."}]}


def test_a_wrong_answer_is_tried_again_without_a_hint_and_then_the_row_leaves(image, tmp_path):
    wrong = ANSWER.replace("47", "74")
    script = [wrong, wrong, ANSWER]
    with scripted_teacher(lambda body, number: script[number]) as teacher:
        first, second = (
            collect([row(image)], teacher.url, tmp_path / str(tries), max_tries=tries)[0][0]
            for tries in (1, 2)
        )
    assert isinstance(first, Removed) and first.rule == "trajectory_wrong"
    assert "the answer '74' has reward 0" in first.reason
    assert second["teacher"]["tries"] == 2
    assert (
        "47"
        not in json.dumps([request["messages"] for request in teacher.requests]).replace("base64", "")[:2000]
    )


REFUSED = {
    "a failed call": ((call([0.5, 0.5, 0.4, 0.6]),), "call", "turn 1: the call failed: bbox_2d: expected x1 < x2"),
    "no call and no answer": (("<think>Hm.</think>47",), "no_answer", "expected a call or <answer>"),
    "no end": ((FIRST,) * 3, "over_turn", "no answer in 3 turns"),
    "nothing": (("",), "refused", "gave no text"),
    "a refusal": ((None,), "refused", "finish: content_filter"),
    "a control token": ((ANSWER.replace("read", "<|im_end|>"),), "token", "control token <|im_end|>"),
    "a turn cut off": (
        ({"finish_reason": "length", "message": {"role": "assistant", "content": "<think>It"}},),
        "cut",
        "cut off at the length limit",
    ),
    "turned down": ((error(400, "too long"),), "failed", "turned down"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_dialogue_that_is_not_fit_to_learn_from_is_refused_by_rule(image, tmp_path, kind):
    replies, rule, reason = REFUSED[kind]
    environment = {"tools": ["zoom"], "describe_tools": False, "max_turns": 3}
    with scripted_teacher(by_turn(*replies)) as teacher:
        (out,), counts = collect([row(image)], teacher.url, tmp_path, environment=environment)
    assert isinstance(out, Removed) and out.rule == f"trajectory_{rule}" and reason in out.reason
    assert counts[f"refused/{rule}"] == 1


def test_failed_calls_may_be_allowed_and_are_answered_as_in_a_rollout(image, tmp_path):
    broken = "<think>There.</think><grounding>{not JSON}</grounding>"
    with scripted_teacher(by_turn(broken, FIRST, ANSWER)) as teacher:
        (out,), _ = collect([row(image)], teacher.url, tmp_path, max_failed_calls=1)
    assert "Action 0 failed: expected one JSON object" in text_of(out["trace"][1]["content"])
    assert "(Observation 1)" in text_of(out["trace"][3]["content"]) and len(out["images"]) == 2


def test_rows_that_nothing_can_judge_cost_nothing(image, tmp_path):
    rows = [
        row(image, 0, answer=None),
        row(image, 1, task="chat"),
        row(image, 2, trace=[{"role": "assistant", "content": "x"}]),
    ]
    with scripted_teacher(lambda body, number: ANSWER) as teacher:
        (first, second, third), counts = collect(rows, teacher.url, tmp_path)
        assert not teacher.requests
        (again,), _ = collect([rows[2]], teacher.url, tmp_path, replace=True)
    assert [first.rule, second.rule] == ["trajectory_unverifiable"] * 2 and third is rows[2]
    assert counts["passed"] == 1 and again["trace"] == [{"role": "assistant", "content": ANSWER}]


def test_a_dialogue_that_was_paid_for_is_not_asked_for_again(image, tmp_path):
    with scripted_teacher(by_turn(FIRST, SECOND, ANSWER)) as teacher:
        first, _ = collect([row(image)], teacher.url, tmp_path)
        second, counts = collect([row(image)], teacher.url, tmp_path)
    assert first == second and len(teacher.requests) == 3 and counts["teacher/cached"] == 3


def test_a_recipe_turns_published_questions_into_dialogues_to_train_on(image, tmp_path):
    problem = {
        "problem": "<image>\nWhat number is on the sign?",
        "solution": "47",
        "data_source": "visual_probe_train",
    }
    questions = [problem | {"images": ["image.png"], "doc_id": str(i)} for i in range(2)]
    (tmp_path / "train.json").write_text(
        json.dumps([*questions, questions[0] | {"doc_id": "9", "solution": "48"}])
    )
    with scripted_teacher(by_turn(FIRST, ANSWER)) as teacher:
        options = {
            "teacher": {"base_url": teacher.url, "model": "big"},
            "rewards": {"tasks": {"search": "exact_text"}},
        }
        recipe = Recipe.model_validate(
            {
                "name": "t",
                "sources": [
                    {"name": "probe", "format": "visual_search", "path": str(tmp_path / "train.json")}
                ],
                "operations": [{"trajectories": options}],
                "output_dir": str(tmp_path / "out"),
                "tasks": 1,
                "workers": 1,
            }
        )
        run_recipe(recipe, say=lambda line: None)
    rows = read_rows(tmp_path / "out")
    assert [one["id"] for one in rows] == ["probe/0@0", "probe/1@1"]
    for one in rows:
        assert len(one["trace"]) == 3 and len(one["images"]) == 2 and ".work" not in one["images"][1]
        assert Image.open(one["images"][1]).size == (211, 190)
    removed = (tmp_path / "out" / "removed.jsonl").read_text()
    assert "trajectory_wrong" in removed


def test_qwens_format_and_boxes_in_another_frame(image, tmp_path):
    wanted = {"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [250, 200, 750, 800], "label": "sign"}}
    first = f"<think>Small.</think><tool_call>{json.dumps(wanted)}</tool_call>"
    environment = {"tools": ["image_zoom_in_tool"], "frame": "norm1000"}
    with scripted_teacher(by_turn(first, ANSWER)) as teacher:
        (out,), _ = collect([row(image)], teacher.url, tmp_path, environment=environment)
    assert "<tools>" in out["prompt"][0]["content"] and SYSTEM not in out["prompt"][0]["content"]
    assert Image.open(out["images"][1]).getpixel((0, 0))[:2] == (100, 60)
    assert "<tool_response>" in text_of(out["trace"][1]["content"])


@pytest.mark.parametrize(
    ("text", "finish", "wanted"),
    [
        (FIRST, "stop", FIRST),
        (FIRST.removesuffix("</grounding>"), "stop", FIRST),
        (FIRST.removesuffix("</grounding>"), "length", FIRST.removesuffix("</grounding>")),
        (f"{FIRST}\nObservation 1: I see 12. <answer>12</answer>", "stop", FIRST),
        (f"\n{ANSWER}\nI hope it helps.", "stop", ANSWER),
        ("Hm.", "stop", "Hm."),
    ],
)
def test_a_turn_ends_with_its_first_call_or_answer(text, finish, wanted):
    assert turn_of(Reply(text, finish), STOP) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": {"tools": ["zoom"], "frame": "resized"}}, "expected norm1, norm1000 or pixel, got resized"),
        ({"max_tries": 2, "teacher": {"temperature": 0}}, "expected a teacher with a temperature above 0"),
        ({"environment": {"tools": ["zoom"], "frame": "pixel"}, "teacher": {"max_pixels": 10_000}}, "expected teacher.max_pixels null"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(change, message):
    settings = {"rewards": {"tasks": {"search": "exact_text"}}} | change
    settings["teacher"] = {"base_url": "http://127.0.0.1:1/v1", "model": "big"} | settings.get("teacher", {})
    with pytest.raises(ValueError, match=message):
        OPERATIONS["trajectories"].options(**settings)

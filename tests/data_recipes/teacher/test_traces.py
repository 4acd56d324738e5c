"""Traces by a scripted teacher: a model that writes good traces does not fit into a test (see endpoints.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.rows import check_row
from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed
from data_recipes.teacher.judge import read_scores
from rewards.stages import render
from tests.data_recipes.endpoints import error, scripted_teacher, text_of

REWARDS = {"tasks": {"math": "math", "choice": "choice", "grounding": "giou", "counting": "counting"}}


def reply(conclusion: str, reasoning: str = "One and two make three.") -> str:
    trace = {"summary": "I add.", "caption": "Two dice.", "reasoning": reasoning, "conclusion": conclusion}
    return render(trace)


@pytest.fixture
def image(tmp_path) -> str:
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8)).save(path)
    return str(path)


def row(image: str | None = None, number: int = 0, **more: Any) -> dict:
    content: list[dict] = [{"type": "image"}] if image else []
    content.append({"type": "text", "text": f"What is the sum {number}?"})
    return {
        "id": f"r{number}",
        "task": "math",
        "prompt": [{"role": "user", "content": content}],
        "images": [image] if image else [],
        "videos": [],
        "answer": {"value": "3"},
        "trace": None,
        "source": None,
    } | more


def traces(rows, url: str, folder: Path, **options):
    """(rows out, counts) of the operation with a teacher (and a judge, if named) at the url."""
    settings = {"teacher": {"base_url": url, "model": "big", "max_retries": 2}, "rewards": REWARDS} | options
    if settings.get("judge") == "there":
        settings["judge"] = {"base_url": url, "model": "judge", "max_retries": 2}
    operation = OPERATIONS["traces"]
    context = Context(folder)
    return list(operation.apply(iter(rows), operation.options(**settings), context)), context.counts


def test_a_trace_that_verifies_is_kept(image, tmp_path):
    with scripted_teacher(lambda body, number: reply("3")) as teacher:
        (out,), counts = traces([row(image)], teacher.url, tmp_path / "work")
    assert out["trace"] == {
        "summary": "I add.",
        "caption": "Two dice.",
        "reasoning": "One and two make three.",
        "conclusion": "3",
    }
    assert out["teacher"] == {
        "model": "big",
        "tries": 1,
        "verified_by": "reward",
        "candidates": 1,
        "quality": None,
    }
    check_row(out, tmp_path)
    (message,) = teacher.requests[0]["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "text", "text"]
    assert message["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    text = text_of(message["content"])
    assert "What is the sum 0?" in text and "Standard answer: 3" in text and "<SUMMARY>" in text
    assert counts["asked"] == counts["accepted"] == counts["accepted/try_1"] == counts["replies"] == 1


def test_the_answer_is_not_shown_unless_wanted(tmp_path):
    with scripted_teacher(lambda body, number: reply("777")) as teacher:
        rows = [row(answer={"value": "4656"})]
        traces(rows, teacher.url, tmp_path, show_answer=False, max_tries=3)
    assert len(teacher.requests) == 3
    assert "4656" not in json.dumps(teacher.requests)


def test_a_wrong_conclusion_is_told_and_corrected(tmp_path):
    script = [reply("4"), reply("3")]
    with scripted_teacher(lambda body, number: script[number]) as teacher:
        (out,), counts = traces([row()], teacher.url, tmp_path)
    assert out["trace"]["conclusion"] == "3" and out["teacher"]["tries"] == 2
    first, last = teacher.requests[1]["messages"][-2:]
    assert first == {"role": "assistant", "content": script[0]}
    assert (
        last["role"] == "user"
        and "judged wrong" in last["content"]
        and "standard answer is: 3" in last["content"]
    )
    assert counts["accepted/try_2"] == 1 and counts["replies"] == 2


BROKEN = {
    "missing": (reply("3").replace("<CAPTION>Two dice.</CAPTION>", ""), "<CAPTION> is missing"),
    "unclosed": (reply("3").replace("</CONCLUSION>", ""), "</CONCLUSION> is missing"),
    "repeated": (reply("3") + reply("3"), "more than once"),
    "order": (
        reply("3").replace("<SUMMARY>I add.</SUMMARY>", "") + "<SUMMARY>I add.</SUMMARY>",
        "not in its place",
    ),
    "outside": ("Sure! " + reply("3"), "text outside"),
    "empty part": (reply("3", reasoning=""), "<REASONING> is empty"),
    "no tags": ("The answer is 3.", "is missing"),
    "media token": (reply("3", "see <|image_pad|>"), "control token"),
    "end of turn": (reply("3", "so<|im_end|>"), "control token"),
    "huge": ("word " * 100_000, "is missing"),
    "code": ("__import__('os').system('touch /tmp/never')", "is missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_reply_is_told_what_broke(tmp_path, name):
    broken, told = BROKEN[name]
    with scripted_teacher(lambda body, number: broken if number == 0 else reply("3")) as teacher:
        (out,), _ = traces([row()], teacher.url, tmp_path)
    assert out["teacher"]["tries"] == 2
    assert told in teacher.text(1)
    assert len(json.dumps(teacher.requests[1])) < 20_000


SLIPS = {
    "given_answer": (
        reply("3", "The standard answer is 3, so the dice must show 1 and 2."),
        "as if you did not know",
    ),
    "unseen_media": (reply("3", "I cannot see the image, but 1 and 2 make 3."), "Look at it"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_trace_that_gives_away_how_it_was_asked_is_written_again(image, tmp_path, name):
    slip, told = SLIPS[name]
    with scripted_teacher(lambda body, number: slip if number == 0 else reply("3")) as teacher:
        (out,), _ = traces([row(image)], teacher.url, tmp_path)
        assert out["teacher"]["tries"] == 2 and told in teacher.text(1)
    with scripted_teacher(lambda body, number: slip) as teacher:
        (out,), counts = traces([row(image)], teacher.url, tmp_path / "again", max_tries=2)
    assert isinstance(out, Removed) and out.rule == f"trace_{name}" and counts[f"refused/{name}"] == 1


@pytest.mark.parametrize("name", BROKEN)
def test_a_teacher_that_never_gets_it_right_costs_the_row(tmp_path, name):
    with scripted_teacher(lambda body, number: BROKEN[name][0]) as teacher:
        (out,), counts = traces([row()], teacher.url, tmp_path, max_tries=2)
    assert isinstance(out, Removed) and out.row == row()
    assert out.rule in ("trace_grammar", "trace_control_token") and "after 2 tries" in out.reason
    assert len(out.reason) < 400 and counts["asked"] == 1 and counts["accepted"] == 0


def test_refusals_are_asked_again_and_not_taken_from_the_cache(tmp_path):
    script = [None, None, reply("3")]
    with scripted_teacher(lambda body, number: script[number]) as teacher:
        (out,), _ = traces([row()], teacher.url, tmp_path)
        assert out["teacher"]["tries"] == 3
        (again,), counts = traces([row()], teacher.url, tmp_path)
    assert again == out and len(teacher.requests) == 3 and counts["teacher/cached"] == 3


def test_a_row_that_is_always_refused_leaves(tmp_path):
    with scripted_teacher(lambda body, number: None) as teacher:
        (out,), counts = traces([row()], teacher.url, tmp_path, max_tries=2)
    assert isinstance(out, Removed) and out.rule == "trace_refused" and counts["refused/refused"] == 1


def test_busy_endpoints_are_waited_for(tmp_path):
    script = [error(429), error(500), reply("3")]
    with scripted_teacher(lambda body, number: script[number]) as teacher:
        (out,), _ = traces([row()], teacher.url, tmp_path)
    assert out["teacher"]["tries"] == 1


def test_a_request_turned_down_costs_its_row_with_the_reason(tmp_path):
    def script(body, number):
        return error(400, "unsafe") if "sum 1?" in json.dumps(body) else reply("3")

    with scripted_teacher(script) as teacher:
        teacher_settings = {"base_url": teacher.url, "model": "big", "concurrency": 1}
        out, _ = traces([row(number=i) for i in range(3)], teacher.url, tmp_path, teacher=teacher_settings)
    assert [isinstance(r, Removed) for r in out] == [False, True, False]
    assert out[1].rule == "trace_failed" and "unsafe" in out[1].reason


def test_rows_come_out_in_order_however_long_they_take(tmp_path):
    import re

    def script(body, number):
        n = int(re.search(r"sum (\d+)\?", json.dumps(body)).group(1))
        return reply("4" if n % 3 == 0 and len(body["messages"]) < 5 and n % 2 else "3")

    rows = [row(number=i) for i in range(30)]
    with scripted_teacher(script, delay_s=0.01) as teacher:
        out, counts = traces(rows, teacher.url, tmp_path, max_tries=2)
    assert [(r.row if isinstance(r, Removed) else r)["id"] for r in out] == [r["id"] for r in rows]
    assert [isinstance(r, Removed) for r in out] == [i % 3 == 0 and i % 2 == 1 for i in range(30)]
    assert counts["asked"] == 30 and counts["accepted"] == 25 and counts["refused/wrong"] == 5


def test_continuous_rewards_have_a_threshold(tmp_path):
    target = row(task="grounding", answer={"boxes": [[10, 10, 20, 20]], "frame": "pixel"})
    with scripted_teacher(lambda body, number: reply("[10, 10, 20, 19]")) as teacher:
        (strict,), _ = traces([target], teacher.url, tmp_path, max_tries=1)
        (loose,), _ = traces([target], teacher.url, tmp_path, max_tries=1, threshold=0.8)
    assert isinstance(strict, Removed) and strict.rule == "trace_wrong" and "reward 0.95" in strict.reason
    assert loose["trace"]["conclusion"] == "[10, 10, 20, 19]"


def test_the_grammar_of_the_policy_does_not_matter(tmp_path):
    with scripted_teacher(lambda body, number: reply("3")) as teacher:
        (out,), _ = traces([row()], teacher.url, tmp_path, rewards=REWARDS | {"grammar": "think"})
    assert out["trace"]["conclusion"] == "3"


def test_an_answer_that_cannot_be_judged_is_found_before_anything_is_paid(tmp_path):
    with scripted_teacher(lambda body, number: reply("3")) as teacher:
        (out,), _ = traces([row(task="choice", answer={"letter": "?"})], teacher.url, tmp_path)
    assert isinstance(out, Removed) and out.rule == "trace_gold" and teacher.requests == []


def free_text(**more) -> dict:
    return row(task="vqa", answer=None, trace=[{"role": "assistant", "content": "A red bus."}]) | more


@pytest.mark.parametrize(
    ("said", "accepted"),
    [("valid", True), (" Valid\n", True), ("invalid", False), ("valid.", False), ("valid invalid", False)]
    + [("yes", False), (None, False), ("", False), ("The answer is valid", False)],
)
def test_a_judge_decides_where_no_reward_applies(tmp_path, said, accepted):
    def script(body, number):
        return said if body["model"] == "judge" else reply("A bus, red.")

    with scripted_teacher(script) as teacher:
        (out,), counts = traces([free_text()], teacher.url, tmp_path, judge="there", max_tries=1)
        judged = next(body for body in teacher.requests if body["model"] == "judge")
    text = text_of(judged["messages"][0]["content"])
    assert "A red bus." in text and "A bus, red." in text
    if accepted:
        assert out["teacher"]["verified_by"] == "judge" and out["trace"]["conclusion"] == "A bus, red."
    else:
        assert isinstance(out, Removed) and out.rule == "trace_wrong"
    assert counts["judge/requests"] == 1


def test_a_judge_has_no_say_where_a_reward_applies(tmp_path):
    def script(body, number):
        return "valid" if body["model"] == "judge" else reply("4")

    with scripted_teacher(script) as teacher:
        (out,), _ = traces([row()], teacher.url, tmp_path, judge="there", max_tries=1)
        assert isinstance(out, Removed) and all(body["model"] == "big" for body in teacher.requests)


@pytest.mark.parametrize("given", [free_text(), row(task="vqa"), row(answer=None)])
def test_what_nobody_can_verify_leaves_unpaid(tmp_path, given):
    with scripted_teacher(lambda body, number: reply("3")) as teacher:
        (out,), _ = traces([given], teacher.url, tmp_path)
        assert isinstance(out, Removed) and out.rule == "trace_unverifiable" and teacher.requests == []


def test_rows_that_have_traces_or_other_tasks_pass(tmp_path):
    staged = {"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "4"}
    turns = [
        {"role": "assistant", "content": "look"},
        {"role": "user", "content": "so?"},
        {"role": "assistant", "content": "3"},
    ]
    rows = [row(trace=staged), row(number=1, trace=turns), row(number=2, task="chat")]
    with scripted_teacher(lambda body, number: reply("3")) as teacher:
        out, counts = traces(rows, teacher.url, tmp_path, tasks=["math"])
        assert out == rows and teacher.requests == [] and counts["passed"] == 3
        (replaced, *_), _ = traces(rows[:1], teacher.url, tmp_path, replace=True)
    assert replaced["trace"]["conclusion"] == "3"


def candidates(scores: list[str | None]):
    """A teacher whose candidates end in different words, and a judge that gives them these replies."""

    def script(body, number):
        if body["model"] != "judge":
            return reply("3", f"Way {body['seed']}.")
        text = text_of(body["messages"][0]["content"])
        return next(score for i, score in enumerate(scores) if f"Way {i}." in text)

    return script


def rated(clarity: int, redundancy: int = 3, form: int = 3) -> str:
    return json.dumps({"clarity": clarity, "redundancy": redundancy, "format": form})


LONG = {"candidates": 3, "thought": "long", "judge": "there"}


def long_thoughts(script, folder: Path, **options):
    with scripted_teacher(script) as teacher:
        settings = {"base_url": teacher.url, "model": "big", "seed": 0}
        (out,), counts = traces([row()], teacher.url, folder, **(LONG | {"teacher": settings} | options))
    return out, counts


def test_the_best_of_several_candidates_is_kept(tmp_path):
    out, counts = long_thoughts(candidates([rated(2), rated(5), rated(4)]), tmp_path)
    assert out["trace"]["reasoning"] == "Way 1."
    assert out["teacher"]["candidates"] == 3 and out["teacher"]["quality"] == pytest.approx(11 / 3)
    assert counts["replies"] == 3 and counts["judge/requests"] == 3 and counts["accepted"] == 1


def test_of_equal_candidates_the_first_is_kept(tmp_path):
    out, _ = long_thoughts(candidates([rated(4), rated(4), rated(4)]), tmp_path)
    assert out["trace"]["reasoning"] == "Way 0."


def test_a_candidate_whose_rating_cannot_be_read_is_not_kept(tmp_path):
    out, _ = long_thoughts(candidates(["5/5, excellent", rated(1), None]), tmp_path)
    assert out["trace"]["reasoning"] == "Way 1."
    out, _ = long_thoughts(candidates(["good", None, "{}"]), tmp_path / "none")
    assert isinstance(out, Removed) and out.rule == "trace_unrated"


def test_candidates_below_the_wanted_quality_leave(tmp_path):
    out, _ = long_thoughts(candidates([rated(2), rated(1), rated(2)]), tmp_path, min_quality=3.5)
    assert isinstance(out, Removed) and out.rule == "trace_quality" and "2.67" in out.reason


def test_the_card_says_what_each_filter_took(tmp_path):
    """Eight solutions: one wrong, one leaks, one loops, one twice in the same words; the judge takes two; the best two stay."""
    long = "We look at the dice and add what they show. " * 9
    ways = [
        reply("4", "Way 0."),
        reply("3", "Way 1. 根据标准答案，结果是3。"),
        reply("3", long),
        *(reply("3", f"Way {n}.") for n in (3, 3, 5, 6, 7)),
    ]
    scores = {3: rated(5, 5, 5), 5: rated(1, 5, 5), 6: rated(4, 4, 2), 7: rated(4, 4, 4)}

    def script(body, number):
        if body["model"] != "judge":
            return ways[body["seed"]]
        text = text_of(body["messages"][0]["content"])
        return next(score for way, score in scores.items() if f"Way {way}." in text)

    with scripted_teacher(script) as teacher:
        settings = {"base_url": teacher.url, "model": "big", "seed": 0}
        options = LONG | {
            "candidates": 8,
            "keep": 2,
            "min_scores": {"clarity": 3, "format": 3},
            "max_tries": 1,
        }
        (out,), counts = traces([row()], teacher.url, tmp_path, teacher=settings, **options)
    assert [made["id"] for made in out.rows] == ["r0/solution-1", "r0/solution-2"]
    assert [made["trace"]["reasoning"] for made in out.rows] == ["Way 3.", "Way 7."]
    assert out.rows[1]["teacher"]["scores"] == {"clarity": 4, "redundancy": 4, "format": 4}
    figures = {key: n for key, n in counts.items() if key.startswith(("replies", "solutions")) and n}
    assert figures == {
        "replies": 8,
        "replies_refused/wrong": 1,
        "replies_refused/given_answer": 1,
        "replies_refused/repetition": 1,
        "solutions": 5,
        "solutions_removed/duplicate": 1,
        "solutions_removed/clarity": 1,
        "solutions_removed/format": 1,
        "solutions_kept": 2,
    }
    assert counts["judge/requests"] == 4  # for different right ones alone


def test_a_single_solution_is_rated_where_a_rating_is_wanted(tmp_path):
    options = {"candidates": 1, "min_scores": {"redundancy": 4}}
    out, counts = long_thoughts(candidates([rated(5, 3, 5)]), tmp_path, **options)
    assert isinstance(out, Removed) and out.rule == "trace_redundancy"
    assert "rated 3 for redundancy, below 4" in out.reason and counts["solutions_removed/redundancy"] == 1
    out, _ = long_thoughts(candidates([rated(5, 4, 1)]), tmp_path / "good", **options)
    assert out["teacher"]["quality"] == pytest.approx(10 / 3)


REASONED = {"reasoning_content": "One die shows 1, the other 2. Together 3.", "content": "3"}


@pytest.mark.parametrize(
    "message",
    [
        REASONED,
        {"reasoning": REASONED["reasoning_content"], "content": "\n\n3"},
        {"content": f"<think>{REASONED['reasoning_content']}</think><answer>3</answer>"},
        {"content": f"<think>\n{REASONED['reasoning_content']}\n</think>\n\n3"},
        {"content": f"{REASONED['reasoning_content']}</think>3"},  # its template has written <think>
    ],
)
def test_a_reasoning_models_own_thoughts_become_the_trace(tmp_path, message):
    with scripted_teacher(lambda body, number: {"message": {"role": "assistant"} | message}) as teacher:
        settings = {"base_url": teacher.url, "model": "big", "thoughts": "keep"}
        options = {"teacher": settings, "grammar": "think", "show_answer": False}
        (out,), counts = traces([row()], teacher.url, tmp_path, **options)
        assert out["trace"] == [
            {
                "role": "assistant",
                "content": "<think>One die shows 1, the other 2. Together 3.</think><answer>3</answer>",
            }
        ]
        check_row(out, tmp_path)
        assert traces([out], teacher.url, tmp_path, **options)[0] == [out]  # has a trace
    assert counts["accepted"] == 1 and "<CAPTION>" not in teacher.text(0)


def test_thoughts_that_leak_loop_or_miss_are_refused(tmp_path):
    replies = [
        {"reasoning_content": "The standard answer says 3, so I make it 3.", "content": "3"},
        {"reasoning_content": "Add the dice. " * 60, "content": "3"},
        {"content": "3"},
        {"reasoning_content": "One and three.", "content": "4"},
        REASONED,
    ]
    with scripted_teacher(
        lambda body, number: {"message": {"role": "assistant"} | replies[number]}
    ) as teacher:
        settings = {"base_url": teacher.url, "model": "big", "thoughts": "keep"}
        (out,), counts = traces(
            [row()], teacher.url, tmp_path, teacher=settings, grammar="think", max_tries=5
        )
    assert out["teacher"]["tries"] == 5
    refused = {key.partition("/")[2]: n for key, n in counts.items() if key.startswith("replies_refused/")}
    assert refused == {"given_answer": 1, "repetition": 1, "grammar": 1, "wrong": 1}


def test_thoughts_are_dropped_unless_wanted(tmp_path):
    given = {"message": {"role": "assistant", "reasoning_content": "Hm.", "content": reply("3")}}
    with scripted_teacher(lambda body, number: given) as teacher:
        (out,), _ = traces([row()], teacher.url, tmp_path)
    assert out["trace"]["reasoning"] == "One and two make three."


def test_too_little_reasoning_is_told_and_written_again(tmp_path):
    script = [
        reply("3"),
        reply("3", "The first die shows one. The second die shows two. One and two make three."),
    ]
    with scripted_teacher(lambda body, number: script[number]) as teacher:
        (out,), counts = traces([row()], teacher.url, tmp_path, min_reasoning_words=10)
    assert out["teacher"]["tries"] == 2 and counts["replies_refused/short_reasoning"] == 1
    assert "at least 10 words" in teacher.text(1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[]",
        "null",
        "{}",
        '{"clarity": 5, "redundancy": 5}',
        '{"clarity": 5, "redundancy": 5, "format": 5, "more": 1}',
        '{"clarity": 5, "clarity": 5, "redundancy": 5, "format": 5}',
        '{"clarity": 5.0, "redundancy": 5, "format": 5}',
        '{"clarity": true, "redundancy": 5, "format": 5}',
        '{"clarity": "5", "redundancy": 5, "format": 5}',
        '{"clarity": 6, "redundancy": 5, "format": 5}',
        '{"clarity": 0, "redundancy": 5, "format": 5}',
        '{"clarity": NaN, "redundancy": 5, "format": 5}',
        '{"clarity": ' + "9" * 10_000 + ', "redundancy": 5, "format": 5}',
        '```json\n{"clarity": 5, "redundancy": 5, "format": 5}\n```',
        "[" * 100_000,
        '{"a":' * 100_000,
        "__import__('os')",
    ],
)
def test_ratings_are_read_strictly(text):
    assert read_scores(text) is None


def test_a_rating_in_the_asked_form_is_read():
    assert read_scores(' {"clarity": 5, "redundancy": 1, "format": 3}\n') == {
        "clarity": 5,
        "redundancy": 1,
        "format": 3,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 2}, "expected a 'judge'"),
        (
            {"candidates": 2, "judge": "there", "teacher": {"base_url": "u", "model": "m", "temperature": 0}},
            "above 0",
        ),
        ({"min_scores": {"clarity": 3}}, "min_scores: expected a 'judge'"),
        ({"candidates": 2, "judge": "there", "keep": 3}, "keep: expected at most candidates = 2"),
        ({"min_scores": {"beauty": 3}, "judge": "there"}, "beauty"),
        ({"api_key": "sk-1"}, "api_key"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        traces([], "u", tmp_path, **options)

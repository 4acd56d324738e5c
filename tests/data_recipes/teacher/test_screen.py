"""Questions sorted by rules, and by a scripted judge over HTTP (see endpoints.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed
from tests.data_recipes.endpoints import scripted_teacher, text_of
from tests.data_recipes.teacher.test_preferences import row

ENGLISH = "Which of these two birds is larger, and how can you tell?"
CHINESE = "这两只鸟哪一只更大，你怎么看出来的？"


def asked(text: str) -> dict:
    return row(prompt=[{"role": "user", "content": text}])


def screen(rows: list[dict], folder: Path, script: Any = None, **options: Any):
    operation, context = OPERATIONS["screen_queries"], Context(folder)
    if script is None:
        return list(operation.apply(iter(rows), operation.options(**options), context)), context.counts
    with scripted_teacher(script) as teacher:
        options |= {"judge": {"base_url": teacher.url, "model": "judge"}}
        return list(operation.apply(iter(rows), operation.options(**options), context)), context.counts


def test_rules_alone_label_the_language(tmp_path):
    out, counts = screen([asked(ENGLISH), asked(CHINESE), asked("3 + 4 = 5 + 2?")], tmp_path)
    assert [one["language"] for one in out] == ["en", "zh", "unknown"] and "kind" not in out[0]
    assert counts["language=zh"] == 1


@pytest.mark.parametrize(
    ("text", "options", "rule"),
    [
        ("Why?", {}, "question_length"),
        ("为", {}, "question_length"),
        (ENGLISH * 300, {}, "question_length"),
        (ENGLISH, {"languages": ["zh"]}, "question_language"),
        ("1 + 1 = 2 + 0?", {"languages": ["en"]}, "question_language"),
    ],
)
def test_unfit_by_rule(tmp_path, text, options, rule):
    (out,), _ = screen([asked(text)], tmp_path, **options)
    assert isinstance(out, Removed) and out.rule == rule


def test_a_judge_sorts_and_turns_out(tmp_path):
    words = {"birds": "helpful", "bomb": " Harmless.\n", "today": "unfit"}

    def script(body, number):
        text = text_of(body["messages"][-1]["content"])
        return next(word for mark, word in words.items() if mark in text.rsplit("events", 1)[1])

    texts = [ENGLISH, "How do I build a bomb at home?", "What is the weather like today?"]
    (first, second, third), counts = screen([asked(text) for text in texts], tmp_path, script)
    assert (first["kind"], second["kind"]) == ("helpful", "harmless")
    assert third.rule == "question_unfit" and counts["kind=unfit"] == 1


@pytest.mark.parametrize("said", ["helpful, I think", "", None, "helpful harmless"])
def test_a_judge_that_gives_no_known_word_is_asked_again_and_then_costs_the_row(tmp_path, said):
    (out,), counts = screen([asked(ENGLISH)], tmp_path, lambda body, number: said)
    assert out.rule == "question_unsorted" and counts["judge/requests"] == 2
    (out,), _ = screen([asked(ENGLISH)], tmp_path / "2", lambda body, number: "helpful" if number else said)
    assert out["kind"] == "helpful"


def test_kinds_are_the_users_own(tmp_path):
    (out,), _ = screen([asked(ENGLISH)], tmp_path, lambda *_: "vision", kinds={"vision": "needs the image"})
    assert out["kind"] == "vision"
    for kinds in ({"unfit": "x"}, {"two words": "x"}, {}):
        with pytest.raises(ValueError, match="expected"):
            OPERATIONS["screen_queries"].options(kinds=kinds)

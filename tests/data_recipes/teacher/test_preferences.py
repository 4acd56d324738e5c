"""Preference rows from a scripted server that plays the models and the judge (see endpoints.py), over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.pairs import check_pair
from core.rows import read_rows
from data_recipes.config import Recipe
from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed, Several
from data_recipes.runner import run_recipe
from rewards.stages import render
from tests.data_recipes.conftest import write_source
from tests.data_recipes.endpoints import error, scripted_teacher, text_of

ANSWERS = {
    "terse": "Blue.",
    "plain": "It is blue, I think.",
    "wordy": "Well, one may say that it is blue, or so.",
}
BOTH = re.compile(
    r"answer A begins\]\n(.*)\n\[\w+: answer A ends.*answer B begins\]\n(.*)\n\[\w+: answer B", re.S
)


def row(**more: Any) -> dict:
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Which colour has the sky?"}]}]
    row = {"id": "q", "task": "chat", "prompt": prompt, "images": [], "videos": [], "answer": None}
    return row | {"trace": None, "source": None} | more


def shorter(a: str, b: str) -> str:
    return "[[C]]" if len(a) == len(b) else ("[[A]]" if len(a) < len(b) else "[[B]]")


def played(answers: dict[str, Any], judge: Callable[[str, str], Any]):
    """The models by their names, and the judge, which sees the two answers."""

    def script(body: dict[str, Any], number: int) -> Any:
        if body["model"] != "judge":
            return answers[body["model"]]
        (pair,) = BOTH.findall(text_of(body["messages"][-1]["content"]))
        return judge(*pair)

    return script


def options(url: str, models: Any = ANSWERS, **more: Any) -> dict[str, Any]:
    asked = [m if isinstance(m, dict) else {"base_url": url, "model": m, "max_retries": 0} for m in models]
    return {"models": asked, "judge": {"base_url": url, "model": "judge", "max_retries": 0}} | more


def make(answers, judge, folder: Path, given: dict | None = None, **more: Any):
    """(what became of the row, counts, requests) with these answers and this judge."""
    with scripted_teacher(played(answers, judge)) as teacher:
        operation, context = OPERATIONS["preferences"], Context(folder)
        settings = operation.options(**options(teacher.url, answers, **more))
        (out,) = operation.apply(iter([given or row()]), settings, context)
        return out, context.counts, teacher.requests


def test_every_sure_preference_becomes_a_pair(tmp_path):
    out, counts, requests = make(ANSWERS, lambda a, b: f"Shorter.\n{shorter(a, b)}", tmp_path)
    assert isinstance(out, Several)
    pairs = [(r["models"]["chosen"], r["models"]["rejected"], r["margin"]) for r in out.rows]
    assert pairs == [("terse", "plain", 0.5), ("terse", "wordy", 1.0), ("plain", "wordy", 0.5)]
    assert [r["id"] for r in out.rows] == ["q/1", "q/2", "q/3"]
    assert out.rows[1]["chosen"] == ANSWERS["terse"] and out.rows[1]["rejected"] == ANSWERS["wordy"]
    for made in out.rows:
        check_pair(made, tmp_path)
    assert counts["compared/agreed"] == 3 and counts["pairs"] == 3 and counts["answers/plain/used"] == 1
    assert sum(body["model"] == "judge" for body in requests) == 6 and counts["judge/requests"] == 6
    (best,) = make(ANSWERS, shorter, tmp_path, pairs="best_worst")[0].rows
    assert (best["models"]["chosen"], best["models"]["rejected"]) == ("terse", "wordy")


@pytest.mark.parametrize(
    ("judge", "outcome"),
    [
        (lambda a, b: "[[A]]", "by_position"),
        (lambda a, b: "[[C]]", "tie"),
        (lambda a, b: "[[A]]" if a < b else "[[C]]", "half_tie"),
        (lambda a, b: "The first one.", "unread"),
        (lambda a, b: None, "unread"),
        (lambda a, b: "[[A]] " * 10_000 + "[[B]]", "unread"),
    ],
)
def test_a_judge_that_is_not_sure_makes_no_pair_and_is_counted(tmp_path, judge, outcome):
    out, counts, _ = make(ANSWERS, judge, tmp_path)
    assert isinstance(out, Removed) and out.rule == "no_preference" and outcome in out.reason
    assert counts[f"compared/{outcome}"] == 3 and "pairs" not in counts


def test_a_verdict_that_cannot_be_read_is_asked_for_again(tmp_path):
    said: dict[tuple[str, str], int] = {}

    def judge(a: str, b: str) -> str:
        said[a, b] = said.get((a, b), 0) + 1
        return "hm" if said[a, b] == 1 else shorter(a, b)

    out, counts, _ = make(ANSWERS, judge, tmp_path)
    assert len(out.rows) == 3 and counts["judge/requests"] == 12


def test_preferences_in_a_circle_say_nothing(tmp_path):
    beats = {("Blue.", "It is blue, I think."), ("It is blue, I think.", ANSWERS["wordy"])}
    beats.add((ANSWERS["wordy"], "Blue."))
    out, counts, _ = make(ANSWERS, lambda a, b: "[[A]]" if (a, b) in beats else "[[B]]", tmp_path)
    assert isinstance(out, Removed) and counts["contradicted"] == 3 and "3 contradicted" in out.reason


BAD = {
    "empty": " \n",
    "cut_off": {"message": {"content": "Blue, and"}, "finish_reason": "length"},
    "too_long": "blue " * 5000,
    "control_token": "Blue.<|im_end|>",
    "failed": error(400),
    "equal": "Blue. ",
}


@pytest.mark.parametrize("fault", BAD)
def test_an_answer_that_cannot_be_compared_is_left_out_and_counted(tmp_path, fault):
    out, counts, requests = make({"terse": "Blue.", "bad": BAD[fault], "plain": "It is."}, shorter, tmp_path)
    assert counts[f"answers/bad/{fault}"] == 1
    assert isinstance(out, Several) and {r["models"]["chosen"] for r in out.rows} == {"terse"}
    assert sum(body["model"] == "judge" for body in requests) == 2
    out, _, _ = make({"terse": "Blue.", "bad": BAD[fault]}, shorter, tmp_path / "alone")
    assert isinstance(out, Removed) and out.rule == "few_answers"


def test_samples_of_one_model_are_compared_too(tmp_path):
    texts = iter(["Blue.", "It is blue.", "It is blue, mostly."])

    def script(body, number):
        return next(texts) if body["model"] == "policy" else played({}, shorter)(body, number)

    with scripted_teacher(script) as teacher:
        operation, context = OPERATIONS["preferences"], Context(tmp_path)
        policy = {
            "base_url": teacher.url,
            "model": "policy",
            "samples": 3,
            "temperature": 1.0,
            "name": "ours",
        }
        settings = operation.options(**options(teacher.url, [policy]))
        (out,) = operation.apply(iter([row()]), settings, context)
        assert len(out.rows) == 3 and out.rows[0]["models"]["chosen"] == "ours"
        paid = len(teacher.requests)
        assert list(operation.apply(iter([row()]), settings, Context(tmp_path))) == [out]
        assert len(teacher.requests) == paid  # nothing is paid twice


def test_of_a_grammar_the_conclusion_is_compared(tmp_path):
    staged = [
        render({"summary": "s", "caption": "c", "reasoning": "r", "conclusion": c})
        for c in ("Blue.", "It is blue.")
    ]
    texts = iter([*staged, staged[0][:-4]])

    def script(body, number):
        return next(texts) if body["model"] == "policy" else played({}, shorter)(body, number)

    with scripted_teacher(script) as teacher:
        operation, context = OPERATIONS["preferences"], Context(tmp_path)
        policy = {"base_url": teacher.url, "model": "policy", "samples": 3, "grammar": "stages"}
        (out,) = operation.apply(iter([row()]), operation.options(**options(teacher.url, [policy])), context)
    assert [(r["chosen"], r["rejected"]) for r in out.rows] == [("Blue.", "It is blue.")]
    assert context.counts["answers/policy/grammar"] == 1


def test_models_and_judge_see_the_image(tmp_path):
    path = tmp_path / "sky.png"
    Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8)).save(path)
    content = [{"type": "image"}, {"type": "text", "text": "Which colour?"}]
    given = row(prompt=[{"role": "user", "content": content}], images=[str(path)])
    out, _, requests = make(ANSWERS, shorter, tmp_path, given)
    assert len(out.rows) == 3 and out.rows[0]["images"] == [str(path)]
    for body in requests:
        kinds = [part["type"] for part in body["messages"][-1]["content"]]
        assert kinds.count("image_url") == 1


def test_rows_that_no_question_ends_and_of_other_tasks_leave(tmp_path):
    ended = row(prompt=[*row()["prompt"], {"role": "assistant", "content": "Blue"}])
    assert make(ANSWERS, shorter, tmp_path, ended)[0].rule == "no_question"
    out, _, requests = make(ANSWERS, shorter, tmp_path, row(task="math"), tasks=["chat"])
    assert out.rule == "other_task" and not requests


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([{"model": "a"}], "expected two answers per question"),
        ([{"model": "a"}, {"model": "a", "revision": "2"}], "expected different names, got 'a' again"),
        ([{"model": "a", "name": "x"}, {"model": "a", "name": "y"}], "two are served as 'a'"),
    ],
)
def test_models_that_cannot_be_told_apart_are_refused(models, message):
    with pytest.raises(ValueError, match=message):
        OPERATIONS["preferences"].options(**options("u", [{"base_url": "u"} | m for m in models]))


def test_a_recipe_screens_spreads_balances_and_writes_pairs_that_reward_models_read(tmp_path):
    source = write_source(tmp_path / "data" / "rows.jsonl", 16, images=False)

    def script(body: dict[str, Any], number: int) -> Any:
        if body["model"] == "sorter":
            return "harmless" if re.search(r"Question \d*[05]\?", json.dumps(body)) else "helpful"
        return played(ANSWERS, shorter)(body, number)

    with scripted_teacher(script) as teacher:
        sorter = {"base_url": teacher.url, "model": "sorter"}
        fields = {
            "name": "pairs",
            "sources": [{"name": "made", "format": "rows", "path": str(source)}],
            "operations": [
                {"screen_queries": {"judge": sorter}},
                {"diversify": {"clusters": 3, "per_cluster": 5}},
                {"preferences": options(teacher.url)},
                {"balance": {"by": ["language", "kind"], "cap": 9}},  # a stage after the split
            ],
            "output_dir": str(tmp_path / "out"),
            "tasks": 2,
            "workers": 1,
        }
        run_recipe(Recipe.model_validate(fields), say=lambda line: None)
    rows = read_rows(tmp_path / "out", check=check_pair)
    card = json.loads((tmp_path / "out" / "data_card.json").read_text())
    made = card["operations"]["preferences"]
    assert (
        made["pairs"] == 3 * made["asked"] == 3 * made["accepted"]
        and made["compared/agreed"] == made["pairs"]
    )
    kinds = [r["kind"] for r in rows]
    assert (
        0 < kinds.count("harmless") <= 9
        and kinds.count("helpful") <= 9
        and len(rows) == len({r["id"] for r in rows})
    )
    removed = card["removed"]
    assert removed["balance"]["over_language, kind"] + len(rows) == made["pairs"]
    questions = [r["id"].rsplit("/", 1)[0] for r in rows]
    assert questions == sorted(questions, key=questions.index)  # rows of a question follow each other

"""Text filters: each rule takes what it should, names itself and its figure, and leaves real traces alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data_recipes.operations.text_filters import OPERATIONS, TextFilterOptions, density, school_grade
from data_recipes.records import Context, Removed

PROSE = (
    "The table lists the price of every animal in the shop. Erik wants a parrot and a kinkajou, so both prices are "
    "added first. Then the sum is taken from the money that he has, which gives what remains after the purchase. "
    "Nothing else in the list matters for this question, and the remaining rows can be passed over."
)


def row(prompt: str = "How much money is left?", trace: Any = PROSE, answer: Any = None) -> dict[str, Any]:
    if isinstance(trace, str):
        trace = {"summary": "I add.", "caption": "A table.", "reasoning": trace, "conclusion": "5"}
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    return {
        "id": "r",
        "task": "math",
        "prompt": [{"role": "user", "content": content}],
        "answer": answer,
        "trace": trace,
    }


def apply(rows: list[dict[str, Any]], tmp_path, **options: Any) -> list[Any]:
    operation = OPERATIONS["text_filter"]
    return list(operation.apply(iter(rows), TextFilterOptions(**options), Context(tmp_path)))


def rule(found: Any) -> str | None:
    return found.rule if isinstance(found, Removed) else None


def test_rows_come_out_in_order_one_for_one(tmp_path):
    rows = [row(), row(prompt="?"), row()]
    out = apply(rows, tmp_path, words={"prompt": {"min": 2}})
    assert [rule(found) for found in out] == [None, "words_prompt", None]
    assert out[0] is rows[0] and out[1].row is rows[1]
    assert out[1].reason == "prompt has 0 words, expected at least 2"


@pytest.mark.parametrize(
    ("part", "limits", "broken"),
    [
        ("prompt", {"max": 5}, "characters_prompt"),
        ("answer", {"max": 3}, "characters_answer"),
        ("trace", {"max": 100}, "characters_trace"),
        ("trace.reasoning", {"max": 100}, "characters_trace.reasoning"),
        ("trace.conclusion", {"max": 1}, None),
    ],
)
def test_each_part_has_its_own_length(part, limits, broken, tmp_path):
    (out,) = apply([row(answer={"value": "4,656"})], tmp_path, characters={part: limits})
    assert rule(out) == broken


def test_a_part_that_is_not_there_is_not_judged(tmp_path):
    (out,) = apply([row(trace=None)], tmp_path, characters={"trace": {"min": 10}, "answer": {"min": 10}})
    assert rule(out) is None


def test_words_are_counted_in_scripts_without_spaces(tmp_path):
    (out,) = apply([row(prompt="这张图里有几个红色的圆?")], tmp_path, words={"prompt": {"min": 8}})
    assert rule(out) is None


def test_other_languages_leave_and_formulas_do_not(tmp_path):
    rows = [
        row(),
        row(prompt="Wie viel Geld hat Erik noch übrig, nachdem er zwei Tiere gekauft hat?"),
        row(prompt=r"Solve $\frac{x}{2} = 3$ for x."),
        row(prompt="x = ?"),
    ]
    out = apply(rows, tmp_path, languages=("en",))
    assert [rule(found) for found in out] == [None, "language", None, None]
    assert "prompt is in 'de' (probability 1.00)" in out[1].reason


def test_prompt_and_trace_in_different_languages_leave(tmp_path):
    chinese = "首先我们看表格中的价格，然后把两个数字相加，最后得到答案。"
    rows = [
        row(prompt="How much money will Erik have left over?"),
        row(prompt="How much money will Erik have left over?", trace=[_said(chinese)]),
        row(prompt="埃里克买完东西以后还剩下多少钱呢？", trace=[_said(chinese)]),
    ]
    out = apply(rows, tmp_path, same_language=True)
    assert [rule(found) for found in out] == [None, "same_language", None]


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_a_trace_that_loops_leaves_with_its_share(tmp_path):
    (out,) = apply([row(trace=[_said(PROSE + " wait, let me see." * 20)])], tmp_path)
    assert rule(out) == "loop" and out.reason.startswith("trace: ") and "at most 25% allowed" in out.reason
    (out,) = apply([row(trace=[_said(PROSE + " so " + PROSE)])], tmp_path)
    assert rule(out) == "repeated_passages"
    assert rule(apply([row(trace=[_said("我们再看一遍表格。" * 12)])], tmp_path)[0]) == "loop"


def test_slips_of_a_trace_cost_the_row_unless_allowed(tmp_path):
    given = row(trace=[_said("According to the reference answer, five animals are left.")])
    blind = row(trace=[_said("I cannot see any image, so I take it that five are left.")]) | {
        "images": ["a.png"]
    }
    (out,) = apply([given], tmp_path)
    assert rule(out) == "given_answer" and "reference answer" in out.reason
    (out,) = apply([blind], tmp_path)
    assert rule(out) == "unseen_media"
    assert apply([given, blind], tmp_path, given_answer=False, unseen_media=False) == [given, blind]
    assert apply([blind | {"images": []}], tmp_path) == [blind | {"images": []}]  # there was nothing to see


def test_unknown_codes_of_languages_are_refused():
    with pytest.raises(ValueError, match="expected codes of languages as 'en' or 'zh', got english"):
        TextFilterOptions(languages=("en", "english"))


def test_short_texts_are_not_judged_for_repetition(tmp_path):
    assert rule(apply([row(trace=[_said("no no no no no no")])], tmp_path)[0]) is None


def test_grade_and_density_name_their_figures(tmp_path):
    hard = [
        _said(
            "Notwithstanding antecedent epistemological considerations, multidimensional generalisations " * 3
        )
    ]
    (out,) = apply([row(trace=hard)], tmp_path, repetition=False, grade={"max": 14})
    assert rule(out) == "grade" and "expected at most 14" in out.reason
    assert 4 < school_grade(PROSE) < 10
    assert density(PROSE) > 0.35 > 0.2 > density("so it is what it is and " * 30)
    (out,) = apply(
        [row(trace=[_said("so it is what it is " * 30)])], tmp_path, repetition=False, density={"min": 0.2}
    )
    assert rule(out) == "density" and out.reason.endswith(
        "different content words per word, expected at least 0.2"
    )


def test_density_does_not_fall_with_length():
    assert abs(density(PROSE) - density(PROSE + " " + PROSE)) < 0.05


def test_real_traces_pass_the_default_rules(shared_data, tmp_path):
    problems = json.loads(next((shared_data / "tabmwp").glob("*.json")).read_text(encoding="utf-8"))
    rows = [row(p["question"], p["solution"]) | {"images": ["table.png"]} for p in problems.values()]
    assert apply(rows, tmp_path, languages=("en",), same_language=True) == rows


def test_right_rollouts_pass_the_default_rules(shared_data, tmp_path):
    groups = [
        json.loads(line)
        for line in (shared_data / "rollouts_math8" / "math_cot.jsonl").open(encoding="utf-8")
    ]
    rows = [
        row(g["question"], [_said(t)])
        for g in groups
        for t, right in zip(g["response"], g["score"], strict=True)
        if right
    ]
    assert len(rows) == 215 and apply(rows, tmp_path, languages=("en",), same_language=True) == rows

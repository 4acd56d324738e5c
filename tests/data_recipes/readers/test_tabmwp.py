"""TabMWP: rows from the published files, and human solutions as verified traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.rows import check_row
from data_recipes.readers import FORMATS, tabmwp
from data_recipes.readers.tabmwp import TabMWPOptions, clean_solution, reaches, with_unit
from data_recipes.records import Record, Rejected
from rewards.functions.choice import choice_reward
from rewards.functions.math_answer import math_reward
from rewards.stages import parse, render

PROBLEM = {
    "question": "Erik has $7,616.00. How much money will Erik have left if he buys a parrot and a kinkajou?",
    "choices": None,
    "answer": "4,656",
    "unit": "$",
    "table_title": None,
    "table": "alpaca | $1,605.00\nkinkajou | $1,527.00\nparrot | $1,433.00",
    "solution": "Find the total cost.\n\n$1,433.00 + $1,527.00 = $2,960.00\n\nErik will have $4,656.00 left.",
    "ques_type": "free_text",
    "ans_type": "integer_number",
    "grade": 4,
    "split": "test",
}


def row_of(problem: dict, **options) -> dict:
    record = Record(problem, Path("/data/problems.json"), "17")
    (row,) = tabmwp.convert(record, TabMWPOptions(**options))
    return row


def test_all_real_problems_become_rows_with_verified_traces(shared_data):
    path = shared_data / "tabmwp" / "problems.json"
    options = TabMWPOptions(trace="stages")
    rewards = {"math": math_reward, "choice": choice_reward}
    rows = [row for record in tabmwp.read(path, options) for row in tabmwp.convert(record, options)]
    assert len(rows) == len({row["id"] for row in rows}) == 115
    for row in (check_row(row, path.parent) for row in rows):
        rewards[row["task"]].check_gold(row["answer"], row)
        stages = parse(render(row["trace"]))
        assert rewards[row["task"]](stages.conclusion, row["answer"]) == 1.0
        assert row["table"].strip() in row["trace"]["caption"]
    assert {row["task"] for row in rows} == {"math", "choice"}


def test_the_format_is_told_from_its_first_record(shared_data):
    path = shared_data / "tabmwp" / "problems.json"
    first = next(tabmwp.read(path, TabMWPOptions())).data
    assert [name for name, form in FORMATS.items() if form.looks_like(path, first)] == ["tabmwp"]


def test_free_text_keeps_its_thousands_separator_and_names_its_unit():
    row = row_of(PROBLEM, trace="stages")
    assert row["answer"] == {"value": "4,656"}
    assert row["prompt"][0]["content"][1]["text"].endswith("kinkajou? (Unit: $)")
    assert row["images"] == ["/data/tables/17.png"]
    assert row["trace"]["conclusion"] == "$4,656"
    assert row["source"] == {"dataset": "TabMWP", "licence": "CC BY-NC-SA 4.0"}


def test_without_the_option_there_is_no_trace():
    assert row_of(PROBLEM, show_unit=False)["trace"] is None
    assert "Unit" not in row_of(PROBLEM, show_unit=False)["prompt"][0]["content"][1]["text"]


def test_a_choice_has_its_letter_and_its_options():
    problem = PROBLEM | {
        "ques_type": "multi_choice",
        "ans_type": "boolean_text",
        "choices": ["yes", "no"],
        "answer": "no",
    }
    row = row_of(problem, trace="stages", media="/pictures")
    assert (row["task"], row["answer"]) == ("choice", {"letter": "B", "options": ["yes", "no"]})
    assert row["prompt"][0]["content"][1]["text"].endswith("Options:\nA. yes\nB. no")
    assert row["trace"]["conclusion"] == "B. no"
    assert row["images"] == ["/pictures/17.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solution": "He has $4,655.00 left."}, "field 'solution': expected it to end with '4,656'"),
        ({"solution": "   "}, "field 'solution': expected a text"),
        ({"question": None}, "field 'question': expected a text, got null"),
        ({"answer": 3}, "field 'answer': expected a text, got 3"),
        ({"ques_type": "essay"}, "field 'ques_type': expected free_text or multi_choice, got 'essay'"),
        ({"ques_type": "multi_choice", "choices": ["1", "2"]}, "field 'answer': expected one of the choices"),
        ({"ques_type": "multi_choice"}, "field 'choices': expected a list of options, got null"),
        (
            {
                "ques_type": "multi_choice",
                "choices": ["a", "Jo"],
                "answer": "Jo",
                "ans_type": "extractive_text",
            },
            "field 'solution': expected the answer 'Jo' in it",
        ),
    ],
)
def test_a_broken_problem_is_rejected_with_its_field(change, message):
    with pytest.raises(Rejected, match=message.replace("(", r"\(")):
        row_of(PROBLEM | change, trace="stages")


def test_a_solution_that_reaches_another_answer_is_rejected_although_the_number_occurs():
    with pytest.raises(Rejected, match="expected it to end with '1,433'"):
        row_of(PROBLEM | {"answer": "1,433"}, trace="stages")


@pytest.mark.parametrize(
    ("answer", "unit", "text"),
    [
        ("4,656", "$", "$4,656"),
        ("-3", "$, per year", "-$3 per year"),
        ("7", "pages", "7 pages"),
        ("4/13", None, "4/13"),
        ("27.88", "$", "$27.88"),
    ],
)
def test_units_are_written_as_one_writes_them(answer, unit, text):
    assert with_unit(answer, unit) == text


def test_a_unit_that_the_reward_cannot_read_is_left_out_of_the_conclusion():
    problem = PROBLEM | {"answer": "-3", "unit": "$, per year", "solution": "The rate was - $3 per year."}
    assert row_of(problem, trace="stages")["trace"]["conclusion"] == "-$3 per year"
    assert row_of(problem | {"unit": "times more"}, trace="stages")["trace"]["conclusion"] == "-3"


def test_fractions_in_latex_reach_the_answer():
    assert reaches(r"The probability is \frac{4}{13}.", "4/13")
    assert reaches("The rate was - 4 rounds per year.", "-4")
    assert not reaches(r"The probability is \frac{4}{12}.", "4/13")
    assert not reaches("nothing here", "4/13")


def test_solutions_lose_what_refers_to_pictures_that_are_not_there():
    text = "You counted 5 leaves, which are blue in the stem-and-leaf plots above. Find 1:15 P. M. now. exactly17 points"
    assert clean_solution(text) == "You counted 5 leaves. Find 1:15 P.M. now. exactly 17 points"


def test_a_file_that_breaks_off_ends_with_a_problem(tmp_path):
    path = tmp_path / "problems.json"
    path.write_text(json.dumps({"1": PROBLEM, "2": PROBLEM})[:-40])
    records = list(tabmwp.read(path, TabMWPOptions()))
    assert records[0].data["answer"] == "4,656"
    assert "expected JSON" in records[-1].problem

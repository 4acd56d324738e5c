"""Multiple choice asked freely."""

from __future__ import annotations

import json

import pytest

from data_recipes.operations import OPERATIONS
from data_recipes.operations.asks_choice import needs_options
from data_recipes.operations.free_form import FreeForm, Unfit, free_form, is_expression
from data_recipes.operations.option_lists import find_options
from data_recipes.records import Context, Removed
from rewards.functions.math_answer import math_reward


def row(question: str, answer: dict, **more) -> dict:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return {
        "id": "r",
        "task": "choice",
        "prompt": [{"role": "user", "content": content}],
        "images": ["a.png"],
        "answer": answer,
        "trace": {"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "B"},
        "source": "made",
    } | more


def question(new: dict) -> str:
    return new["prompt"][0]["content"][-1]["text"]


MATHVISTA_HINT = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
)

REWRITTEN = [
    ("What is x?\n(A) 3\n(B) 4\n(C) 5", "B", "What is x?", "4"),
    ("What is x? A. 3 B. 4 C. 5", "C", "What is x?", "5"),
    ("What is x? (a) 3 (b) 4", "b", "What is x?", "4"),
    (
        "What is x?\nA) 3\nB) 4\nAnswer with the option's letter from the given choices directly.",
        "A",
        "What is x?",
        "3",
    ),
    ("What is x?\nOptions:\nA: 3\nB: 4", "A", "What is x?", "3"),
    ("What is x? The options are: (A) 3 (B) 4 Please answer with the letter.", "B", "What is x?", "4"),
    ("What is x?\nA.\n3\nB.\n4", "B", "What is x?", "4"),
    (
        "如图，AB＝5，AC＝6．则EF的长为（）\nA．4 B．5 C．5.5 D．6",
        "A",
        "如图，AB＝5，AC＝6．则EF的长为 ____",
        "4",
    ),
    ("则x的值为（　　）。\n（A）4；（B）5；（C）6\n请直接回答选项字母。", "B", "则x的值为 ____。", "5"),
    (
        MATHVISTA_HINT
        + "Question: Find the side of the square.\nChoices:\n(A) 3\n(B) 3 \\sqrt 2\n(C) 6\n(D) 6 \\sqrt 2",
        "D",
        "Find the side of the square.",
        "6 \\sqrt 2",
    ),
    # letters of the question are no options
    (
        "In triangle ABC, point (A) is fixed. Find AB.\n(A) 3 cm\n(B) 5 cm",
        "A",
        "In triangle ABC, point (A) is fixed. Find AB.",
        "3 cm",
    ),
    (
        "Find angle A. What is sin A? A. $\\frac{1}{2}$ B. $\\frac{\\sqrt{3}}{2}$",
        "B",
        "Find angle A. What is sin A?",
        "$\\frac{\\sqrt{3}}{2}$",
    ),
]


@pytest.mark.parametrize(("text", "letter", "rest", "value"), REWRITTEN)
def test_a_list_in_the_text_is_taken_out(text, letter, rest, value):
    new = free_form(row(text, {"letter": letter}))
    assert new is not None
    assert question(new) == rest
    assert new["answer"] == {"value": value} and new["task"] == "math"
    assert math_reward(f"The answer is \\boxed{{{value.strip('$')}}}.", new["answer"]) == 1.0
    assert new["trace"] is None and new["multiple_choice"]["letter"] == letter.upper()
    assert new["images"] == ["a.png"] and new["prompt"][0]["content"][0] == {"type": "image"}


@pytest.mark.parametrize("column", ["options", "choices"])
def test_options_of_a_column_are_used_and_removed(column):
    old = row("What is the area?", {"letter": "B"}, **{column: ["12 cm", "15 cm"]})
    new = free_form(old)
    assert new["answer"] == {"value": "15 cm"} and column not in new
    assert new["multiple_choice"] == {"letter": "B", "options": ["12 cm", "15 cm"]}
    assert math_reward("15", new["answer"], **{k: v for k, v in new.items() if k != "answer"}) == 1.0
    assert old["answer"] == {"letter": "B"} and column in old  # the row given is not changed


def test_options_of_the_answer_beside_a_list_in_the_text():
    new = free_form(row("How long?\n(A) 2\n(B) 7", {"letter": "B", "options": ["2", "7"]}))
    assert question(new) == "How long?" and new["answer"] == {"value": "7"}


def test_an_answer_by_the_options_text():
    new = free_form(row("How long?", {"value": "7"}, choices=["2", "7"]))
    assert new["answer"] == {"value": "7"} and new["multiple_choice"]["letter"] == "B"


@pytest.mark.parametrize("answer", [{"value": "4"}, {"value": 4}, {"boxes": [[1, 2, 3, 4]]}, None])
def test_what_is_no_multiple_choice_passes(answer):
    assert free_form(row("What is 2 + 2?", answer)) is None


NEEDS = [
    "Which equation describes the line through both points?",
    "Which quadratic equation has no real root?",
    "Which expression shows how many pens Mr. Hall has left?",
    "What expression represents the cost after d days?",
    "Which number sentence can be used to find the number of rows?",
    "Which inequality is shown on the number line?",
    "Which statement about the angles must be true?",
    "Which number is a multiple of 7?",
    "Which fraction is equal to three quarters?",
    "In which number has the digit 6 the value 600?",
    "Which of these numbers will the frog land on?",
    "Which answer is closest to the area?",
    "Approximately how many people live there?",
    "How much could one dog weigh?",
    "What can her total not be?",
    "If b is right-angled, then:",
    "Tom wrote 5 x 4. What is another way to write this product?",
    "已知 a>b，其中的真命题为（ ）",
]
ALONE = [
    "Which number is missing in the square?",
    "Which fraction of the flag is grey?",
    "Which point will the ant reach after two hours?",
    "The other ant, which is 6 cm long, casts a shadow. How long is the shadow?",
    "What is the area of the part which is bounded by both arcs?",
    "In how many ways can he choose 4 marbles?",
    "A team can not be composed of men only. How many teams are there?",
    "What is the greatest number of students who could have missed both?",
    "How many choices does she have for her lunch?",
    "The line can be written in the form y = mx + b. What is b?",
    "What value of c makes the equation true?",
    "In which ratio are the sides?",
    "What is the longest path she can choose?",
    "Two circles are closest to each other at P. How long is PQ?",
]


@pytest.mark.parametrize("text", NEEDS)
def test_a_question_with_many_right_answers_needs_its_options(text):
    assert needs_options(text)


@pytest.mark.parametrize("text", ALONE)
def test_a_question_with_one_right_answer_does_not(text):
    assert not needs_options(text)


@pytest.mark.parametrize("text", ["which ", "could ", "_", "( ", "then ", ". ", "following ", "?"])
def test_long_questions_come_to_an_end(text):
    needs_options(text * (60_000 // len(text)))


NOT_REWRITTEN = [
    ("Who sits there? (A) the cat (B) the dog", {"letter": "B"}, "words"),
    ("Which figure fits?", {"letter": "B", "options": ["A", "B", "C"]}, "words"),
    ("Find it. (A) $\\triangle ABC$ (B) $\\triangle ABD$", {"letter": "A"}, "words"),
    ("Which number is meant?", {"letter": "A", "options": ["RFT U13B", "ICL"]}, "words"),
    ("Which of the following is prime? A. 4 B. 5", {"letter": "B"}, "needs_options"),
    ("The volume is closest to A. 4 B. 5", {"letter": "B"}, "needs_options"),
    ("下列各数中是质数的是 A. 4 B. 5", {"letter": "B"}, "needs_options"),
    ("What could x be? A. 4 B. 5", {"letter": "B"}, "needs_options"),
    ("(A) 4 (B) 5", {"letter": "B"}, "needs_options"),
    ("How much?", {"letter": "A", "options": ["0.5", "1/2", "3"]}, "ambiguous"),
    ("How much?", {"letter": "D", "options": ["1", "2", "3"]}, "inconsistent"),
    ("How much?\n(A) 1\n(B) 2", {"letter": "A", "options": ["1", "3"]}, "inconsistent"),
    ("How much?", {"letter": "A"}, "options_unknown"),
]


@pytest.mark.parametrize(("text", "answer", "rule"), NOT_REWRITTEN)
def test_what_cannot_be_asked_freely_stays_or_leaves(tmp_path, text, answer, rule):
    old = row(text, answer)
    for otherwise in ("keep", "drop"):
        context = Context(tmp_path)
        options = FreeForm(otherwise=otherwise)
        (found,) = OPERATIONS["free_form"].apply(iter([old]), options, context)
        assert context.counts[f"not_rewritten/{rule}"] == 1
        if otherwise == "keep":
            assert found == old
        else:
            assert isinstance(found, Removed) and found.rule == f"choice_{rule}" and found.row == old


def test_options_with_pictures_are_left_alone(tmp_path):
    content = [
        {"type": "text", "text": "Which shape has area 4? (A)"},
        {"type": "image"},
        {"type": "text", "text": "(B)"},
        {"type": "image"},
    ]
    old = row("", {"letter": "B"}) | {"prompt": [{"role": "user", "content": content}]}
    context = Context(tmp_path)
    assert list(OPERATIONS["free_form"].apply(iter([old]), FreeForm(), context)) == [old]


@pytest.mark.parametrize(
    "option",
    [
        "3",
        "-3.5",
        "4,656",
        "28 %",
        "$12",
        "40°",
        "12 cm",
        "$18 \\mathrm{~cm}$",
        "\\frac{4}{3}",
        "$2-\\sqrt{2}$",
        "$x^2+1$",
    ]
    + ["2ab + b^2", "$3 a b$", "16*\\pi/5", "1:2", "(2, 3)", "sin 30°", "x = 4"],
)
def test_numbers_and_expressions(option):
    assert is_expression(option)


@pytest.mark.parametrize(
    "option",
    [
        "A",
        "$B$",
        "A and C",
        "(A)",
        "AB",
        "the dog",
        "first",
        "All of the above",
        "none of these",
        "It depends on x",
        "①②",
    ]
    + ["\\triangle ABC", "between 10 and 11", "图1", "RFT k=25", "3 apples and 2 pears", ""],
)
def test_words_and_labels(option):
    assert not is_expression(option)


@pytest.mark.parametrize(
    "text", ["(" * 20_000, "A. " * 5_000, "(A) " * 5_000, "Answer " * 5_000, "请" * 20_000, "a" * 50_000]
)
def test_long_texts_come_to_an_end(text):
    find_options(text)
    with pytest.raises(Unfit):
        free_form(row(text, {"letter": "B", "options": ["1", "words " + text]}))


def test_real_problems_of_math_v(shared_data):
    """Every rewritten problem is accepted for its own option alone; what stays has a reason."""
    rewritten, reasons = 0, set()
    for line in (shared_data / "mathv" / "test.jsonl").read_text().splitlines():
        problem = json.loads(line)
        if not problem["options"]:
            continue
        old = row(
            problem["question"].replace("<image1>", ""),
            {"letter": problem["answer"], "options": problem["options"]},
        )
        try:
            new = free_form(old)
        except Unfit as error:
            reasons.add(error.args[0])
            continue
        rewritten += 1
        right = problem["options"]["ABCDE".index(problem["answer"])]
        assert [math_reward(o, new["answer"]) for o in problem["options"]].count(1.0) == 1
        assert new["answer"]["value"] == right.strip()
    assert rewritten == 15
    assert reasons == {"words", "needs_options"}

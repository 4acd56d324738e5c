"""The rule by which every reward finds the answer in a text."""

from __future__ import annotations

import pytest

from rewards.reading.final_answer import clauses, find_answer, standing


@pytest.mark.parametrize(
    "text",
    ["seven", "**seven**", "The answer is seven", "The final answer is: seven. I hope it is correct.", "Answer: seven", "### Final answer: seven", "答案：seven"]
    + [r"\boxed{seven}", r"It is five. No: \boxed{\text{seven}}.", r"$\boxed{seven}$", "<answer>seven</answer>", "<answer>five</answer> <answer>seven</answer>", "`seven`", "```\nseven\n```"]
    + ['{"answer": "seven"}', '```json\n{"count": "seven", "why": "seen"}\n```', "It has five legs, so the answer is seven", "seven because five is too few", "“seven”"]
    + ["Because five is too few, the answer is seven", "The answer is seven since it shows five and two", "My best answer would be seven", "<|box_start|>seven<|box_end|>"],
)  # fmt: skip
def test_marks_leads_and_reasons_are_not_part_of_the_answer(text: str) -> None:
    assert find_answer(text).rstrip(".") == "seven"


def test_boxes_side_by_side_are_one_answer_of_several_parts() -> None:
    assert find_answer(r"\boxed{4}, \boxed{5}") == find_answer(r"\boxed{4}\boxed{5}") == "4, 5"
    assert find_answer(r"First \boxed{4}. But it turns out to be \boxed{5}.") == "5"
    assert find_answer(r"\boxed{4} or 5") == "4 or 5"
    assert find_answer(r"not \boxed{4}") == "not 4"


def test_statements_side_by_side_are_one_answer_of_several_parts() -> None:
    assert find_answer("The answer is A. The answer is B.") == "A. B."
    assert find_answer("The answer is A. Wait, that is the wrong row. The answer is B.") == "B."
    assert find_answer("The final answer: the answer is B") == "B"


def test_clauses_say_what_standing_and_what_is_open() -> None:
    assert [(c.text, c.denied, c.doubtful) for c in clauses("B, not A. Maybe C or D")] == [
        ("B,", False, False),
        ("not A.", True, False),
        ("Maybe C or D", False, True),
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("It is not ", "", "denied"), ("not in the box ", "", "denied"), ("It is at ", " is wrong", "denied"), ("它不在", "", "denied")]
    + [("maybe at ", "", "open"), ("It is at ", " or ", "open"), ("[1, 2, 3, 4] or ", "", "open"), ("", "?", "open")]
    + [("The cat, not the dog, is at ", "", "stated"), ("It is at ", ".", "stated"), ("", "", "stated")],
)  # fmt: skip
def test_the_words_beside_a_value_say_how_it_stands(before: str, after: str, expected: str) -> None:
    assert standing(before, after) == expected


@pytest.mark.parametrize("text", [None, 3, "", " ", "<answer>", "{" * 9_000, '{"answer": ' * 5_000, "\ud800", '{"answer": NaN}', "not " * 8_000])  # fmt: skip
def test_nothing_raises(text: object) -> None:
    assert isinstance(find_answer(text), str)
    clauses(find_answer(text))

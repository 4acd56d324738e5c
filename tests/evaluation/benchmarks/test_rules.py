"""Official rules on hand-made answers; what each gives officially is worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.benchmarks.benchmark import load, names, rule
from evaluation.benchmarks.rules import (
    choice,
    math_vision,
    mathvista,
    mmmu,
    moments,
    numbers,
    places,
    texts,
    yes_no,
)


@pytest.mark.parametrize(
    ("response", "answer", "options", "expected"),
    [
        (r"So the area is \boxed{12}.", "12", [], 1),
        (r"\boxed{5} and then \boxed{B}", "B", ["1", "2", "3"], 1),  # the last box
        (r"\boxed{2}", "B", ["1", "2", "3"], 1),  # the option's text
        ("The answer is (C).", "C", ["1", "2", "3"], 1),
        ("The final answer is 7. Not 8.", "7", [], 1),
        (r"\boxed{x = \frac{1}{2}}", "0.5", [], 1),
        (r"\boxed{0.333}", r"\frac{1}{3}", [], 1),  # to two decimals
        (r"\boxed{1:3}", "$1 : 3$", [], 1),
        (r"\boxed{3^{2}\cdot\sqrt{4}}", "18", [], 1),
        (r"\boxed{(1/2, 3)}", "(0.5,3)", [], 1),
        (r"\boxed{two}", "2", [], 0),  # officially no number
        (r"\boxed{2x}", "2", [], 0),
        ("", "2", [], 0),
        (r"\boxed{9**9**9**9}", "2", [], 0),
        (r"\boxed{__import__('os').system('true')}", "2", [], 0),
    ],
)  # fmt: skip
def test_math_vision(response: str, answer: str, options: list[str], expected: float) -> None:
    record = {"answer": answer, "options": options}
    assert math_vision.correct(math_vision.extract(response, record), record) == expected


CHOICE = {
    "question_type": "multi_choice",
    "answer_type": "text",
    "precision": None,
    "choices": ["red", "green", "dark blue"],
}
FLOAT = {"question_type": "free_form", "answer_type": "float", "precision": 1, "choices": None}


@pytest.mark.parametrize(
    ("record", "answer", "extraction", "expected"),
    [
        (CHOICE, "green", "(B) green", 1),
        (CHOICE, "green", "b", 0),  # a lower-case letter is no letter: the nearest text is red
        (CHOICE, "dark blue", "dark blu", 1),
        (CHOICE, "dark blue", "blue", 0),  # four edits from red, five from dark blue
        (CHOICE, "red", "", 1),  # officially the nearest text to an empty extraction
        (FLOAT, "1.2", "1.23", 1),
        (FLOAT, "1.2", "about 1.2", 0),
        (FLOAT | {"answer_type": "integer"}, "3", "3.7", 1),
        (FLOAT | {"answer_type": "list"}, "[1, 2]", "[1, 2]", 1),
        (FLOAT | {"answer_type": "integer"}, "3", "1e999", 0),
    ],
)
def test_mathvista(record: dict, answer: str, extraction: str, expected: float) -> None:
    assert mathvista.correct(extraction, record | {"answer": answer}) == expected


def test_mathvista_leaves_free_text_to_a_judge() -> None:
    assert mathvista.extract("12", FLOAT | {"answer_type": "integer"}) == "12"
    assert mathvista.extract('The answer is "12".', FLOAT) == "12"
    assert mathvista.extract("I count twelve of them.", FLOAT) is None


MULTIPLE = {"id": "v_1", "question_type": "multiple-choice", "options": ["Aurelia", "Matilda", "Hermione"]}


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(A) is wrong, so (C).", "C"),
        ("A or B or A ", "A"),  # the last one
        ("The play shows us Hermione in the first act", "C"),
        ("Hermione", None),  # too short for the text of an option
    ],
)
def test_mmmu_reads_the_last_option_named(response: str, letter: str | None) -> None:
    assert mmmu.read_choice(response, dict(zip("ABC", MULTIPLE["options"], strict=True))) == letter


def test_mmmu_draws_an_option_where_none_is_named_whatever_the_order_of_rows() -> None:
    drawn = mmmu.extract("I do not know", MULTIPLE)
    assert drawn in "ABC"
    assert drawn == mmmu.extract("No idea", MULTIPLE)


@pytest.mark.parametrize(
    ("response", "answer", "expected"),
    [
        ("The total is $1,234", "1234", 1),
        ("The total is $1,234.50", "1234.5", 0),  # read as 1,234 and 234.50
        ("So x = 3\nTherefore the result is 0.333", ["1/3", "0.33"], 1),
        ("the final answer is Paris, France.", "Paris", 1),
        ("It is 12", "13", 0),
        ("t", "t", 1),
    ],
)
def test_mmmu_open_questions(response: str, answer: object, expected: float) -> None:
    record = {"question_type": "open", "answer": answer}
    assert mmmu.correct(mmmu.extract(response, record), record) == expected


OPTIONS = {"options": ["a red car", "the dog", "7 apples"], "answer": "B"}


@pytest.mark.parametrize(
    ("response", "first", "inferred", "lettered"),
    [
        ("B", "B", "B", "B"),
        ("(B) the dog", "B", "B", "B"),
        ("Answer: B", "A", "B", "A"),
        ("I see the dog.", "I", "B", "D"),
        ("A dog sits here next to a red car", "A", "A", "A"),
        ("A dog sits here next to the red car", "A", None, "A"),
        ("Either A or B", "E", None, "A"),
        ("", None, None, None),
    ],
)
def test_letters_by_three_official_readers(response: str, first, inferred, lettered) -> None:
    assert choice.first_letter(response, {"answer": "C"}) == first
    assert choice.inferred(response, OPTIONS) == inferred
    assert choice.lettered(response, {}) == lettered


def test_mmstar_counts_the_option_and_the_answer_is() -> None:
    for response in ("Option b", "the answer is B.", "(B)"):
        assert choice.correct(choice.first_letter(response, {"answer": "B"}), {"answer": "B"}) == 1


@pytest.mark.parametrize(
    ("response", "truth", "expected"),
    [
        ("Yes, it is.", "1", 1),
        ("no", "No", 1),
        ("Yes and no.", "1", 0),
        ("Not at all", "0", 0),
        ("nope", "0", 0),
    ],
)
def test_yes_or_no(response: str, truth: str, expected: float) -> None:
    assert yes_no.correct(yes_no.extract(response, {}), {"answer": truth}) == expected


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("105", "100", 1),
        ("105.1", "100", 0),
        ("14%", "0.14", 1),
        ("0", "0", 1),
        ("0.0", "0", 0),  # nothing is near zero: the text counts
        ("Yes", ["no", "yes"], 1),
        ("nan", "100", 0),
    ],
)
def test_relaxed_accuracy(prediction: str, truth: object, expected: float) -> None:
    assert numbers.relaxed(prediction, {"answer": truth}) == expected


def test_counts() -> None:
    assert numbers.same_count(numbers.count_word(" Seven ", {}), {"answer": 7}) == 1
    assert numbers.same_count(numbers.count_word("7 cats", {}), {"answer": 7}) == 0
    assert numbers.same_count(numbers.first_number("There are 7 cats", {}), {"answer": "7"}) == 1


def test_points_and_boxes() -> None:
    record = {"box": [10, 10, 20, 20]}
    for answer, official, half_open in (([20, 20], 1, 0), ("(10, 15)", 1, 1), ("[21, 15]", 0, 0)):
        at = places.point(answer, record)
        assert (places.in_box(at, record), places.in_half_open_box(at, record)) == (official, half_open)
    assert places.point("[[8, 10, 22, 20]]", record) == (15, 15)  # a box counts by its centre
    assert places.point("(0.5, 0.25)", {"frame": "norm1", "image_size": [40, 40]}) == (20, 10)
    assert places.point("no idea", record) is None
    assert places.overlap(places.box("[10, 10, 20, 15]", record), record) == {"correct": 1.0, "IoU": 0.5}
    assert places.overlap(places.box("[20, 20, 10, 10]", record), record)["correct"] == 0  # inverted
    assert places.overlap(None, record)["correct"] == 0


def test_regions_of_osworld_g() -> None:
    size = {"image_size": [100, 100], "frame": "norm1_or_pixel"}
    box = size | {"box_type": "bbox", "box_coordinates": [10, 10, 20, 20]}
    triangle = size | {"box_type": "polygon", "box_coordinates": [0, 0, 100, 0, 0, 100]}
    refusal = size | {"box_type": "refusal", "box_coordinates": [-1, -1, -1, -1]}
    for record, answer, expected in (
        (box, "[0.3, 0.3]", 1),
        (box, "[31, 30]", 0),
        (triangle, "[20, 20]", 1),
        (triangle, "[80, 80]", 0),
        (refusal, "[-1, -1]", 1),
        (refusal, "[5, 5]", 0),
    ):
        assert places.in_region(places.point(answer, record), record) == expected


def test_moments() -> None:
    record = {"windows": [[10.0, 20.0]]}
    assert moments.recall([[10, 15]], record) == {"R1@0.3": 1, "R1@0.5": 1, "R1@0.7": 0, "mIoU": 0.5}
    assert moments.recall([], record)["R1@0.3"] == 0
    assert moments.windows("The event happens in the 24.3 - 30.4 seconds", {}) == [[24.3, 30.4]]
    assert moments.windows("It starts at 00:01:05\nends at 00:01:10", {}) == [[0.0, 0.0]]  # as officially
    assert moments.windows("no time at all", {}) == []


def test_average_precision_of_one_query() -> None:
    truth = [[0, 10], [20, 30]]
    # ranked by score: a hit, a miss, a hit -> 1/2 * 1 + 1/2 * 2/3
    ranked = [[20, 30, 0.1], [0, 10, 0.9], [50, 60, 0.5]]
    assert moments.average_precision(ranked, truth) == pytest.approx([5 / 6] * 10)
    # the same window twice finds the truth once
    assert moments.average_precision([[0, 10, 0.9], [0, 10, 0.8]], [[0, 10]]) == pytest.approx([1.0] * 10)
    assert moments.average_precision([], truth).tolist() == [0.0] * 10


def test_texts_where_a_judge_is_missing() -> None:
    assert (
        texts.same(
            texts.answer("<think>…</think><answer>The Red Car.</answer>", {}), {"answer": "the red car"}
        )
        == 1
    )
    assert texts.holds("It is 14 and 15.", {"answer": "14<AND>15"}) == 1
    assert texts.holds("It is 114", {"answer": "14<OR>15"}) == 0


RECORD = {
    "id": "1", "answer": "2", "options": ["1", "2"], "question_type": "multiple-choice", "answer_type": "text", "precision": 1,
    "choices": ["1", "2"], "box": [0, 0, 5, 5], "windows": [[0, 5]], "box_type": "bbox", "box_coordinates": [0, 0, 5, 5],
    "image_size": [10, 10],
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=60)
    | st.sampled_from([r"\boxed{", "}}{", "[[[[1,2", "(1,2", "1:2:3", r"\frac{1}{0}", "9" * 400])
)
def test_nothing_that_a_model_writes_raises(response: str) -> None:
    for name in names():
        benchmark = load(name)
        for record in (RECORD, RECORD | {"question_type": "open"}, RECORD | {"answer_type": "float"}):
            found = rule(benchmark.rule)(rule(benchmark.extract)(response, record), record)
            values = found.values() if isinstance(found, dict) else [found]
            assert all(0 <= value <= 1 for value in values)

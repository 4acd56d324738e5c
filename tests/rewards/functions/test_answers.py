"""What each of the smaller rewards reads: choices, counts, text, chart values, points, spans, sets of boxes, penalties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.functions.choice import read_choice
from rewards.functions.counting import counting_reward, read_count
from rewards.functions.grounding import box_set_reward, read_boxes
from rewards.functions.numeric import relaxed_numeric_reward
from rewards.functions.penalties import repetition_reward, soft_overlong_reward
from rewards.functions.pointing import point_in_box_reward, point_set_reward, read_points
from rewards.functions.temporal import mean_iou, read_spans, recall_at_1, temporal_iou_reward
from rewards.functions.text import anls, anls_reward, exact_text_reward, levenshtein
from tests.rewards.strategies import fuzz

OPTIONS = ["a cat", "a dog", "B", "none of them"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("(b)", "B"), ("B.", "B"), ("B)", "B"), ("Answer: B", "B"), ("The correct option is (B).", "B"), (r"\boxed{B}", "B")]
    + [("a dog", "B"), ("A Dog.", "B"), ("B. a dog", "B"), ("(B) a dog", "B"), ("**B**", "B"), (r"\boxed{\text{(B)}}", "B"), ("none of them", "D")]
    + [("dog", None), ("a dog and a cat", None), ("B or C", None), ("B. a cat", None), ("E", None), ("", None), ("B C", None), ("I think so", None)],
)  # fmt: skip
def test_choices(text: str, letter: str | None) -> None:
    assert read_choice(text, OPTIONS) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B. a dog", "B"), ("(B) because A dog barks", "B"), ("B. or C.", None), ("Because", None), ("A", "A")],
)
def test_choices_without_known_options(text: str, letter: str | None) -> None:
    assert read_choice(text) == letter


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("3.0", 3), ("There are 3 cats.", 3), ("three cats", 3), ("**3**", 3), (r"I see 2, no: \boxed{3}", 3), ("3, yes 3", 3), ("1,234", 1234)]
    + [("2 and 3", None), ("3 or 4", None), ("3x", None), ("1e999", None), ("three or four", None), ("3%", None), ("3/1", None), ("many", None), ("٣", None)],
)  # fmt: skip
def test_counts(text: str, value: int | None) -> None:
    assert read_count(text) == value
    if value is not None:
        assert counting_reward(text, {"value": str(value)}) == 1.0


def slow_levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


@given(a=st.text("abc ", max_size=30), b=st.text("abc ", max_size=30))
@fuzz
def test_the_edit_distance_equals_the_textbooks_and_anls_is_symmetric(a: str, b: str) -> None:
    assert levenshtein(a, b) == slow_levenshtein(a, b)
    assert anls(a, b) == anls(b, a)
    assert (anls(a, b) == 1.0) == (a.split() == b.split() != [])


def test_anls_forgives_typos_down_to_a_half() -> None:
    answer = {"values": ["Main Street", "Main St."]}
    assert anls_reward("MAIN  STREET", answer) == 1.0
    assert anls_reward("Main Stret", answer) == pytest.approx(1 - 1 / 11)
    assert anls_reward("Elm", answer) == 0.0
    assert exact_text_reward(r"\boxed{Main St.}", answer) == 1.0
    assert exact_text_reward("main st.", answer) == 0.0
    assert exact_text_reward("main st.", answer, ignore_case=True) == 1.0
    assert exact_text_reward("at Main St. 5", answer) == 0.0


@pytest.mark.parametrize(
    ("truth", "text", "value"),
    [("100", "105", 1), ("100", "95", 1), ("100", "105.01", 0), ("100", "94.99", 0), ("-100", "-104", 1), ("-100", "104", 0), ("0", "0.01", 0), ("0", "0", 1)]
    + [("0.5", "50%", 1), ("12 %", "0.12", 1), ("Yes", "yes.", 1), ("Yes", "no", 0), ("10", "10 or 11", 0), (r"10", r"\boxed{10.2}", 1), ("10", "", 0), ("3", "1e999", 0)],
)  # fmt: skip
def test_chart_values_within_five_percent(truth: str, text: str, value: float) -> None:
    assert relaxed_numeric_reward(text, {"value": truth}) == value


def test_chart_tolerance_can_be_set_to_nothing() -> None:
    assert relaxed_numeric_reward("2009", {"value": 2010}) == 1.0
    assert relaxed_numeric_reward("2009", {"value": 2010}, tolerance=0.0) == 0.0


@pytest.mark.parametrize(
    "text",
    ["(20, 30)", "[20, 30]", '{"point_2d": [20, 30], "label": "ok"}', '```json\n[{"point_2d": [20, 30]}]\n```', "click(20, 30)", "20, 30", "20 30"]
    + ['{"x": 20, "y": 30}', "x=20, y=30", '<point x="20" y="30">ok</point>', "<point>20 30</point>", "(20.0, 30.0) is (20, 30)"],
)  # fmt: skip
def test_points_are_read(text: str) -> None:
    assert read_points(text) == [(20.0, 30.0)]


def test_a_box_is_half_open_and_several_boxes_may_be_hit() -> None:
    answer: dict[str, Any] = {"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]]}
    values = {
        point: point_in_box_reward(str(point), answer)
        for point in [(0, 0), (9.99, 9.99), (10, 5), (5, 10), (25, 25), (15, 15)]
    }
    assert list(values.values()) == [1, 1, 0, 0, 1, 0]
    assert point_set_reward("(5, 5), (25, 25)", answer) == 1.0
    assert point_set_reward("(5, 5)", answer) == pytest.approx(2 / 3)
    assert point_set_reward("(5, 5), (6, 6), (25, 25)", answer) == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("text", "spans"),
    [("[00:01,00:03]", [(1, 3)]), ("[00:00:01, 00:00:03.5]", [(1, 3.5)]), ("[1, 3]", [(1, 3)]), ("from 1.5s to 3 seconds", [(1.5, 3)]), ("00:01 - 01:03", [(1, 63)])]
    + [("between 1 and 3", [(1, 3)]), ("[[1, 3], [5, 6]]", [(1, 3), (5, 6)]), ("[00:01,00:03] and [00:05,00:06]", [(1, 3), (5, 6)]), ("1:00:00-1:00:01", [(3600, 3601)])]
    + [('{"time": [1, 3]}', [(1, 3)]), ("1, 3", [(1, 3)]), ("90 to 95", [(90, 95)]), ("[61:00, 62:00]", [(3660, 3720)])]
    + [("[3, 1]", None), ("[1, 3], [6, 5]", None), ("[00:75, 00:80]", None), ("[1, 2, 3]", None), ("5", None), ("", None), ("[-1, 3]", None), ("[0:0:0:1, 3]", None)],
)  # fmt: skip
def test_spans_are_read(text: str, spans: list[tuple[float, float]] | None) -> None:
    assert read_spans(text) == spans


def test_recall_and_mean_iou_count_a_missing_prediction_as_a_miss() -> None:
    best, truths = (
        [(0.0, 10.0), None, (5.0, 6.0), (3.0, 1.0)],
        [[(0.0, 5.0), (0.0, 8.0)], [(1.0, 2.0)], [(5.0, 6.0)], [(1.0, 3.0)]],
    )
    assert recall_at_1(best, truths, 0.5) == 0.5
    assert recall_at_1(best, truths, 0.9) == 0.25
    assert mean_iou(best, truths) == pytest.approx((0.8 + 0 + 1 + 0) / 4)
    assert recall_at_1([], [], 0.5) == mean_iou([], []) == 0.0


def test_several_true_spans_are_one_union() -> None:
    answer = {"spans": [[0, 10], [20, 30]]}
    assert temporal_iou_reward("[20, 30], [0, 10]", answer) == 1.0
    assert temporal_iou_reward("[0, 10]", answer) == 0.5
    assert temporal_iou_reward("[0, 30]", answer) == pytest.approx(2 / 3)


def test_missed_and_invented_boxes_both_cost() -> None:
    truth = {"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]]}
    assert box_set_reward("[[20, 20, 30, 30], [0, 0, 10, 10]]", truth) == 1.0
    assert box_set_reward("[[0, 0, 10, 10]]", truth) == pytest.approx(2 / 3)
    assert box_set_reward("[[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]", truth) == pytest.approx(
        4 / 5
    )
    assert box_set_reward("[[0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 50, 50]]", truth) == pytest.approx(
        4 / 5
    )
    assert box_set_reward(str([[x, 0, x + 1, 1] for x in range(600)]), truth) == 0.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[]", 1),
        ("```json\n[]\n```", 1),
        (r"\boxed{[]}", 1),
        ("", 0),
        ("none", 0),
        ("[[0, 0, 1, 1]]", 0),
        ("[] or not", 0),
    ],
)
def test_where_there_is_nothing_to_find_only_an_empty_list_is_right(text: str, value: float) -> None:
    assert box_set_reward(text, {"boxes": []}) == value


def test_arrays_of_parquet_are_truths_like_lists() -> None:
    boxes = np.array([[0.0, 0.0, 10.0, 10.0]])
    assert box_set_reward("[0, 0, 10, 10]", {"boxes": boxes, "box": None, "frame": None}) == 1.0
    assert temporal_iou_reward("[1, 3]", {"spans": np.array([[1, 3]]), "span": None}) == 1.0


def test_boxes_are_read_in_every_usual_form() -> None:
    for text in (
        "[1, 2, 3, 4]",
        "(1, 2, 3, 4)",
        "(1,2),(3,4)",
        "<|box_start|>(1,2),(3,4)<|box_end|>",
        "1, 2, 3, 4",
        '{"bbox_2d": [1, 2, 3, 4]}',
        "[1,2,3,4] = [1.0, 2, 3, 4]",
    ):
        assert read_boxes(text) == [(1, 2, 3, 4)], text
    assert read_boxes("[1, 2, 3, 4, 5]") == read_boxes("[1, 2, 3, 4, 5, 6, 7, 8]") == []


def test_soft_overlong_is_dapos_equation_13_plus_one() -> None:
    def dapo(length: int, longest: int, cache: int) -> float:
        if length <= longest - cache:
            return 0.0
        return ((longest - cache) - length) / cache if length <= longest else -1.0

    for length in range(1, 40):
        ours = soft_overlong_reward(
            "x", {}, max_tokens=30, cache_tokens=10, completion_ids=list(range(length))
        )
        assert ours == pytest.approx(1 + dapo(length, 30, 10))
    assert soft_overlong_reward("x", {}, max_tokens=30, cache_tokens=10) is None
    with pytest.raises(ValueError, match="cache_tokens"):
        soft_overlong_reward("x", {}, max_tokens=10, cache_tokens=20)


def test_repetition_is_the_share_of_distinct_ngrams() -> None:
    assert repetition_reward("a b c d e f g") == 1.0
    assert repetition_reward("a b c d a b c d") == pytest.approx(4 / 5)
    assert repetition_reward("a a a a a a a a a a a a a") == pytest.approx(1 / 10)
    assert repetition_reward("a b") == 1.0

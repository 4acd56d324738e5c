"""What every reward of the library promises, over arbitrary and hostile text."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rewards.strategies import CASES, REWARDS, boxes, fuzz, hostile_text, number_text, spans

NAMES = sorted(REWARDS)
READS_ANSWER = [name for name in NAMES if not hasattr(REWARDS[name], "whole_text")]


def score(name: str, completion: Any) -> float:
    answer, options, _, _ = CASES[name]
    value = REWARDS[name](completion, answer, **options)
    assert isinstance(value, float)
    return value


def test_every_built_in_has_a_case() -> None:
    assert sorted(CASES) == NAMES


@pytest.mark.parametrize("name", NAMES)
@given(text=hostile_text)
@fuzz
def test_any_text_scores_between_zero_and_one_and_raises_nothing(name: str, text: str) -> None:
    assert 0.0 <= score(name, text) <= 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("completion", [None, 3, True, [], {}, b"[1, 2, 3, 4]", math.nan])
def test_a_completion_that_is_no_string_raises_nothing(name: str, completion: Any) -> None:
    assert 0.0 <= score(name, completion) <= 1.0
    if name in READS_ANSWER:
        assert score(name, completion) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_scores_one_and_a_wrong_one_less(name: str) -> None:
    _, _, right, wrong = CASES[name]
    assert score(name, right) == 1.0
    if name != "soft_overlong":
        assert score(name, wrong) < 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("silence", ["", " ", "\n", "I don't know.", "[]", "()", "\\boxed{}", "null", "none"])
def test_silence_never_beats_an_honest_wrong_answer(name: str, silence: str) -> None:
    if name in ("soft_overlong", "repetition") and silence.strip():
        return  # these judge the form alone: "I don't know." is a fine length
    assert score(name, silence) <= score(name, CASES[name][3])


@pytest.mark.parametrize("name", READS_ANSWER)
@given(text=hostile_text)
@fuzz
def test_unreadable_text_is_never_worth_more_than_zero_unless_it_reads_as_an_answer(
    name: str, text: str
) -> None:
    """Without a digit, a letter or a bracket there is nothing that could be an answer."""
    stripped = "".join(char for char in text if not char.isalnum() and char not in "[]")
    assert score(name, stripped) == 0.0


LAST_COUNTS = {"math"}  # of several boxed answers the last one counts (documented)


@pytest.mark.parametrize("name", READS_ANSWER)
def test_a_second_answer_does_not_pay(name: str) -> None:
    _, _, right, wrong = CASES[name]
    assert score(name, f"{right} {wrong}") < 1.0
    if name not in LAST_COUNTS:
        assert score(name, f"{wrong} {right}") < 1.0
        assert score(name, f"{right} or {wrong}") < 1.0


@pytest.mark.parametrize("name", READS_ANSWER)
@given(junk=hostile_text)
@fuzz
def test_junk_around_a_wrong_answer_does_not_pay(name: str, junk: str) -> None:
    """Nothing but the right answer itself makes a wrong answer right: junk without digits and letters changes nothing upwards."""
    harmless = "".join(char for char in junk if not char.isalnum() and char not in "[](){}")
    wrong = CASES[name][3]
    assert score(name, harmless + wrong + harmless) <= max(score(name, wrong), 0.0)


ATTACKS = [
    "a" * 3_000_000,
    "1" * 3_000_000,
    "[" * 1_000_000,
    "[1," * 500_000,
    "(" * 1_000_000 + ")" * 1_000_000,
    "\\boxed{" * 300_000,
    "\\boxed{1}" * 300_000,
    "{" * 500_000 + "}" * 500_000,
    "$" * 1_000_000,
    "1 " * 1_000_000,
    " " * 3_000_000 + "x",
    "1:" * 1_000_000,
    "x=" * 1_000_000,
    "[1, 2, 3, 4] " * 200_000,
    "(1, 2) " * 300_000,
    "[1, 2] " * 300_000,
    "<SUMMARY>" * 300_000,
    "</CONCLUSION>" * 300_000,
    "\\text{" * 300_000,
    "the answer is " * 200_000,
    "and or " * 300_000,
    "1e" + "9" * 100_000,
    "a.b" * 500_000,
    ("ab" * 50 + "!") * 20_000,
]


@pytest.mark.parametrize("name", NAMES)
def test_megabytes_deep_nesting_and_regex_attacks_are_answered_at_once(name: str) -> None:
    """A limit a hundred times what these take, far below what one quadratic pass over them would."""
    for attack in ATTACKS:
        start = time.process_time()
        assert 0.0 <= score(name, attack) <= 1.0
        assert time.process_time() - start < 10.0, attack[:20]


@given(values=st.lists(number_text, min_size=4, max_size=4))
@fuzz
def test_no_written_box_leaves_the_range(values: list[str]) -> None:
    text = "[" + ", ".join(values) + "]"
    for name in ("giou", "iou", "box_set"):
        assert 0.0 <= score(name, text) <= 1.0


@pytest.mark.parametrize(
    "box",
    [
        "[50, 60, 10, 20]",
        "[10, 60, 50, 20]",
        "[10, 20, 10, 60]",
        "[10, 20, 10, 20]",
        "[NaN, 20, 50, 60]",
        "[10, 20, Infinity, 60]",
        "[-Infinity, -Infinity, Infinity, Infinity]",
        "[true, 20, 50, 60]",
        "[false, false, true, true]",
        '["10", "20", "50", "60"]',
        "[10, 20, 1e999, 1e999]",
        "[-1e300, -1e300, 1e300, 1e300]",
        "[0, 0, 4000, 4000]",
        "[0, 0, 1000000000, 1000000000]",
        "[10, 20, 50]",
        "[10, 20, 50, 60, 0.9]",
        "[10, 20, 50, null]",
        "[١٠, ٢٠, ٥٠, ٦٠]",
        "[1_0, 20, 50, 60]",
        "[0x0a, 20, 50, 60]",
    ],
)
@pytest.mark.parametrize("name", ["giou", "iou"])
def test_a_box_that_is_none_scores_zero(name: str, box: str) -> None:
    assert score(name, box) == 0.0


@pytest.mark.parametrize(
    "span", ["[3, 1]", "[2, 2]", "[NaN, 3]", "[1, Infinity]", "[true, 3]", "[1, 1e999]", "[-1, 3]"]
)
def test_a_span_that_is_none_scores_zero(span: str) -> None:
    assert score("temporal_iou", span) == 0.0


@pytest.mark.parametrize(
    "point",
    ["(NaN, 30)", "(30, Infinity)", "(true, 30)", "(1e999, 30)", "[30]", "[30, 30, 30]", '["30", "30"]'],
)
@pytest.mark.parametrize("name", ["point_in_box", "point_distance", "point_set"])
def test_a_point_that_is_none_scores_zero(name: str, point: str) -> None:
    assert score(name, point) == 0.0


@given(box=boxes(), other=boxes())
@fuzz
def test_box_rewards_are_one_only_for_the_true_box(box: Any, other: Any) -> None:
    for name in ("giou", "iou", "box_set"):
        value = REWARDS[name](str(list(other)), {"boxes": [list(box)]})
        assert (value == 1.0) == (box == other)
        assert REWARDS[name](str(list(box)), {"boxes": [list(box)]}) == 1.0


@given(box=boxes(), other=boxes())
@fuzz
def test_box_rewards_are_symmetric(box: Any, other: Any) -> None:
    for name in ("giou", "iou", "box_set"):
        one = REWARDS[name](str(list(other)), {"boxes": [list(box)]})
        two = REWARDS[name](str(list(box)), {"boxes": [list(other)]})
        if name == "box_set" or (one and two):  # a box 100 times the true one's sides scores 0 one way only
            assert one == pytest.approx(two, abs=1e-12)


@given(box=boxes(), step=st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(any))
@fuzz
def test_box_rewards_fall_monotonically_as_a_box_drifts_away(box: Any, step: tuple[int, int]) -> None:
    for name in ("giou", "iou", "box_set"):
        drifting = [
            [box[0] + i * step[0], box[1] + i * step[1], box[2] + i * step[0], box[3] + i * step[1]]
            for i in range(25)
        ]
        values = [REWARDS[name](str(item), {"boxes": [list(box)]}) for item in drifting]
        assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))
        assert values[1] < values[0] == 1.0
        if name == "giou":
            assert values[-1] > 0.0


@given(span=spans(), step=st.floats(0.1, 30))
@fuzz
def test_temporal_iou_falls_monotonically_as_a_span_drifts_away(span: Any, step: float) -> None:
    texts = [f"[{span[0] + i * step!r}, {span[1] + i * step!r}]" for i in range(20)]
    values = [REWARDS["temporal_iou"](text, {"spans": [list(span)]}) for text in texts]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))
    assert values[1] < values[0] == 1.0


@given(a=spans(), b=spans())
@fuzz
def test_temporal_iou_is_symmetric_and_one_only_for_the_true_span(a: Any, b: Any) -> None:
    one = REWARDS["temporal_iou"](str(list(a)), {"spans": [list(b)]})
    assert one == pytest.approx(REWARDS["temporal_iou"](str(list(b)), {"spans": [list(a)]}), abs=1e-12)
    assert (one == 1.0) == (a == b)


@given(distance=st.lists(st.integers(0, 3000), min_size=2, max_size=10).map(sorted))
@fuzz
def test_point_distance_falls_monotonically(distance: list[int]) -> None:
    values = [
        REWARDS["point_distance"](f"({d}, 0)", {"point": [0, 0], "frame": "norm1000"}) for d in distance
    ]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert all((value == 1.0) == (d == 0) for value, d in zip(values, distance, strict=True))


@pytest.mark.parametrize("name", READS_ANSWER)
@pytest.mark.parametrize(
    "answer", [{}, {"value": None, "boxes": None, "box": None, "spans": None, "letter": None}, "3", [], None]
)
def test_a_missing_truth_is_a_data_error_when_data_is_loaded(name: str, answer: Any) -> None:
    with pytest.raises(ValueError, match=r"answer|expected"):
        REWARDS[name].check_gold(answer, {})


@pytest.mark.parametrize("name", READS_ANSWER)
def test_a_good_truth_passes_the_check(name: str) -> None:
    answer, options, _, _ = CASES[name]
    assert REWARDS[name].check_gold(answer, options) is None


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("giou", {"boxes": [[50, 60, 10, 20]]}),
        ("giou", {"boxes": [[0, 0, math.nan, 1]]}),
        ("giou", {"boxes": [[0, 0, True, 1]]}),
        ("giou", {"boxes": [[0, 0, 1, 1], [2, 2, 3, 3]]}),
        ("giou", {"boxes": []}),
        ("giou", {"boxes": [[0, 0, 1]]}),
        ("giou", {"boxes": [["0", "0", "1", "1"]]}),
        ("giou", {"boxes": [[0, 0, 1, 1]], "frame": "pixels"}),
        ("point_in_box", {"box": [5, 5, 5, 9]}),
        ("point_in_box", {"boxes": []}),
        ("point_distance", {"point": [1, 2], "frame": "pixel"}),
        ("point_distance", {"point": [1, math.inf], "frame": "norm1"}),
        ("temporal_iou", {"spans": [[3, 1]]}),
        ("temporal_iou", {"spans": []}),
        ("temporal_iou", {"spans": [[-1, 1]]}),
        ("counting", {"value": 2.5}),
        ("counting", {"value": -1}),
        ("counting", {"value": "three and a half"}),
        ("counting", {"value": True}),
        ("choice", {"letter": "BC"}),
        ("choice", {"letter": "D", "options": ["x", "y"]}),
        ("choice", {"letter": 2}),
        ("math", {"value": r"\frac{1}{"}),
        ("math", {"value": ""}),
        ("math", {"value": "???"}),
        ("math", {"value": math.nan}),
        ("math", {"value": True}),
        ("math", {"value": "1" * 10_000}),
        ("anls", {"values": []}),
        ("anls", {"values": ["a", ""]}),
        ("exact_text", {"value": 7}),
        ("relaxed_numeric", {"value": math.inf}),
        ("relaxed_numeric", {"value": "  "}),
    ],
)
def test_a_truth_that_cannot_be_used_is_named(name: str, answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(answer|frame)[.:a-z_]* ?.*expected|image_size"):
        REWARDS[name].check_gold(answer, {})

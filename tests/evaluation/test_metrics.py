"""Means, intervals and paired differences, against scipy, by hand and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.metrics import (
    Estimate,
    Scored,
    by_task,
    differences,
    estimate_mean,
    paired_difference,
    summarise,
)


def scored(
    row: str, reward: float | None, task: str = "math", in_grammar: bool = True, tokens: int = 10
) -> Scored:
    return Scored(row, task, reward, in_grammar, tokens)


def test_right_or_wrong_rewards_get_wilsons_interval_by_hand():
    n, p, z = 80, 0.75, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    got = estimate_mean([1.0] * 60 + [0.0] * 20)
    assert (got.mean, got.n) == (0.75, 80)
    assert got.low == pytest.approx(centre - half, abs=1e-12)
    assert got.high == pytest.approx(centre + half, abs=1e-12)


def test_continuous_rewards_get_students_interval_as_scipy_has_it():
    values = np.random.default_rng(0).uniform(0.2, 0.9, 50)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    got = estimate_mean(values)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_all_right_is_not_certainty():
    got = estimate_mean([1.0] * 50)
    assert got.mean == 1.0 and got.high == 1.0 and 0.90 < got.low < 0.95


def test_constant_continuous_rewards_are_bounded_by_the_binomial_bound():
    # 1 - 0.05^(1/20) = 0.1391: at most that share of unseen rows differs, and by at most the way to 0 or to 1
    got = estimate_mean([0.4] * 20)
    assert (got.low, got.high) == pytest.approx((0.4 - 0.1391 * 0.4, 0.4 + 0.1391 * 0.6), abs=1e-4)


def test_one_row_and_no_row_are_safe():
    one = estimate_mean([0.5])
    assert one.n == 1 and one.low == pytest.approx(0.025) and one.high == pytest.approx(0.975)
    none = estimate_mean([])
    assert none.n == 0 and math.isnan(none.mean)
    assert none.as_json() == {"mean": None, "ci95": [None, None], "n": 0}


def test_a_value_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="finite"):
        estimate_mean([0.5, math.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_interval_holds_the_mean_and_stays_in_range(values):
    got = estimate_mean(values)
    assert 0.0 <= got.low <= got.mean + 1e-12 and got.mean - 1e-12 <= got.high <= 1.0
    assert all(math.isfinite(x) for x in (got.mean, got.low, got.high))


@pytest.mark.parametrize("kind", ["right_or_wrong", "continuous", "mixed"])
def test_intervals_cover_the_truth_as_often_as_they_say(kind):
    rng = np.random.default_rng(7)
    draw = {
        "right_or_wrong": (lambda: (rng.random(80) < 0.9).astype(float), 0.9),
        "continuous": (lambda: rng.beta(2, 5, 80), 2 / 7),
        "mixed": (lambda: np.where(rng.random(80) < 0.3, 0.0, rng.beta(8, 2, 80)), 0.7 * 0.8),
    }
    sample, truth = draw[kind]
    covered = sum(e.low <= truth <= e.high for e in (estimate_mean(sample()) for _ in range(2000)))
    assert 0.93 <= covered / 2000 <= 0.97


def test_summary_counts_failures_and_averages_samples_of_a_row_first():
    answers = [
        scored("a", 1.0), scored("a", 0.0), scored("b", 1.0, tokens=30),
        scored("c", None, in_grammar=False),
    ]  # fmt: skip
    got = summarise(answers)
    assert (got["mean"], got["n"], got["unscored"]) == (0.75, 2, 1)
    assert got["in_grammar"] == pytest.approx(2 / 3)
    assert got["tokens"] == 15.0


def test_paired_difference_sees_what_two_means_do_not():
    rng = np.random.default_rng(1)
    difficulty = rng.uniform(0, 0.9, 60)
    before = [scored(str(i), r) for i, r in enumerate(difficulty)]
    after = [scored(str(i), r + 0.05 + 0.01 * rng.standard_normal()) for i, r in enumerate(difficulty)]
    shuffled = [after[i] for i in rng.permutation(60)]
    got = paired_difference(before, shuffled)
    expected = stats.ttest_rel(
        [one.reward for one in after], [one.reward for one in before]
    ).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    assert got.low > 0
    means = [estimate_mean(one.reward for one in side) for side in (before, after)]
    assert not means[0].apart_from(means[1])


def test_no_difference_anywhere_is_not_certainty_either():
    same = [scored(str(i), 1.0) for i in range(100)]
    got = paired_difference(same, same)
    assert (
        got.mean == 0.0
        and got.low == pytest.approx(-0.0295, abs=1e-3)
        and got.high == pytest.approx(0.0295, abs=1e-3)
    )


def test_paired_difference_refuses_other_rows_and_leaves_out_unscored_ones():
    with pytest.raises(ValueError, match="same rows.*'b'"):
        paired_difference([scored("a", 1.0)], [scored("a", 1.0), scored("b", 0.0)])
    got = paired_difference([scored("a", 0.0), scored("b", None)], [scored("a", 1.0), scored("b", 1.0)])
    assert (got.mean, got.n) == (1.0, 1)


def test_differences_of_all_pairs_by_task():
    sides = {
        name: [scored("a", low), scored("b", high, task="grounding")]
        for name, low, high in (("untrained", 0.0, 0.1), ("sft", 0.0, 0.6), ("rl", 1.0, 0.7))
    }
    got = {(one["before"], one["after"]): one for one in differences(sides)}
    assert set(got) == {("untrained", "sft"), ("untrained", "rl"), ("sft", "rl")}
    assert got["sft", "rl"]["tasks"]["math"]["mean"] == 1.0
    assert got["sft", "rl"]["tasks"]["grounding"]["mean"] == pytest.approx(0.1)
    assert got["sft", "rl"]["overall"]["mean"] == pytest.approx(0.55)


def test_tasks_are_in_alphabetical_order():
    assert list(by_task([scored("1", 0.0, "temporal"), scored("2", 0.0, "grounding")])) == [
        "grounding",
        "temporal",
    ]


def test_intervals_apart():
    low, high = Estimate(0.2, 0.1, 0.3, 10), Estimate(0.5, 0.4, 0.6, 10)
    assert low.apart_from(high) and high.apart_from(low) and not low.apart_from(low)

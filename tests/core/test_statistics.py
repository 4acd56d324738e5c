"""Means, intervals and paired differences, against scipy, by hand and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import evaluation.metrics
import inference.run
from core.statistics import estimate_mean, interval_text, mean_reward, paired_difference
from evaluation.metrics import ScoredAnswer, differences


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


def test_paired_difference_sees_what_two_means_do_not():
    rng = np.random.default_rng(1)
    difficulty = rng.uniform(0, 0.9, 60)
    before = [(str(i), r) for i, r in enumerate(difficulty)]
    after = [(str(i), r + 0.05 + 0.01 * rng.standard_normal()) for i, r in enumerate(difficulty)]
    shuffled = [after[i] for i in rng.permutation(60)]
    got = paired_difference(before, shuffled)
    expected = stats.ttest_rel(
        [reward for _, reward in after], [reward for _, reward in before]
    ).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    assert got.low > 0
    means = [estimate_mean(reward for _, reward in side) for side in (before, after)]
    assert means[0].high > means[1].low  # the two intervals overlap


def test_no_difference_anywhere_is_not_certainty_either():
    same = [(str(i), 1.0) for i in range(100)]
    got = paired_difference(same, same)
    assert (
        got.mean == 0.0
        and got.low == pytest.approx(-0.0295, abs=1e-3)
        and got.high == pytest.approx(0.0295, abs=1e-3)
    )


def test_paired_difference_refuses_other_rows_and_leaves_out_unscored_ones():
    with pytest.raises(ValueError, match="same rows.*'b'"):
        paired_difference([("a", 1.0)], [("a", 1.0), ("b", 0.0)])
    got = paired_difference([("a", 0.0), ("b", None)], [("a", 1.0), ("b", 1.0)])
    assert (got.mean, got.n) == (1.0, 1)


def test_answers_to_one_row_are_averaged_before_rows_are_counted():
    got = mean_reward([("a", 1.0), ("a", 0.0), ("b", 1.0), ("c", None)])
    assert (got.mean, got.n) == (0.75, 2)


def test_intervals_as_text():
    assert interval_text(None) == "–" and interval_text({"mean": None}) == "–"
    entry = {"mean": 0.25, "ci95": [0.2, 0.3]}
    assert interval_text(entry, signed=True) == "+0.25 [+0.20, +0.30]"
    assert interval_text(entry, digits=3, interval=False) == "0.250"


def test_evaluation_and_inference_give_the_same_numbers_for_the_same_answers():
    """Greedy answers and four samples of each row; some could not be scored, some rows not at all."""
    draw = np.random.default_rng(3)
    records = []
    for row in range(40):
        task = "math" if row % 2 else "grounding"
        for method, count in (("greedy", 1), ("sampled", 4)):
            for _ in range(count):
                value = float(draw.random() < 0.6) if task == "math" else float(draw.random())
                reward = None if row < 2 or draw.random() < 0.1 else value
                spent = dict.fromkeys(
                    ("tokens_generated", "tokens_judged", "engine_calls", "coin_tosses", "retraces"), 5
                )
                more = {"in_grammar": bool(draw.random() < 0.9), "tokens": 5, "spent": spent}
                records.append({"method": method, "row_id": str(row), "task": task, "reward": reward, **more})
    searched = inference.run.summarise(records, {"greedy": 1.0, "sampled": 1.0})
    evaluated = {
        method: [
            ScoredAnswer(r["row_id"], r["task"], r["reward"], r["in_grammar"], r["tokens"])
            for r in records
            if r["method"] == method
        ]
        for method in ("greedy", "sampled")
    }
    (difference,) = differences(evaluated)
    assert searched["sampled"]["difference"] == difference["overall"]
    for method, answers in evaluated.items():
        summary = evaluation.metrics.summarise(answers)
        assert searched[method]["reward"] == {name: summary[name] for name in ("mean", "ci95", "n")}
        assert searched[method]["in_grammar"] == pytest.approx(summary["in_grammar"])
        assert searched[method]["unscored"] == summary["unscored"] > 0

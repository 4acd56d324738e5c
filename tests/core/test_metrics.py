"""Metrics merged from parts equal those of the whole, however it was divided."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.metrics import joined, largest, mean, total, values

NUMBERS = st.lists(st.none() | st.floats(-10, 10), max_size=8)


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_a_mean_over_ranks_weighs_every_value_alike(ranks):
    known = [n for rank in ranks for n in rank if n is not None]
    both = values(joined({"reward": mean(rank)} for rank in ranks))
    assert both == ({"reward": pytest.approx(math.fsum(known) / len(known), abs=1e-12)} if known else {})


def test_a_rank_without_values_does_not_count():
    assert values(joined([{"a": mean([None, None])}, {"a": mean([0.5, None])}, {}])) == {"a": 0.5}


def test_counts_are_added_and_maxima_are_maxima():
    ranks = [
        {"failures": total(3), "seconds": largest(1.5)},
        {"failures": total(4), "seconds": largest(-2.0)},
    ]
    assert values(joined(ranks)) == {"failures": 7.0, "seconds": 1.5}
    assert values({"failures": total(), "seconds": largest()}) == {"failures": 0.0}


@pytest.mark.parametrize("parts", [(math.nan, 1.0), (1.0, math.nan)])
def test_a_maximum_with_a_nan_is_not_a_number(parts):
    assert math.isnan(values(joined({"gap": largest(p)} for p in parts))["gap"])


def test_infinities_are_no_error():
    assert math.isnan(values({"a": mean([math.inf, -math.inf])})["a"])


def test_metrics_of_different_kinds_are_not_joined():
    with pytest.raises(ValueError, match="one kind"):
        joined([{"a": mean([1.0])}, {"a": total(1)}])

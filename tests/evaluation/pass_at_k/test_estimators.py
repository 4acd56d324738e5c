"""pass@k, maj@k and mean@k against their definitions, by enumeration of all draws."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import comb

import numpy as np
import pytest

from evaluation.pass_at_k.estimators import maj_at_k, mean_at_k, pass_at_k


@pytest.mark.parametrize(("n", "correct"), [(1, 0), (1, 1), (6, 0), (6, 1), (6, 3), (6, 6), (64, 5)])
def test_pass_at_k_is_one_minus_the_share_of_draws_without_a_correct_answer(n, correct):
    expected = [1 - comb(n - correct, k) / comb(n, k) for k in range(1, n + 1)]
    assert pass_at_k(n, correct) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_by_enumeration_and_unlike_the_biased_one():
    right = [True, False, False, True, False]
    for k in range(1, 6):
        share = np.mean([any(draw) for draw in combinations(right, k)])
        assert pass_at_k(5, 2)[k - 1] == pytest.approx(share)
    assert pass_at_k(5, 2)[1] > 1 - (1 - 2 / 5) ** 2


def test_pass_at_k_does_not_overflow():
    curve = pass_at_k(20_000, 3)
    assert curve[0] == pytest.approx(3 / 20_000)
    assert curve[-1] == 1.0
    assert np.all(np.diff(curve) >= 0)


@pytest.mark.parametrize(("n", "correct"), [(0, 0), (3, 4), (3, -1)])
def test_counts_that_make_no_sense_are_refused(n, correct):
    with pytest.raises(ValueError, match="0 <= correct <= n"):
        pass_at_k(n, correct)


def exact_majority(forms, correct, k):
    """By enumeration; ties are shared."""
    right = {
        form: np.mean([c for f, c in zip(forms, correct, strict=True) if f == form]) for form in set(forms)
    }
    values = []
    for draw in combinations(forms, k):
        votes = Counter(form for form in draw if form is not None)
        leaders = [form for form, count in votes.items() if count == max(votes.values())]
        values.append(np.mean([right[form] for form in leaders]) if leaders else 0.0)
    return np.mean(values)


@pytest.mark.parametrize(
    ("forms", "correct"),
    [
        (["5", "5", "5", "4", "3", None], [True, True, True, False, False, False]),
        (["4", "4", "4", "5", "5"], [False, False, False, True, True]),
        ([None, None, None], [False, False, False]),
        (["5", "5", "4"], [True, False, False]),
    ],
)
def test_maj_at_k_is_that_of_all_draws(forms, correct):
    found = maj_at_k(forms, correct, orders=4000, seed="s")
    expected = [exact_majority(forms, correct, k) for k in range(1, len(forms) + 1)]
    assert found == pytest.approx(expected, abs=0.025)
    assert found[0] == pytest.approx(
        np.mean([c and f is not None for f, c in zip(forms, correct, strict=True)]), abs=0.025
    )
    assert maj_at_k(forms, correct, orders=10, seed="s") == pytest.approx(
        maj_at_k(forms, correct, orders=10, seed="s")
    )


def test_mean_at_k_is_the_mean_for_every_k():
    assert mean_at_k([0.0, 0.5, 1.0]).tolist() == [0.5, 0.5, 0.5]

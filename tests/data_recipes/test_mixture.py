"""Shares of sources and tasks, and which rows make them up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.config import Mixture
from data_recipes.mixture import allot, quotas, water_fill
from data_recipes.records import Signature
from data_recipes.verdicts import Signed


def signed(groups: dict[tuple[str, str], int]) -> list[Signed]:
    rows = [(s, t, i) for (s, t), n in groups.items() for i in range(n)]
    return [
        Signed((0, n, 0), f"f:{n}", Signature(f"{s}/{t}{i}", t, s, {})) for n, (s, t, i) in enumerate(rows)
    ]


def taken(rows: list[Signed], mixture: Mixture, tmp_path, seed: int = 0) -> dict[str, int]:
    """Copies by id."""
    verdicts = dict(allot(lambda: iter(rows), mixture, seed, tmp_path / "scratch"))
    copies = {r.signature.id: verdicts[r.position].copies if r.position in verdicts else 1 for r in rows}
    return {name: n for name, n in copies.items() if n}


SIZES = {("a", "math"): 100, ("b", "math"): 50, ("b", "grounding"): 10}


def test_without_wishes_everything_stays():
    assert quotas(SIZES, Mixture()) == SIZES


def test_caps_cut_their_task_alone_and_share_the_cut():
    assert quotas(SIZES, Mixture(caps={"math": 30})) == {
        ("a", "math"): 20,
        ("b", "math"): 10,
        ("b", "grounding"): 10,
    }


def test_weights_without_a_number_of_rows_cut_until_the_shares_are_right():
    mixture = Mixture.model_validate({"weights": {"source": {"b": 3}}})
    # weights 100 : 150 : 30, and the groups of b have a third of theirs
    assert quotas(SIZES, mixture) == {("a", "math"): 33, ("b", "math"): 50, ("b", "grounding"): 10}


def test_a_weight_of_nothing_leaves_a_group_out():
    assert quotas(SIZES, Mixture.model_validate({"weights": {"task": {"math": 0}}})) == {
        ("a", "math"): 0,
        ("b", "math"): 0,
        ("b", "grounding"): 10,
    }


def test_temperature_evens_groups_out():
    even = quotas(SIZES, Mixture(temperature=1e9, rows=30))
    assert even == dict.fromkeys(SIZES, 10)
    square_root = quotas({("a", "x"): 900, ("b", "x"): 100}, Mixture(temperature=2, rows=100))
    assert square_root == {("a", "x"): 75, ("b", "x"): 25}


def test_what_a_group_lacks_the_others_give():
    assert quotas(SIZES, Mixture(temperature=1e9, rows=90)) == {
        ("a", "math"): 40,
        ("b", "math"): 40,
        ("b", "grounding"): 10,
    }


def test_repeats_fill_a_small_group_up_to_their_bound(tmp_path):
    groups = {("a", "x"): 40, ("b", "y"): 4}
    mixture = Mixture(temperature=1e9, rows=30, max_repeats=3)
    assert quotas(groups, mixture) == {("a", "x"): 18, ("b", "y"): 12}
    copies = taken(signed(groups), mixture, tmp_path)
    assert [n for name, n in copies.items() if name.startswith("b/")] == [3] * 4


def test_the_choice_depends_on_seed_and_id_alone(tmp_path):
    rows, mixture = signed(SIZES), Mixture(rows=40)
    chosen = taken(rows, mixture, tmp_path)
    assert sum(chosen.values()) == 40
    moved = [Signed((1, i, 0), r.origin, r.signature) for i, r in enumerate(reversed(rows))]
    assert set(taken(moved, mixture, tmp_path)) == set(chosen)
    assert set(taken(rows, mixture, tmp_path, seed=1)) != set(chosen)


def test_a_larger_output_contains_a_smaller_one(tmp_path):
    small = taken(signed(SIZES), Mixture(caps={"math": 30}), tmp_path)
    large = taken(signed(SIZES), Mixture(caps={"math": 60}), tmp_path)
    assert set(small) < set(large)


def test_every_row_is_as_likely(tmp_path):
    rows = signed({("a", "x"): 20})
    counts = Counter(name for seed in range(400) for name in taken(rows, Mixture(rows=5), tmp_path, seed))
    assert len(counts) == 20
    assert max(abs(n - 100) for n in counts.values()) < 45  # 5 standard deviations of a binomial(400, 1/4)


@given(
    st.integers(0, 500),
    st.lists(st.tuples(st.floats(0, 10, allow_subnormal=False), st.integers(0, 100)), min_size=1, max_size=6),
)
def test_water_filling_adds_up_within_the_limits(total, groups):
    weights = {i: w for i, (w, _) in enumerate(groups)}
    limits = {i: n for i, (_, n) in enumerate(groups)}
    given_ = water_fill(total, weights, limits)
    assert all(0 <= given_[i] <= limits[i] for i in weights)
    assert all(given_[i] == 0 for i in weights if weights[i] == 0)
    assert sum(given_.values()) == min(total, sum(limits[i] for i in weights if weights[i] > 0))


def test_water_filling_is_proportional_where_nothing_binds():
    assert water_fill(60, {"a": 1, "b": 2, "c": 3}, dict.fromkeys("abc", 100)) == {"a": 10, "b": 20, "c": 30}
    with pytest.raises(KeyError):
        water_fill(1, {"a": 1.0}, {})

"""Filling micro-batches by lengths alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.packed.filling import fill

GROUPS = st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(1, 25), max_size=6)), max_size=8)


@settings(deadline=None)
@given(GROUPS, st.integers(1, 120))
def test_every_continuation_is_computed_once_behind_its_prefix_within_the_budget(groups, max_tokens):
    batches = fill(groups, max_tokens)
    seen = [(g, i) for batch in batches for g, members in batch for i in members]
    assert sorted(seen) == [(g, i) for g, (_, lengths) in enumerate(groups) for i in range(len(lengths))]
    alone = [g for batch in batches for g, members in batch if not members]
    assert sorted(alone) == [g for g, (_, lengths) in enumerate(groups) if not lengths]
    for batch in batches:
        tokens = sum(groups[g][0] + sum(groups[g][1][i] for i in members) for g, members in batch)
        assert tokens <= max_tokens or (len(batch) == 1 and len(batch[0][1]) <= 1)


def test_the_largest_micro_batch_comes_first():
    assert fill([(5, [3]), (5, [30]), (5, [10]), (2, [])], 20) == [
        [(1, [0])],
        [(2, [0]), (3, [])],
        [(0, [0])],
    ]


def test_a_budget_must_be_positive():
    with pytest.raises(ValueError, match="max_tokens must be positive, got 0"):
        fill([(1, [1])], 0)

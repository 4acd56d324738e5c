"""Disjoint sets with their sharpest rows."""

from __future__ import annotations

from data_recipes.operations.groups import Groups


def test_groups_join_and_know_their_sharpest_row():
    sharpness = {0: 90, 1: 300, 2: 300, 3: 512, 4: 512}
    groups = Groups()
    for first in (0, 1, 2, 3, 3):
        groups.add(first)
    assert [groups.root(no) for no in range(len(groups))] == [0, 1, 2, 3, 3]
    groups.join(0, 2, sharpness.__getitem__)
    assert groups.same(0, 2) and not groups.same(0, 1) and groups.sharpest(0) == 2
    groups.join(2, 1, sharpness.__getitem__)
    assert groups.root(1) == groups.root(2) == 0 and groups.sharpest(2) == 1
    groups.join(4, 1, sharpness.__getitem__)
    assert [groups.root(no) for no in range(5)] == [0] * 5 and groups.sharpest(0) == 3

"""Which rows a step trains on, and who takes them."""

from __future__ import annotations

from itertools import pairwise

import torch

from sft.order import Order, share

KEYS = [None if i % 5 == 0 else i // 7 for i in range(53)]
"""Rows of text, and up to seven rows about each of eight media."""


def test_every_row_comes_once_an_epoch_and_the_last_step_takes_what_is_left():
    order = Order(KEYS, rows_per_step=8, seed=3, together=4)
    assert order.steps_per_epoch == 7
    steps = [order.step(i) for i in range(14)]
    assert [len(step) for step in steps] == [8, 8, 8, 8, 8, 8, 5] * 2
    first, second = ([row for step in steps[i : i + 7] for row in step] for i in (0, 7))
    assert sorted(first) == sorted(second) == list(range(53)) and first != second
    assert order.step(3) == steps[3]  # back from the second epoch


def test_the_order_depends_on_seed_and_epoch_alone():
    first = Order(KEYS, 8, seed=1, together=4).epoch(0)
    torch.manual_seed(99)
    assert first == Order(KEYS, 8, seed=1, together=4).epoch(0) != Order(KEYS, 8, seed=2, together=4).epoch(0)


def test_rows_about_the_same_media_stand_in_runs_of_at_most_so_many():
    order = Order(KEYS, 8, seed=0, together=3).epoch(0)
    for key in set(KEYS) - {None}:
        rows = [i for i, k in enumerate(KEYS) if k == key]
        places = sorted(order.index(row) for row in rows)
        starts = [p for p in places if p - 1 not in places]
        assert len(starts) <= -(-len(rows) // 3)
    alone = Order(KEYS, 8, seed=0, together=1).epoch(0)
    assert sum(KEYS[a] == KEYS[b] for a, b in pairwise(alone)) < 20


def test_processes_share_a_step_so_that_each_row_is_taken_once_and_tokens_are_even():
    lengths = [50 + (37 * i) % 90 for i in range(53)]
    rows = Order(KEYS, 16, seed=0, together=4).step(0)
    for ranks in (1, 2, 3, 4):
        parts = [share(rows, lengths, rank, ranks) for rank in range(ranks)]
        assert [row for part in parts for row in part] == rows
        tokens = [sum(lengths[row] for row in part) for part in parts]
        assert max(tokens) - min(tokens) < 2 * max(lengths)
    few = [share([7], lengths, rank, 4) for rank in range(4)]
    assert sorted(map(len, few)) == [0, 0, 0, 1]
    assert [share([], lengths, rank, 2) for rank in range(2)] == [[], []]

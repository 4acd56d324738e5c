"""Chance that belongs to a row's id."""

from __future__ import annotations

from data_recipes.chance import uniform


def test_numbers_are_uniform_and_differ_between_seeds():
    numbers = [uniform(0, f"row-{i}") for i in range(20_000)]
    assert all(0 <= n < 1 for n in numbers)
    shares = [sum(low <= n < low + 0.1 for n in numbers) / len(numbers) for low in (0, 0.3, 0.9)]
    assert all(abs(share - 0.1) < 0.01 for share in shares)
    others = [uniform(1, f"row-{i}") for i in range(20_000)]
    both_low = sum(a < 0.5 and b < 0.5 for a, b in zip(numbers, others)) / len(numbers)
    assert abs(both_low - 0.25) < 0.015


def test_numbers_are_the_same_on_every_machine():
    assert uniform(7, "charts/12") == uniform(7, "charts/12")
    assert round(uniform(0, "a"), 6) == 0.08534

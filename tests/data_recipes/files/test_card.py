"""Figures of the data card."""

from __future__ import annotations

from collections import Counter

import pytest

from data_recipes.config import Recipe
from data_recipes.files.card import describe, quantiles
from data_recipes.files.output import rounded


@pytest.mark.parametrize(
    ("histogram", "expected"),
    [
        ({}, None),
        ({"7": 3}, {"0%": 7, "10%": 7, "50%": 7, "90%": 7, "100%": 7}),
        ({"1": 1, "2": 8, "90": 1}, {"0%": 1, "10%": 1, "50%": 2, "90%": 2, "100%": 90}),
    ],
)
def test_quantiles_of_a_histogram(histogram, expected):
    assert quantiles(histogram) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (7, 7), (99, 99), (104, 100), (1256, 1300), (98765, 99000)]
)
def test_lengths_are_kept_to_two_digits(value, expected):
    assert rounded(value) == expected


def test_a_teachers_acceptance_rate_stands_beside_its_counts():
    endpoint = {"base_url": "http://localhost:8000/v1", "model": "teacher"}
    recipe = Recipe.model_validate(
        {
            "name": "t",
            "sources": [{"name": "a", "format": "rows", "path": "a.jsonl"}],
            "operations": [{"traces": {"teacher": endpoint}}],
            "output_dir": "out",
        }
    )
    counts = Counter({"traces/asked": 8, "traces/accepted": 6, "traces/teacher/cost": 2, "records/a": 9})
    card = describe(recipe, counts, Counter({"output/a/math": 5, "output/a/choice": 1}))
    assert card["operations"]["traces"] == {
        "asked": 8,
        "accepted": 6,
        "teacher/cost": 2,
        "acceptance_rate": 0.75,
    }
    assert card["rows"] == 6 and card["sources"][0]["records"] == 9

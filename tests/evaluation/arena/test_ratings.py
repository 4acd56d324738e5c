"""Ratings from verdicts: known strengths are found, style is no merit, intervals hold, one-sided results stay finite."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from evaluation.arena.judging import read_verdict
from evaluation.arena.ratings import Verdict, position_bias, ratings, style_of

SHORT, LONG = style_of("yes"), style_of("# Answer\n\n- **yes**, because " + "of this " * 40)


def played(
    strength: dict[str, float], rows: int, style=None, liking: float = 0.0, seed: int = 0
) -> list[Verdict]:
    """Verdicts of a judge that follows the model: strengths, and `liking` for the long style."""
    rng, style = random.Random(seed), style or {}
    verdicts = []
    for row in range(rows):
        for first in strength:
            for second in strength:
                if first == second:
                    continue
                of = {name: style.get(name, lambda: SHORT)() for name in (first, second)}
                logit = strength[first] - strength[second]
                logit += liking * ((of[first] == LONG) - (of[second] == LONG))
                won = float(rng.random() < 1 / (1 + math.exp(-logit)))
                verdicts.append(Verdict(f"r{row}", first, second, won, (of[first], of[second])))
    return verdicts


def test_known_strengths_are_found_within_their_intervals() -> None:
    strength = {"weak": -1.0, "middle": 0.0, "strong": 1.0}
    found = ratings(played(strength, 150), list(strength), resamples=100, seed=0)["plain"]
    for name, theta in strength.items():
        expected = 1000 + 400 / math.log(10) * theta
        low, high = found[name]["ci95"]
        assert low - 25 < expected < high + 25
        assert low <= found[name]["rating"] <= high
    assert np.mean([one["rating"] for one in found.values()]) == pytest.approx(1000)


def test_a_contestant_that_only_writes_longer_gains_nothing_once_style_is_controlled() -> None:
    rng = random.Random(1)
    style = {
        "wordy": lambda: LONG if rng.random() < 0.9 else SHORT,
        "terse": lambda: LONG if rng.random() < 0.1 else SHORT,
    }
    verdicts = played({"wordy": 0.0, "terse": 0.0}, 300, style, liking=1.5)
    found = ratings(verdicts, ["wordy", "terse"], resamples=100, seed=0)

    def gap(kind: str) -> float:
        return found[kind]["wordy"]["rating"] - found[kind]["terse"]["rating"]

    assert gap("plain") > 120
    assert abs(gap("style_controlled")) < 70
    assert sum(one["weight"] for one in found["style"].values()) > 50


def test_a_contestant_that_always_wins_has_a_finite_rating() -> None:
    verdicts = [Verdict(f"r{i}", "a", "b", 1.0, (SHORT, SHORT)) for i in range(20)]
    found = ratings(verdicts, ["a", "b"], resamples=100, seed=0)["plain"]
    assert math.isfinite(found["a"]["rating"]) and found["a"]["rating"] > 1300


def test_both_orders_cancel_a_judge_that_prefers_the_first() -> None:
    verdicts = [
        Verdict(f"r{i}", *pair, 1.0, (SHORT, SHORT)) for i in range(20) for pair in (("a", "b"), ("b", "a"))
    ]
    found = ratings(verdicts, ["a", "b"], resamples=100, seed=0)["plain"]
    assert found["a"]["rating"] == pytest.approx(found["b"]["rating"])
    assert position_bias(verdicts) == 1.0


def test_the_same_seed_gives_the_same_intervals() -> None:
    verdicts = played({"a": 0.0, "b": 0.5}, 20)
    first, second = (ratings(verdicts, ["a", "b"], resamples=100, seed=3) for _ in range(2))
    assert first == second


def test_style_counts() -> None:
    assert style_of("# A\n\n- one\n2. two\n**bold** and __bold__") == (39.0, 1.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("text", "won"),
    [
        ("Because … [[A>>B]]", 1.0),
        ("[[B>A]]", 0.0),
        ("My verdict is [[A=B]]", 0.5),
        ("[[A>B]] or rather [[B>A]]", None),
        ("A is better", None),
        ("", None),
    ],
)
def test_verdicts_are_read_strictly(text: str, won: float | None) -> None:
    assert read_verdict(text) == won

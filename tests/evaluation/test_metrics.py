"""Summaries by task, and differences between checkpoints."""

from __future__ import annotations

import pytest

from evaluation.metrics import ScoredAnswer, by_task, differences, summarise


def scored(
    row: str, reward: float | None, task: str = "math", in_grammar: bool = True, tokens: int = 10
) -> ScoredAnswer:
    return ScoredAnswer(row, task, reward, in_grammar, tokens)


def test_summary_counts_failures_and_averages_samples_of_a_row_first():
    answers = [
        scored("a", 1.0), scored("a", 0.0), scored("b", 1.0, tokens=30),
        scored("c", None, in_grammar=False),
    ]  # fmt: skip
    got = summarise(answers)
    assert (got["mean"], got["n"], got["unscored"]) == (0.75, 2, 1)
    assert got["in_grammar"] == pytest.approx(2 / 3)
    assert got["tokens"] == 15.0


def test_differences_of_all_pairs_by_task():
    sides = {
        name: [scored("a", low), scored("b", high, task="grounding")]
        for name, low, high in (("untrained", 0.0, 0.1), ("sft", 0.0, 0.6), ("rl", 1.0, 0.7))
    }
    got = {(one["before"], one["after"]): one for one in differences(sides)}
    assert set(got) == {("untrained", "sft"), ("untrained", "rl"), ("sft", "rl")}
    assert got["sft", "rl"]["tasks"]["math"]["mean"] == 1.0
    assert got["sft", "rl"]["tasks"]["grounding"]["mean"] == pytest.approx(0.1)
    assert got["sft", "rl"]["overall"]["mean"] == pytest.approx(0.55)


def test_tasks_are_in_alphabetical_order():
    assert list(by_task([scored("1", 0.0, "temporal"), scored("2", 0.0, "grounding")])) == [
        "grounding",
        "temporal",
    ]

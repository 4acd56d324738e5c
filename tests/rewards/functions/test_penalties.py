"""Repetition is seen with and without spaces, on text and on sampled tokens."""

from __future__ import annotations

import pytest

from rewards.functions.penalties import repetition_reward


@pytest.mark.parametrize(
    "text",
    ["ab" * 200, "哈" * 100, "所以答案是三，" * 20, "=" * 60, "abcdefghijk" * 100, r"\frac{1}{2}" * 40, "0" * 80, "\u200b" * 60],
)  # fmt: skip
def test_a_loop_without_spaces_is_a_loop(text: str) -> None:
    assert repetition_reward(text) < 0.1


@pytest.mark.parametrize(
    "text",
    ["The quick brown fox jumps over the lazy dog and runs away.", "图中有三只猫，所以答案是三。", r"x = \frac{3}{4} + 2y"],
)  # fmt: skip
def test_ordinary_text_repeats_nothing(text: str) -> None:
    assert repetition_reward(text) == 1.0


def test_sampled_tokens_are_counted_where_they_are_known() -> None:
    text = "one two three four five six seven"
    assert repetition_reward(text, completion_ids=[7, 8] * 20) == pytest.approx(2 / 37)
    assert repetition_reward(text, completion_ids=list(range(40))) == 1.0
    assert repetition_reward("aaaa", completion_ids=[5] * 13) == pytest.approx(1 / 10)
    assert repetition_reward("", completion_ids=[1, 2, 3]) == 0.0

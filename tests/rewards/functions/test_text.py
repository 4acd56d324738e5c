"""Texts read from images: found as other answers are, and a denial of the truth earns nothing."""

from __future__ import annotations

import pytest

from rewards.functions.text import anls_reward, exact_text_reward

SIGN = {"values": ["Harbour Lane", "Harbour Ln."]}


@pytest.mark.parametrize(
    "text",
    ["Harbour Lane", "The answer is Harbour Lane.", "**Harbour Lane**", "Answer: Harbour Lane", "<answer>Harbour Lane</answer>", "答案：Harbour Lane", "Harbour Ln."]
    + [r"\boxed{\text{Harbour Lane}}", 'The answer is "Harbour Lane".', "Ｈarbour Lane", "The sign is blue, so the answer is Harbour Lane"],
)  # fmt: skip
def test_a_text_is_found_in_the_forms_that_models_write(text: str) -> None:
    assert exact_text_reward(text, SIGN) == anls_reward(text, SIGN) == 1.0


@pytest.mark.parametrize("text", ["not Harbour Lane", "The answer is not Harbour Lane", "It isn't Harbour Lane", "不是Harbour Lane"])  # fmt: skip
def test_a_denial_earns_nothing(text: str) -> None:
    assert exact_text_reward(text, SIGN) == anls_reward(text, SIGN) == 0.0


def test_a_truth_may_begin_with_a_denial() -> None:
    assert exact_text_reward("Not in service", {"value": "Not in service"}) == 1.0
    assert anls_reward("not in service", {"value": "Not in service"}) == 1.0
    assert exact_text_reward("No parking", {"value": "No parking"}) == 1.0


def test_markup_that_belongs_to_the_text_is_kept() -> None:
    assert exact_text_reward("**/*.py", {"value": "**/*.py"}) == 1.0
    assert exact_text_reward("$5 or $6?", {"value": "$5 or $6?"}) == 1.0
    assert exact_text_reward("营业时间：９点", {"value": "营业时间：9点"}) == 1.0

"""What an environment says of an episode is compared with what was asked for, whatever was written."""

from __future__ import annotations

import pytest

from rewards.functions.outcome import _check, outcome_reward

ANSWER = {"outcome": {"state": {"City": "Riga", "sent": ["Save"]}}}


@pytest.mark.parametrize(
    ("outcome", "reward"),
    [
        ({"state": {"City": "Riga", "sent": ["Save"]}, "steps": 3}, 1.0),
        ({"state": {"City": "Riga", "sent": []}}, 0.0),
        ({"steps": 3}, 0.0),
        (None, 0.0),
        ("Riga", 0.0),
    ],
)
def test_the_outcome_decides(outcome, reward):
    assert outcome_reward('{"state": {"City": "Riga"}}', ANSWER, outcome=outcome, id="r") == reward


@pytest.mark.parametrize("answer", [{}, {"outcome": None}, {"outcome": {}}, {"outcome": "Riga"}])
def test_a_truth_without_an_outcome_is_a_data_error(answer):
    with pytest.raises(ValueError, match="outcome"):
        _check(answer, {})

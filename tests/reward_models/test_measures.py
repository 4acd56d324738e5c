"""Accuracy, calibration and length bias of scored pairs, and the map from scores to rewards."""

from __future__ import annotations

import json
import math

import pytest

from reward_models.card import Card, read_card, with_statistics
from reward_models.measures import ScoredPair, calibration, groups_of, measures
from vlm.checkpoint import CheckpointError


def scored(chosen, rejected, tokens=(5, 5), source="a"):
    return ScoredPair("p", chosen, rejected, *tokens, groups=(source, "chat", ""))


def test_accuracy_is_told_apart_by_source_and_ties_count_half():
    found = measures([scored(1, 0), scored(0, 1, source="b"), scored(2, 2, source="b")])
    assert found["accuracy"] == 0.5 and found["pairs"] == 3 and found["low"] < 0.5 < found["high"]
    assert {name: one["accuracy"] for name, one in found["by_source"].items()} == {"a": 1.0, "b": 0.25}
    assert found["by_kind"] == {}


def test_a_model_that_counts_tokens_is_found_out():
    pairs = [scored(t1 / 10, t2 / 10, (t1, t2)) for t1, t2 in ((9, 3), (8, 2), (2, 8), (4, 9))]
    length = measures(pairs)["length"]
    assert length["longer_wins"]["accuracy"] == 1.0 and length["longer_loses"]["accuracy"] == 0.0
    assert length["score_correlation"] == pytest.approx(1.0)


def test_the_calibration_curve_compares_confidence_and_accuracy():
    """Of ten pairs with a confidence of 0.9 nine are right: no error; of ten that are all wrong: 0.9."""
    gap = math.log(9)
    good = [scored(gap, 0.0)] * 9 + [scored(0.0, gap)]
    (point,) = calibration(good)
    assert point["confidence"] == pytest.approx(0.9) and point["accuracy"] == 0.9 and point["pairs"] == 10
    assert measures(good)["calibration_error"] == pytest.approx(0.0, abs=1e-9)
    assert measures([scored(0.0, gap)] * 10)["calibration_error"] == pytest.approx(0.9)
    assert [p["from"] for p in calibration([scored(100, 0), scored(0.0, 0.0)])] == [0.5, 0.95]


def test_measures_of_nothing_are_none():
    found = measures([])
    assert found["accuracy"] is None and found["calibration_error"] is None and found["calibration"] == []
    assert json.dumps(found)


def test_a_source_is_the_name_of_its_data_set():
    assert groups_of({"source": {"dataset": "d", "licence": "l"}, "task": "chat"}) == ("d", "chat", "")
    assert groups_of({"source": None, "task": "chat", "kind": "x"}) == ("unknown", "chat", "x")


def test_rewards_are_a_sigmoid_of_standardised_scores():
    card = with_statistics(Card("text"), [1.0, 3.0])
    assert (card.mean, card.std, card.scores) == (2.0, 1.0, 2)
    assert card.reward(2.0) == 0.5 and card.reward(3.0) == pytest.approx(1 / (1 + math.exp(-1)))
    assert card.reward(1e6) == 1.0 and card.reward(-1e6) == 0.0  # no overflow
    assert with_statistics(Card("text"), [4.0, 4.0]).reward(4.0) == 0.5


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"kind": "text", "std": 0}', '{"kind": "x"}', '{"kind": "text", "more": 1}']
)
def test_a_card_that_cannot_be_read_is_an_error(tmp_path, text):
    assert read_card(tmp_path) is None
    (tmp_path / "reward_model.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"reward_model.json: expected"):
        read_card(tmp_path)

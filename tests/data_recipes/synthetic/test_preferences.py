"""Preference pairs of captions: the chosen one is right, the rejected one is wrong or rambles, and only the image tells."""

from __future__ import annotations

import random

from core.pairs import check_pair
from core.rows import read_rows
from data_recipes.synthetic.hold_out import is_held_out
from data_recipes.synthetic.shapes.preferences import RAMBLINGS, candidates, write_preferences


def test_pairs_of_captions(tmp_path):
    write_preferences(tmp_path, train=60, test=20, seed=3)
    for split, scenes in (("train", 60), ("test", 20)):
        rows = read_rows(tmp_path / f"{split}.jsonl", check=check_pair)
        assert len(rows) == 3 * scenes
        for wrong, rambling, short in zip(rows[0::3], rows[1::3], rows[2::3], strict=True):
            right = wrong["chosen"]
            assert wrong["images"] == rambling["images"] == short["images"]
            words, others = right.split(), wrong["rejected"].split()
            assert len(words) == len(others) and sum(a != b for a, b in zip(words, others, strict=True)) == 1
            assert rambling["chosen"] == right and right in rambling["rejected"] and right in short["chosen"]
            assert short["rejected"] == wrong["rejected"]
            assert all(is_held_out(text) == (split == "test") for text in (right, wrong["rejected"]))


def test_the_wrong_word_is_not_told_by_which_words_are_frequent(tmp_path):
    """Right and wrong captions have the same names about equally often."""
    write_preferences(tmp_path, train=400, test=1, seed=0)
    rows = read_rows(tmp_path / "train.jsonl")[0::3]
    for colour in ("red", "green", "blue", "yellow"):
        right, wrong = (sum(row[field].count(colour) for row in rows) for field in ("chosen", "rejected"))
        assert abs(right - wrong) < 0.15 * right


def test_candidates_are_worth_what_they_say():
    right = "blue-triangle a1 - b1 red-circle c1 - a2 blue-square b2 - c2"
    found = candidates(right, 400, random.Random(0))
    for text, worth in found:
        concise = not any(text.startswith(start.split("{}")[0]) for start in RAMBLINGS)
        assert worth == ((1.0 if concise else 0.5) if right in text else 0.0)
    shares = [sum(worth == w for _, worth in found) / 400 for w in (1.0, 0.5)]
    assert all(0.08 < share < 0.18 for share in shares)
    assert len({text for text, worth in found if not worth}) > 100

"""The demo's verifier finds the habits of the careless teachers, and passes the careful ones' traces."""

from __future__ import annotations

import pytest

from launch.demo_verifier import consistent
from rewards.config import RewardsConfig
from rewards.router import Router

CAPTION = "- a1 green-square b1 red-circle c1 red-square a2 - b2 - c2"


def text(reasoning: str, caption: str = CAPTION) -> str:
    return f"<SUMMARY>s</SUMMARY><CAPTION>{caption}</CAPTION><REASONING>{reasoning}</REASONING>"


@pytest.mark.parametrize(
    ("question", "reasoning", "score"),
    [
        ("How many red shapes are there?", "red-circle c1, red-square a2: 2.", 1),
        ("How many red shapes are there?", "red-circle c1, red-square a2: 3.", 0),
        ("How many red shapes are there?", "green-square b1, red-circle c1, red-square a2: 3.", 0),
        ("How many red shapes are there?", "red-triangle c1: 1.", 0),
        ("How many squares are there?", "green-square b1, red-square a2: 2.", 1),
        ("How many blue shapes are there?", "none: 0.", 1),
        ("How many squares are there, times 3?", "green-square b1, red-square a2: 2. 2 * 3 = 6.", 1),
        ("How many squares are there, times 3?", "green-square b1, red-square a2: 2.", 0),
        ("What is 12 + 4 * 4?", "4 * 4 = 16. 12 + 16 = 28.", 1),
        ("What is 12 + 4 * 4?", "12 + 4 = 16. 16 * 4 = 64.", 0),
        ("Where is the red-square? b1 A, a2 B, c2 C.", "red-square a2 B.", 1),
        ("Where is the red-square? b1 A, a2 B, c2 C.", "the first, b1 A.", 0),
        ("Give the box of the red-circle.", "red-circle c1, in pixels.", 1),
        ("Give the box of the red-circle.", "red-circle c1, of 1000.", 0),
        ("Point at the red-circle.", "red-circle c1, y first.", 0),
        ("When is the red-circle seen?", "it is seen in seconds 2 3, in frames.", 0),
        ("When is the red-circle seen?", "it is seen in seconds 2 3.", 1),
    ],
)
def test_a_reasoning_is_checked_against_question_and_caption(question, reasoning, score):
    for content in (question, [{"type": "image"}, {"type": "text", "text": question, "image": None}]):
        assert consistent(text(reasoning), [{"role": "user", "content": content}]) == score


def test_it_has_no_opinion_before_the_reasoning_and_none_of_the_truth():
    """Through the router, on an answer that is not finished."""
    functions = {"function": "launch/demo_verifier.py:consistent", "isolate": False}
    row = {
        "id": "r",
        "task": "counting",
        "prompt": [{"role": "user", "content": "How many squares are there?"}],
    }
    texts = ["<SUMMARY>s</SUMMARY>", text("green-square b1, red-square a2: 2."), text("none: 0.", "")]
    with Router(
        RewardsConfig.model_validate({"grammar": "none", "tasks": {"counting": functions}})
    ) as router:
        scores = [router.score([{**row, "answer": {"value": 9}}], [one])[0].reward for one in texts]
    assert scores == [None, 1.0, 1.0]

"""Problems that ask for a proof."""

from __future__ import annotations

import pytest

from data_recipes.operations import OPERATIONS
from data_recipes.operations.proofs import DropProofs, proof_pattern
from data_recipes.records import Context, Removed
from tests.data_recipes.endpoints import scripted_teacher, text_of

PROOFS = [
    "Prove that the triangles are congruent.",
    "In the figure, AB = CD. Prove: AD = BC.",
    "Let n be odd. Show that n^2 - 1 is divisible by 8.",
    "Find x, and prove that it is the only solution.",
    "(a) Compute BC. (b) Prove the two triangles are similar.",
    "Prove or disprove: every square is a rhombus.",
    "Write a two-column proof for the statement below.",
    "Please verify that both sides are equal.",
    "如图，AB∥CD，求证：∠1=∠2。",
    "证明：三角形ABC是等腰三角形。",
    "（1）求AB的长；（2）请证明AD=BC。",
    "判断四边形的形状，并说明理由。",
]

NO_PROOFS = [
    "What is the length of AB?",
    "The survey results show that 40 % of students walk. How many of 200 students is that?",
    "It has been proven that the angles are equal. What is angle B?",
    "How many people's approval does Tom need?",
    "The proof copy of a book has 120 pages. How many sheets of paper is that?",
    "Which step of the proof uses SAS?",
    "The police asked him to improve the sign. What is its area?",
    "Show the answer as a fraction.",
    "身份证明的有效期是几年？",
    "已证明∠A=∠B，求∠C的度数。",
    "如图，求AB的长。",
    "",
]


def row(question: str, number: int = 0, **more) -> dict:
    content = [{"type": "text", "text": question}]
    return {"id": f"r{number}", "task": "math", "prompt": [{"role": "user", "content": content}]} | more


@pytest.mark.parametrize("question", PROOFS)
def test_orders_to_prove_are_found(question):
    assert proof_pattern(question) is not None


@pytest.mark.parametrize("question", NO_PROOFS)
def test_mere_mentions_are_not(question):
    assert proof_pattern(question) is None


def test_proof_problems_leave(tmp_path):
    rows = [row(question, i) for i, question in enumerate([*PROOFS, *NO_PROOFS])]
    out = list(OPERATIONS["drop_proofs"].apply(iter(rows), DropProofs(), Context(tmp_path)))
    assert [isinstance(r, Removed) for r in out] == [True] * len(PROOFS) + [False] * len(NO_PROOFS)
    assert out[0].rule == "proof" and out[len(PROOFS)] == rows[len(PROOFS)]
    only = list(OPERATIONS["drop_proofs"].apply(iter(rows), DropProofs(tasks=["chat"]), Context(tmp_path)))
    assert only == rows


def judged(tmp_path, said: str | None, ask: str):
    """Verdicts on one problem that the patterns find and one that they do not, when the judge says this."""
    with scripted_teacher(lambda body, number: said) as teacher:
        options = DropProofs(judge={"base_url": teacher.url, "model": "judge"}, ask=ask)
        rows = [row(PROOFS[0], 0), row(NO_PROOFS[0], 1)]
        context = Context(tmp_path / f"{said}{ask}")
        out = list(OPERATIONS["drop_proofs"].apply(iter(rows), options, context))
        asked = [text_of(body["messages"][0]["content"]) for body in teacher.requests]
    return [isinstance(r, Removed) for r in out], asked, context.counts


@pytest.mark.parametrize(
    ("said", "ask", "leave"),
    [
        ("yes", "found", [True, False]),
        ("No", "found", [False, False]),
        ("yes", "all", [True, True]),
        ("no", "all", [False, False]),
        ("Yes, it does.", "all", [True, False]),  # unclear: the patterns decide
        (None, "all", [True, False]),
    ],
)
def test_a_judge_is_asked_about_some_or_all(tmp_path, said, ask, leave):
    verdicts, asked, counts = judged(tmp_path, said, ask)
    assert verdicts == leave
    assert len(asked) == (2 if ask == "all" else 1) and any(PROOFS[0] in text for text in asked)
    assert counts["unclear"] == (2 if said not in ("yes", "No", "no") else 0)

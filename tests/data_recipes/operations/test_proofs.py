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
    "Let n be odd. Prove n + 2 is odd.",
    "Prove the AM-GM inequality.",
    "Show by induction that 6 divides the product of three consecutive integers.",
    "Use the mean value theorem to show that f is constant.",
    "Your task is to prove that no such map exists.",
    "Verify the identity $(a+b)^2 - (a-b)^2 = 4ab$.",
    "Explain why every bounded sequence has a convergent subsequence.",
    "Show AB ∥ EF.",
    "(1) Prove that BE = CF. (2) Which of the two angles is larger?",
    "Let $m$ be the step after which three marbles are left. Show that $m$ is finite, and find it.",
    "要求证明这个数列收敛。",
    "证明过点A的直线平分这个圆。",
    "证明下列等式成立：a+b=b+a。",
    "如图，试说明∠1=∠2。",
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
    "Which statement is enough to prove that the two triangles are similar?",
    "What information is needed to prove ABCD a rectangle?",
    "To prove the lines parallel, Ann needs one more fact. Which statement should she add?",
    "Given: AE = EB. Prove: AD = BC. Which reason justifies step 4?",
    "Which equation can be used to show that x = 3?",
    "Which statement best explains why the figure is no square?",
    "A tenant has 30 days to prove that he paid. He took 12. How many are left?",
    "The pump is meant to verify that the pressure is 4 bar. What is the error at 4.2 bar?",
    "Find the inverse. If it does not exist, explain why.",
    "Does it follow that B = C? Explain why or why not.",
    "Show the total as a decimal and state your unit.",
    "Find the least such n or show that there is none.",
    "要证明四边形是菱形，需要添加的条件是（ ）",
    "下列条件中，不能证明两个三角形全等的是（ ）",
    "哪个定理可以用来证明这个结论？",
    "这段证明过程用了几次全等？",
]


def row(question: str, number: int = 0, **more) -> dict:
    content = [{"type": "text", "text": question}]
    return {"id": f"r{number}", "task": "math", "prompt": [{"role": "user", "content": content}]} | more


def test_multiple_choice_about_a_proof_stays(tmp_path):
    choice = row(
        "Prove: AD = BC. What is the reason for step 2?", answer={"letter": "B", "options": ["SAS", "SSS"]}
    )
    assert list(OPERATIONS["drop_proofs"].apply(iter([choice]), DropProofs(), Context(tmp_path))) == [choice]


@pytest.mark.parametrize(
    "text", ["prove ", "and ", "show a ", "，证明", "write a ", "which step ", "use it to ", "=", " "]
)
def test_long_texts_come_to_an_end(text):
    proof_pattern(text * (100_000 // len(text)))


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

"""What counts as the same mathematical answer."""

from __future__ import annotations

import pytest

from rewards.functions.math_answer import math_reward
from rewards.mathematics import pool as pool_module
from rewards.mathematics.pool import MathPool

SAME = [
    ("4,656", ["4656", "$4,656.00", r"\boxed{4{,}656}", "**4,656**", "4656.", "The answer is 4,656.", "4.656e3", r"4.656 \times 10^3", "4656 dollars"]),
    ("-7", ["-7", "−7", r"\boxed{-7}", "x = -7", "$-7$", r"\(-7\)"]),
    ("1/3", [r"\frac{1}{3}", r"\boxed{\dfrac13}", "0.333333", "1/3", "2/6"]),
    (r"28\%", ["28%", "28 percent", "28", "0.28", r"\boxed{28\%}"]),
    ("12", ["twelve", "12 apples", "12 cm", r"\boxed{12\text{ cm}}", "12m2", "#### 12", "12.0", "= 12", "£12", "12€"]),
    ("1000.99", ["1,000.99", "1000,99", "1000.99"]),
    ("1e-9", ["0.000000001", r"10^{-9}"]),
    ("B", ["B", "(B)", r"\boxed{B}", "The answer is B.", r"\boxed{\text{B}}", "so $B$"]),
    ("Wednesday", ["wednesday", r"\boxed{\text{Wednesday}}", "The answer is Wednesday.", r"so $\text{Wednesday}$"]),
    (r"\text{4:30 p.m.}", ["4:30 p.m.", r"\boxed{4:30 \text{ p.m.}}"]),
    ("x^2+1", ["1+x^2", "$x^2 + 1$", r"\boxed{x^2+1}"]),
    (r"\frac{\sqrt{2}}{2}", [r"\frac{1}{\sqrt2}", r"\boxed{\sqrt{\frac12}}"]),
    ("(1,2)", [r"\boxed{(1, 2)}", "(1,2)"]),
    ("[0,1)", [r"\boxed{[0,1)}"]),
    (r"\{1,2\}", [r"\boxed{\{2,1\}}", r"\boxed{2} \text{ and } \boxed{1}", r"\boxed{1}, \boxed{2}"]),
    ("x=3", ["3", r"\boxed{x=3}"]),
    (r"90^\circ", ["90", r"\boxed{90^\circ}"]),
]  # fmt: skip
DIFFERENT = [
    ("4656", ["4657", "x+4656", "4656x", "3:4656", "46", "4656/2", "4,65,6", ""]),
    ("12", ["x + 12", "3:12", "12x", "1e12", "12%3", "thirteen", "twelve or so", r"\boxed{12}, \boxed{13}", r"\boxed{13} or \boxed{14}", "12/0", r"\boxed{}"]),
    ("1", ["1e999", "1e-999", "True", "١", "Ⅰ", r"\infty", "nan"]),
    ("0", ["1e-9", r"10^{-12}", "-1e-7", "null", "false"]),
    ("1e-9", ["2e-9", "0", r"2 \cdot 10^{-9}"]),
    ("1000000", ["1000001", "1000000.5"]),
    ("0.5", ["0.5%", "0.51", "50"]),
    ("B", ["C", "A or B", "AB", "", "b or c"]),
    ("Wednesday", ["Thursday", "Wednesday or Thursday", "We"]),
    ("x^2+1", ["x^2", "x^2+1+y", "2"]),
    ("(1,2)", ["(2,1)", "(1,2,3)"]),
    ("2x + z = 1", ["1"]),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "predicted"), [(gold, text) for gold, texts in SAME for text in texts])
def test_the_same_answer_scores_one(gold: str, predicted: str) -> None:
    assert math_reward(predicted, {"value": gold}) == 1.0


@pytest.mark.parametrize(("gold", "predicted"), [(gold, text) for gold, texts in DIFFERENT for text in texts])
def test_another_answer_scores_zero(gold: str, predicted: str) -> None:
    assert math_reward(predicted, {"value": gold}) == 0.0


def test_of_several_boxed_answers_the_last_one_counts() -> None:
    for text, expected in [
        (r"First \boxed{5}, but in fact \boxed{7}.", 1.0),
        (r"\boxed{7} \boxed{5}", 0.0),
        (r"\boxed{5}\boxed{7}", 0.0),  # side by side: one answer of two parts
        (r"\boxed{5}, wait: \boxed{7}", 1.0),
        (r"\boxed{7} and then an unfinished \boxed{5", 1.0),
        (r"\boxed{\boxed{7}}", 1.0),
    ]:
        assert math_reward(text, {"value": "7"}) == expected, text


def test_options_make_it_a_choice_by_letter_or_text() -> None:
    row = {"choices": ["90 g", "16 m"]}
    for gold in ("B", "16 m"):
        assert [
            math_reward(text, {"value": gold}, **row)
            for text in ("B", r"\boxed{16 m}", "(B) 16 m", "A", "16", "(A) 16 m")
        ] == [1, 1, 1, 0, 0, 0]


def test_numbers_of_json_are_truths_too() -> None:
    assert (
        math_reward("12", {"value": 12})
        == math_reward("0.5", {"value": 0.5})
        == math_reward("1e20", {"value": 1e20})
        == 1.0
    )


def test_a_batch_scores_as_its_samples_do_and_asks_each_question_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [r"\boxed{\frac12}", "0.5", r"\boxed{\frac12}", r"\boxed{\frac13}", "no", r"\boxed{x}"]
    with MathPool(workers=1, seconds=60.0) as pool:
        asked: list[tuple[str, str]] = []
        monkeypatch.setattr(pool_module, "_pool", pool)
        compare_many = pool.compare_many
        monkeypatch.setattr(pool, "compare_many", lambda pairs: asked.extend(pairs) or compare_many(pairs))
        answers = [{"value": r"\frac{2}{4}"}] * len(texts)
        assert math_reward.many(texts, answers, [{}] * len(texts)) == [1, 1, 1, 0, 0, 0]  # type: ignore[attr-defined]
        assert len(asked) == len(set(asked)) < len(texts)
        assert [math_reward(text, answers[0]) for text in texts] == [1, 1, 1, 0, 0, 0]

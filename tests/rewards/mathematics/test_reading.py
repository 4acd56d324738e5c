r"""Texts as typed values, whole or not at all; hostile text ends at once."""

from __future__ import annotations

import time

import pytest
from hypothesis import given

from rewards.functions.math_answer import math_reward
from rewards.mathematics.answers import read
from rewards.mathematics.finding import answer_readings, truth_readings
from rewards.mathematics.values import Chain, Clock, Day, Quantity, Ratio, Region, Sequence, Words
from tests.rewards.strategies import fuzz, hostile_text


@pytest.mark.parametrize(
    ("text", "kind"),
    [("5", Quantity), ("12 cm²", Quantity), ("x+1", Quantity), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", Quantity), ("(1,2)", Sequence), (r"\{1,2\}", Sequence), ("[0,1)", Sequence), ("1 or 2", Sequence), (r"\pm 3", Sequence)]
    + [("x<3", Region), (r"x \in [0,1]", Region), (r"x<1 \text{ or } x>3", Region), (r"\mathbb{R} \setminus \{2\}", Region), ("x=3", Chain), ("f(1) < f(2) < f(3)", Chain), ("4:30", Clock), ("4 pm", Clock), ("2:3", Ratio), ("May 5, 2020", Day)]
    + [("no solution", Words), ("Route 66", Words), (r"\text{even}", Words)],
)  # fmt: skip
def test_types(text: str, kind: type) -> None:
    assert isinstance(read(text)[0].value, kind)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "???",
        "5?",
        "5 +",
        r"\frac{5}{}",
        "((5)",
        r"\lnot 5",
        "4 5",
        "5++",
        r"\boxed{",
        "5)",
        r"4 \to 5",
        "=",
        "5 x^",
    ],
)
def test_what_cannot_be_read_whole_is_not_read(text: str) -> None:
    assert read(text) == ()


@pytest.mark.parametrize(
    ("text", "same"),
    [(r"\dfrac{3}{4}", "3/4"), (r"\frac34", "3/4"), (r"\left( 1 , 2 \right)", "(1,2)"), (r"\mathbf{5}", "5"), (r"\(5\)", "5"), ("$$5$$", "5"), (r"1{,}234", "1234"), (r"\color{red}{5}", "5"), (r"\displaystyle 5", "5"), (r"\\frac{1}{2}", "1/2"), ("2**3", "2^3")]
    + [("x ≤ 3", r"x \le 3"), ("2√3", r"2\sqrt{3}"), ("10⁻⁹", "10^{-9}"), ("3 x 10^8", r"3 \times 10^8"), ("2 sqrt(3)", r"2\sqrt{3}"), (r"{3 \over 4}", "3/4"), ("twenty-three", "23"), ("three quarters", "0 3/4")],
)  # fmt: skip
def test_markup_that_says_the_same_reads_the_same(text: str, same: str) -> None:
    assert read(text)[0].value == read(same)[0].value


def test_of_a_whole_solution_the_answer_is_the_truth() -> None:
    solution = r"We have $a = 3$ and $b = 4$. The final answer is $12$. I hope it is correct."
    assert truth_readings(solution)[0].value == read("12")[0].value
    assert truth_readings(r"\boxed{1} papers and \boxed{2} bins")[0].value == read("1, 2")[0].value


def test_the_last_sentence_with_a_value_states_the_answer_unless_it_is_taken_back() -> None:
    assert answer_readings("He had 3. Now he has 5 apples.")[-1].value == read("5 apples")[0].value
    values = [reading.value for reading in answer_readings("It is 5. No, that is wrong.")]
    assert read("5")[0].value not in values


@given(text=hostile_text)
@fuzz
def test_hostile_text_is_read_or_not_and_raises_nothing(text: str) -> None:
    for form in (text, f"\\boxed{{{text}}}", f"The answer is ${text}$."):
        assert isinstance(answer_readings(form), tuple)


@pytest.mark.parametrize(
    "text",
    ["-" * 900, "2^" * 400 + "2", r"\frac" * 200, "(" * 400 + "1" + ")" * 400, r"\sqrt" * 190 + "2", "1," * 499 + "1", "|" * 900, "x_" * 400, r"\text{" * 150 + "}" * 150, "9^{9^{9^{9^{9}}}}", "9" * 900, "1e" * 400, "a(" * 300, "!" * 900, "x<" * 400 + "x", r"\{" * 400, "5 km " * 180, "and " * 240, r"\pm 1 " * 150],
)  # fmt: skip
def test_deep_and_long_answers_end_at_once(text: str) -> None:
    start = time.process_time()
    assert math_reward(f"\\boxed{{{text}}}", {"value": "5"}) == 0.0
    assert time.process_time() - start < 5.0

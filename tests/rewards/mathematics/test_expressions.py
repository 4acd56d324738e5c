"""Expressions: exact values, LaTeX, and what counts as worked out."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rewards.mathematics.answers import read
from rewards.mathematics.expressions import Expr, approximate, exact, latex, names_of, worked_out
from rewards.mathematics.values import Quantity


def expr(text: str) -> Expr:
    (value,) = (reading.value for reading in read(text)[:1])
    assert isinstance(value, Quantity)
    return value.expr


@pytest.mark.parametrize(
    ("text", "value"),
    [("3/4", "3/4"), (r"2\frac{1}{2}", "5/2"), (r"\sqrt{\frac{9}{4}}", "3/2"), (r"\sqrt[3]{-8}", "-2"), ("4^{1/2}", "2"), ("-2^2", "-4"), ("(-2)^2", "4"), ("5!", "120"), ("|-3|", "3"), ("1.5e-3", "3/2000")]
    + [(r"0.1\overline{6}", "1/6"), ("2^{-3}", "1/8"), ("2 + 3*4", "14"), (r"6 \div 4", "3/2"), ("8/4/2", "1")],
)  # fmt: skip
def test_rational_numbers_have_their_exact_value(text: str, value: str) -> None:
    assert exact(expr(text)) == Fraction(value)


@pytest.mark.parametrize(
    "text", [r"\sqrt{2}", r"\pi", "x", "1/0", "0^0", "9^{9^{9}}", r"\sin 1", "(-4)^{1/2}"]
)
def test_what_is_not_rational_or_too_large_has_none(text: str) -> None:
    assert exact(expr(text)) is None


@pytest.mark.parametrize(
    "text", ["9^{9^{9^{9}}}", "400!", r"\ln 0", r"\tan(1/0)", r"\binom{-1}{5}", r"\infty", r"\int_0^1 x dx"]
)
def test_what_has_no_finite_value_is_none_and_raises_nothing(text: str) -> None:
    assert approximate(expr(text)) is None


def test_variables_are_renamed_so_that_none_is_a_unit_or_a_constant() -> None:
    pair = expr("12m + E"), expr("12M")
    names = names_of(*pair)
    assert len(names) == 3 and set(names.values()) == {"x_{1}", "x_{2}", "x_{3}"}
    assert latex(pair[0], names) != latex(pair[1], names).replace("M", "m")
    assert (
        latex(expr(r"-\frac{a+b}{2}c^{2}"), {"a": "x_{1}", "b": "x_{2}", "c": "x_{3}"})
        == r"-\left(\frac{x_{1}+x_{2}}{2} \cdot x_{3}^{2}\right)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "21",
        "-21",
        "42/2",
        r"\frac{42}{2}",
        r"\sqrt{441}",
        "2.1e1",
        r"2.1 \times 10^1",
        r"2^{10}",
        "20 1/2",
        "x - x",
    ],
)
def test_values_are_worked_out(text: str) -> None:
    assert worked_out(expr(text), rational=True)


@pytest.mark.parametrize(
    "text", ["18 + 3", "7 * 3", "7 3/4 * 2", "18 + 1 * 3", "21 + 0", "(21)(1)", "x - x + 21", r"\frac{40+2}{2}", "4!", r"\binom{7}{2}", r"\sin 90^\circ", r"\sqrt{4}+\sqrt{9}", "42/2/1"]
)  # fmt: skip
def test_arithmetic_is_not(text: str) -> None:
    assert not worked_out(expr(text), rational=True)


def test_an_irrational_number_keeps_its_sums_but_not_arithmetic() -> None:
    assert all(
        worked_out(expr(text), rational=False)
        for text in (r"1+\sqrt{2}", r"\frac{1}{2}+\frac{\sqrt{5}}{2}", r"12\pi", r"\ln 2")
    )
    assert not any(
        worked_out(expr(text), rational=False) for text in (r"2 \cdot 3\sqrt{2}", r"\sqrt{8+4}", r"1+1+\pi")
    )

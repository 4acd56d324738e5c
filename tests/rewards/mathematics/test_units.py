"""Units behind a number: what they are and how large."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rewards.mathematics.markup import tokens
from rewards.mathematics.units import Unit, money, read_unit, singular


def unit(text: str) -> Unit | None:
    found = read_unit(tokens(f"1 {text}"), 1)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("text", "same"),
    [("km", "kilometers"), ("cm^2", "square centimetres"), ("cm2", "cm squared"), ("m/s", "metres per second"), ("km/h", "kph"), (r"\text{kg}", "kilograms")]
    + [("L", "litres"), (r"^\circ", "degrees"), (r"\%", "percent"), ("dollars", r"\$"), ("小时", "hours"), ("apples", "apple"), (r"\mu m", "micrometers")],
)  # fmt: skip
def test_spellings_of_one_unit_are_equal(text: str, same: str) -> None:
    assert unit(text) == unit(same) is not None


@pytest.mark.parametrize(
    ("large", "small", "factor"), [("km", "m", 1000), ("h", "min", 60), ("m^2", "cm^2", 10_000), ("km/h", "m/s", Fraction(5, 18)), ("L", "cm^3", 1000), ("ft", "in", 12), ("dollar", "cent", 100)]
)  # fmt: skip
def test_sizes_convert_within_a_kind(large: str, small: str, factor: Fraction) -> None:
    a, b = unit(large), unit(small)
    assert a is not None and b is not None
    assert a.dimensions == b.dimensions
    assert a.factor / b.factor == factor


def test_kinds_differ() -> None:
    found = [
        unit(text) for text in ("m", "m^2", "kg", "s", "m/s", "degrees", "dollars", "euros", "^\\circ C")
    ]
    assert len({part.dimensions for part in found if part is not None}) == len(found)


@pytest.mark.parametrize("text", ["not", "or more", "than 6", "times", "to 7", "is wrong", "x", "half"])
def test_words_that_say_something_else_are_no_unit(text: str) -> None:
    assert unit(text) is None


def test_nouns_are_compared_in_the_singular() -> None:
    assert [singular(noun) for noun in ("Apples", "boxes", "cherries", "glass", "bus")] == [
        "apple",
        "box",
        "cherry",
        "glass",
        "bus",
    ]
    assert money("$") == money("USD") and money("m") is None

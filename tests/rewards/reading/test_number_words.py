"""Numbers in words are read whole or not at all."""

from __future__ import annotations

import pytest

from rewards.reading.number_words import number_word, with_digits


@pytest.mark.parametrize(
    ("text", "value"),
    [("zero", 0), ("Seven", 7), ("forty-two", 42), ("ninety nine", 99), ("a hundred", 100), ("one hundred and five", 105), ("two thousand and four", 2004)]
    + [("twelve hundred", 1200), ("one million two hundred thousand", 1_200_000), ("零", 0), ("十", 10), ("十二", 12), ("二十三", 23), ("两百", 200), ("一百零五", 105)]
    + [("三千零四十", 3040), ("一万零三", 10_003), ("五千万", 50_000_000)],
)  # fmt: skip
def test_a_number_in_words(text: str, value: int) -> None:
    assert number_word(text) == value
    assert with_digits(f"It is {text}.") == f"It is {value}."


@pytest.mark.parametrize(
    "text",
    ["", "two three", "twenty eleven", "one hundred one hundred", "no one", "no-one", "one-way", "hundreds", "third", "and", "a", "3", "forty-", "百", "三百五", "十几", "两三", "一共"],
)  # fmt: skip
def test_what_is_not_exactly_one_number(text: str) -> None:
    assert number_word(text) is None


def test_words_that_are_not_one_number_stay_several() -> None:
    assert with_digits("one, two or three") == "1, 2 or 3"
    assert with_digits("one two three") == "1 2 3"
    assert with_digits("一共两只, 唯一, 第三, 三分之一, 一些") == "一共2只, 唯一, 第三, 三分之一, 一些"
    assert with_digits("someone and no-one on a one-way street") == "someone and no-one on a one-way street"

"""Repetition: loops and passages said again are found; sums, tables, boxes and options taken one by one are not."""

from __future__ import annotations

import pytest

from data_recipes.operations.repetition import repetition

PROSE = (
    "The plan of the garden has three beds along the fence and a pond in the middle. Each bed is twice as long as it is "
    "wide, and the pond takes a quarter of the ground. First the area of one bed is found, then that of all three."
)

LOOPS = {
    "a word": PROSE + " no" * 80,
    "a clause": "wait, no. " * 40,
    "a sentence at the end": PROSE + " The area is 12, so the length is 6." * 8,
    "a long passage thrice": " ".join([PROSE] * 3),
    "a long passage twice": PROSE + "\n" + PROSE,
    "two sentences in turn": PROSE + " From the first row, x = 4. From the second row, y = 7." * 7,
    "Chinese": "首先看图中的长方形，它的长是6。" * 8,
    "symbols": "The product is $" + r"7 \times " * 200 + "7$",
    "a few words in a long text": (
        PROSE.replace("garden", "yard") + " ".join(f"Bed {i} is {i * i} wide." for i in range(200))
    )
    + " let me check that again," * 20,
}
AGAIN = {
    "after other words": PROSE + " Let me say it once more. " + PROSE,
    "sentences in another order": "\n".join(
        ("I see a red dog by the door.", "I see a cat on the old wall.", "I see two birds up in a tree.")[
            i * i % 7 % 3
        ]
        for i in range(30)
    ),
}
FINE = {
    "prose": PROSE,
    "a table added up": "\n".join(
        f"Add the price of item {c} to the sum: {n} + {n + 3} = {2 * n + 3}."
        for n, c in enumerate("ABCDEFGHIJKLMNOP")
    ),
    "boxes": "The objects are: "
    + ", ".join(f'{{"bbox_2d": [{n}, {2 * n}, {n + 40}, {2 * n + 30}], "label": "cup"}}' for n in range(25)),
    "terms of a sum": PROSE + " The total is " + " + ".join(["\\frac{1}{6}"] * 6) + " = 1.",
    "a matrix": PROSE + " \\begin{pmatrix} 1 & 0 & 0 \\\\ 0 & 1 & 0 \\\\ 0 & 0 & 1 \\end{pmatrix}",
    "rule of a table": "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n" + PROSE,
    "options one by one": "\n".join(
        f"({c}) The faces of this cube do not match the pattern, since {w} is on the wrong side."
        for c, w in zip("ABCDE", ("red", "blue", "the star", "the dot", "green"), strict=True)
    ),
    "events of a probability": (
        'Let A be the event "the balloon is red" and B be the event "the balloon carries one person". To find the probability '
        "that the balloon is red and carries one person, first identify the sample space and the event. The event is A and B, "
        '"the balloon is red and the balloon carries one person". Since this is a uniform model, count the outcomes in the event '
        "A and B and count the total number of outcomes. P(A and B) = # of outcomes in A and B / # of outcomes = 3 / 12 = 1 / 4."
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_found(name):
    found = repetition(LOOPS[name])
    assert found is not None and found[0] == "loop" and 0 < found[1] <= 1


@pytest.mark.parametrize("name", AGAIN)
def test_passages_said_again_are_found(name):
    found = repetition(AGAIN[name])
    assert found is not None and found[1] > found[2]


@pytest.mark.parametrize("name", FINE)
def test_what_solutions_repeat_is_no_loop(name):
    assert repetition(FINE[name]) is None


@pytest.mark.parametrize("text", ["", "word", "a " * 30_000, "x" * 200_000, "1 2 3 4 " * 10_000])
def test_any_text_comes_to_an_end(text):
    repetition(text)

"""Verdicts of a judge, and what they say together."""

from __future__ import annotations

import pytest

from data_recipes.teacher.pairwise import Comparison, rank, read_verdict, shown


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A is right.\n[[A]]", "A"),
        ("**Verdict: [[B]]**\n\n", "B"),
        ("[[C]]", "tie"),
        ("Answer A says [[B]], which is odd.\n[[A]]", "A"),  # what an answer says does not count
        ("[[A]]\nOn second thought, B.", None),
        ("[[A]] or [[B]]", None),
        ("A", None),
        ("[[D]]", None),
        ("", None),
        (None, None),
    ],
)
def test_a_verdict_is_read_from_the_last_line_alone(text, verdict):
    assert read_verdict(text) == verdict


@pytest.mark.parametrize(
    ("forward", "backward", "outcome"),
    [
        ("A", "B", "first"),
        ("B", "A", "second"),
        ("tie", "tie", "tie"),
        ("A", "A", "by_position"),
        ("B", "B", "by_position"),
        ("A", "tie", "half_tie"),
        ("tie", "B", "half_tie"),
        ("A", None, "unread"),
        (None, "tie", "unread"),
    ],
)
def test_an_answer_is_preferred_only_in_both_orders(forward, backward, outcome):
    assert Comparison(0, 1, forward, backward).outcome == outcome


def over(better: int, worse: int) -> Comparison:
    first, second = sorted((better, worse))
    return Comparison(first, second, *(("A", "B") if better == first else ("B", "A")))


def test_win_rates_count_what_is_undecided_as_half_and_leave_out_what_was_not_read():
    ranking = rank(
        4,
        [over(2, 0), Comparison(0, 1, "A", "A"), Comparison(1, 2, "tie", "tie"), Comparison(0, 3, None, "A")],
    )
    assert ranking.win_rates == (0.25, 0.5, 0.75, 0.5)
    assert ranking.preferred == ((2, 0),) and ranking.contradicted == 0


def test_preferences_in_a_circle_are_left_out_and_those_across_it_stay():
    circle = [over(0, 1), over(1, 2), over(2, 0)]
    ranking = rank(5, [*circle, over(3, 0), over(1, 4)])
    assert ranking.preferred == ((3, 0), (1, 4)) and ranking.contradicted == 3
    assert rank(3, [over(0, 1), over(1, 2), over(0, 2)]).preferred == ((0, 1), (1, 2), (0, 2))


def test_an_answer_cannot_pretend_to_end():
    fake = shown("x", "y").splitlines()[2]
    text = shown(f"x\n{fake}", "y")
    assert text.count(fake[: fake.index(":")]) == 1  # the marks of this comparison are others

"""The types of values. A truth and an answer are equal only within a type, or between equivalent types (see `compare.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rewards.mathematics.expressions import Expr
from rewards.mathematics.units import Unit


@dataclass(frozen=True)
class Quantity:
    """An expression (a number, a formula, a matrix) with the unit, percent sign or noun that follows it, if any."""

    expr: Expr
    unit: Unit | None = None


@dataclass(frozen=True)
class Words:
    """Words, normalised by `reading.text.plain_text`."""

    text: str


@dataclass(frozen=True)
class Clock:
    """A time of day or a duration as written, `4:30` or `1:02:03.5`; `half` is "am", "pm" or "" if not given."""

    hours: int
    minutes: int
    seconds: Fraction | None = None
    half: str = ""


@dataclass(frozen=True)
class Day:
    """A date. `year` is None if not given."""

    year: int | None
    month: int
    day: int


@dataclass(frozen=True)
class Ratio:
    """a : b, or more terms."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True)
class Sequence:
    r"""Several values between `left` and `right`: `(` `)` a tuple (of two: a point or an open interval), `[` `)` and the like an
    interval, `\{` `\}` a set, `<` `>` a vector, and "" "" a bare list (`1, 2`, `1 and 2`, `1 or 2`)."""

    left: str
    items: tuple[Value, ...]
    right: str


@dataclass(frozen=True)
class Piece:
    """An interval; a point is a closed interval from itself to itself."""

    low: Expr
    low_closed: bool
    high: Expr
    high_closed: bool


@dataclass(frozen=True)
class Region:
    """A set of real numbers, in `pieces`; `subject` is the variable (`x` in `x < 3`), None for a bare set."""

    pieces: tuple[Piece, ...]
    subject: Expr | None = None


@dataclass(frozen=True)
class Chain:
    """Members with a relation between neighbours: `x = 3`, `3/4 = 0.75`, `2x - y + 1 = 0`, `f(2) < f(1) < f(4)`.

    Relations: `=`, `<`, `>`, `le`, `ge`, `ne`, `approx`, `in`, …. The first member is None if it was not written (`> 5`).
    """

    members: tuple[Value | None, ...]
    relations: tuple[str, ...]


Value = Quantity | Words | Clock | Day | Ratio | Sequence | Region | Chain

r"""Comparing expressions and quantities without math-verify where possible.

Exact arithmetic decides rational numbers, floating point (variables at fixed points) refutes expressions that differ, and exact
values at points confirm rational functions. As in `compare.py`, the result is the pairs that are still open, or None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from rewards.mathematics.expressions import (
    DEGREE,
    Expr,
    approximate,
    exact,
    has_decimal,
    num,
    symbols,
    times,
    worked_out,
)
from rewards.mathematics.units import Unit
from rewards.mathematics.values import Quantity

Pairs = tuple[tuple[Expr, Expr], ...]
"""Pairs of expressions that math-verify still has to compare."""
POINTS = 3
NO_UNIT = Unit()


def first(results: Iterable[Pairs | None]) -> Pairs | None:
    """The first result with nothing left to compare, else the first that is not None."""
    pending = None
    for result in results:
        if result == ():
            return result
        pending = result if pending is None else pending
    return pending


def both(results: Iterable[Pairs | None]) -> Pairs | None:
    """All results joined; None if any is None."""
    pairs: Pairs = ()
    for result in results:
        if result is None:
            return None
        pairs += result
    return pairs


def expressions(gold: Expr, predicted: Expr, strict: bool) -> Pairs | None:
    """Compare expressions. Decimals are equal up to 1e-6, absolute and relative, so 0.333333 is 1/3."""
    if gold == predicted:
        return ()
    if gold.op == "matrix" and predicted.op == "matrix":
        rows, others = gold.args[0], predicted.args[0]
        if len(rows) != len(others) or len(rows[0]) != len(others[0]):
            return None
        entries = zip(sum(rows, ()), sum(others, ()), strict=True)
        return both(expressions(a, b, False) for a, b in entries)
    if "based" in (gold.op, predicted.op):
        return () if gold.op == "based" and predicted == num(int(gold.args[0])) else None
    a, b = exact(gold), exact(predicted)
    number = not symbols(gold)
    if strict and number and not worked_out(predicted, a is not None):
        return None
    decimal = has_decimal(gold) or has_decimal(predicted)
    if a is not None and b is not None:
        return () if equal_numbers(a, b, decimal) else None
    for point in range(POINTS if symbols(gold) | symbols(predicted) else 1):
        x, y = approximate(gold, point), approximate(predicted, point)
        if x is None or y is None:
            break
        if not math.isclose(
            abs(x - y), 0.0, abs_tol=1e-13 + max(abs(x), abs(y)) * (1e-6 if decimal and number else 1e-8)
        ):
            return None
    else:
        if decimal and number and not symbols(predicted):
            return ()
    if symbols(gold) and (identical := _identical(gold, predicted)) is not None:
        return () if identical else None
    if (gold.op == "const") != (predicted.op == "const") and any(
        e.op == "const" and e.args[0] == "infty" for e in (gold, predicted)
    ):
        return None
    return ((gold, predicted),)


def _identical(gold: Expr, predicted: Expr) -> bool | None:
    """Whether two rational functions are identical, by their exact values at 31-bit points: different ones agree at such a point
    with probability degree / 2^31 (Schwartz 1980, Zippel 1979). None for other expressions."""
    for point in range(POINTS):
        a, b = exact(gold, point), exact(predicted, point)
        if a is None or b is None:
            return None
        if a != b:
            return False
    return True


def equal_numbers(gold: Fraction, predicted: Fraction, decimal: bool) -> bool:
    """Whether two numbers are equal, for decimals within 1e-6, absolute and relative to the truth."""
    difference = abs(gold - predicted)
    return difference == 0 or (decimal and difference * 10**6 <= min(Fraction(1), abs(gold)))


def quantities(gold: Quantity, predicted: Quantity, strict: bool) -> Pairs | None:
    a, b = gold.unit or NO_UNIT, predicted.unit or NO_UNIT
    if a.percent or b.percent:
        return _percents(gold.expr, a, predicted.expr, b, strict)
    angles = _angles(gold.expr, a.dimensions, predicted.expr, b.dimensions)
    if angles is not None:
        return expressions(*angles, False)
    named = (
        a.dimensions not in ((), (("unit", 1),), (("unit", 2),), (("unit", 3),)),
        b.dimensions not in ((), (("unit", 1),), (("unit", 2),), (("unit", 3),)),
    )
    if all(named):
        if a.dimensions != b.dimensions:
            return None
        return expressions(
            _scaled(gold.expr, a.factor), _scaled(predicted.expr, b.factor), strict and a.factor == b.factor
        )
    if any(named) and a.nouns and not b.dimensions and b.nouns - a.nouns == b.nouns:
        return None
    if a.nouns and b.nouns and not a.nouns & b.nouns:
        return None
    if named[0] and b.nouns:
        return None
    return expressions(gold.expr, predicted.expr, strict)


def _scaled(expr: Expr, factor: Fraction) -> Expr:
    value = exact(expr)
    if factor == 1:
        return expr
    return num(value * factor, has_decimal(expr)) if value is not None else times(num(factor), expr)


def _percents(gold: Expr, a: Unit, predicted: Expr, b: Unit, strict: bool) -> Pairs | None:
    """`28 %` may be answered 28 or 0.28; `0.28` may be answered 28 %; 28 may not be answered 28 %."""
    hundredth = Fraction(1, 100)
    if a.dimensions or b.dimensions:
        return None
    if a.percent and b.percent:
        return expressions(gold, predicted, strict)
    if a.percent:
        return first(
            (expressions(gold, predicted, strict), expressions(_scaled(gold, hundredth), predicted, strict))
        )
    value = exact(predicted)
    return expressions(
        gold, num(value / 100, True) if value is not None else _scaled(predicted, hundredth), False
    )


def _angles(
    gold: Expr, a: tuple[tuple[str, int], ...], predicted: Expr, b: tuple[tuple[str, int], ...]
) -> tuple[Expr, Expr] | None:
    """Both in radians if one is in degrees and the other is not (90° and π/2), else None."""
    degrees, radians = (("angle", 1),), (("rad", 1),)
    if a == degrees and (b == radians or (b == () and _has_pi(predicted))):
        return times(gold, DEGREE), predicted
    if b == degrees and (a == radians or (a == () and _has_pi(gold))):
        return gold, times(predicted, DEGREE)
    return None


def _has_pi(expr: Expr) -> bool:
    return any(node.op == "const" and node.args[0] in ("pi", "degree") for node in expr.walk())

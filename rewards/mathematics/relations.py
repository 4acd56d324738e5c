r"""Relations as sets of numbers, and `\pm` as a list of values, so that different notations get one type.

x < 3,  3 > x,  (-\infty, 3),  x \in (-\infty, 3),  \{x \mid x < 3\}       Region
x \ne 2,  x < 2 or x > 2,  \mathbb{R} \setminus \{2\}                        Region
1 \pm \sqrt 2                                                                a list of two
"""

from __future__ import annotations

from dataclasses import replace

from rewards.mathematics.expressions import INFINITY, Expr, approximate, exact, symbols
from rewards.mathematics.values import Chain, Piece, Quantity, Region, Sequence, Value

MINUS_INFINITY = Expr("neg", (INFINITY,))
_REALS = Expr("sym", ("mathbb R",))
_TURNED = {"<": ">", ">": "<", "le": "ge", "ge": "le"}


def simplified(value: Value) -> Value:
    """The value with relations as regions, unions joined and `\\pm` expanded."""
    if isinstance(value, Quantity):
        return _both_signs(value)
    if isinstance(value, Sequence):
        items = tuple(simplified(item) for item in value.items)
        if value.left in ("cup", "cap", "setminus"):
            return _combined(value.left, items) or replace(value, items=items)
        joined = _joined(items) if not value.left else None
        return joined or replace(value, items=items)
    if isinstance(value, Chain):
        members = tuple(simplified(member) if member is not None else None for member in value.members)
        return _region_of(members, value.relations) or Chain(members, value.relations)
    return value


def as_region(value: Value) -> Region | None:
    """A value as a set of real numbers: a region, an interval, a finite set, all real numbers; None for other values."""
    if isinstance(value, Region):
        return value
    if isinstance(value, Quantity) and value.expr == _REALS:
        return Region((Piece(MINUS_INFINITY, False, INFINITY, False),))
    if not isinstance(value, Sequence):
        return None
    exprs = [item.expr for item in value.items if isinstance(item, Quantity) and item.unit is None]
    if len(exprs) != len(value.items) or not exprs:
        return None
    if value.left == "\\{":
        return Region(_sorted(Piece(expr, True, expr, True) for expr in exprs))
    if len(exprs) == 2 and value.left in ("(", "[") and value.right in (")", "]"):
        low, high = exprs
        if order(low) < order(high):
            return Region((Piece(low, value.left == "[", high, value.right == "]"),))
    return None


def order(expr: Expr) -> float:
    """A number to sort end points by: variables have fixed values, and what has no value counts as 0."""
    if expr == INFINITY:
        return float("inf")
    if expr == MINUS_INFINITY:
        return float("-inf")
    value = approximate(expr)
    return value.real if value is not None else 0.0


def _sorted(pieces: object) -> tuple[Piece, ...]:
    return tuple(sorted(pieces, key=lambda piece: (order(piece.low), order(piece.high))))  # type: ignore[call-overload]


def _both_signs(value: Quantity) -> Value:
    if not any(node.op in ("pm", "mp") for node in value.expr.walk()):
        return value
    upper, lower = (Quantity(_with_sign(value.expr, sign), value.unit) for sign in (1, -1))
    return Sequence("", (upper, lower), "")


def _with_sign(expr: Expr, sign: int) -> Expr:
    if expr.op in ("pm", "mp"):
        inner = _with_sign(expr.args[0], sign)
        return inner if (sign > 0) == (expr.op == "pm") else Expr("neg", (inner,))
    if expr.op == "matrix":
        return expr
    return Expr(expr.op, tuple(_with_sign(arg, sign) if isinstance(arg, Expr) else arg for arg in expr.args))


def _plain(member: Value | None) -> Expr | None:
    return member.expr if isinstance(member, Quantity) and member.unit is None else None


def _region_of(members: tuple[Value | None, ...], relations: tuple[str, ...]) -> Region | None:
    """The region described by `x < 3`, `1 < x \\le 2`, `x \\ne 2` or `x \\in (0, 1)`; None for other relations."""
    if relations == ("in",):
        region = as_region(members[1]) if members[1] is not None else None
        return replace(region, subject=_plain(members[0])) if region is not None else None
    exprs = [_plain(member) for member in members]
    if relations == ("ne",) and exprs[0] is not None and exprs[1] is not None and not symbols(exprs[1]):
        point = exprs[1]
        pieces = (Piece(MINUS_INFINITY, False, point, False), Piece(point, False, INFINITY, False))
        return Region(pieces, exprs[0]) if symbols(exprs[0]) else None
    if not set(relations) <= set(_TURNED) or any(
        e is None and m is not None for e, m in zip(exprs, members, strict=True)
    ):
        return None
    if relations[0] in (">", "ge"):  # read from right to left
        exprs, relations = exprs[::-1], tuple(_TURNED[relation] for relation in reversed(relations))
    if not set(relations) <= {"<", "le"}:
        return None
    return _between(exprs, relations)


def _between(exprs: list[Expr | None], relations: tuple[str, ...]) -> Region | None:
    """The region of `low < subject <= high` or one of its halves."""
    varying = [expr is None or bool(symbols(expr) or expr.op == "call") for expr in exprs]
    closed = [relation == "le" for relation in relations]
    if varying == [True, False]:
        exprs, closed = [MINUS_INFINITY, *exprs], [False, *closed]
    elif varying == [False, True]:
        exprs, closed = [*exprs, INFINITY], [*closed, False]
    elif varying != [False, True, False]:
        return None
    low, subject, high = exprs
    assert low is not None and high is not None
    return _without_bars(Region((Piece(low, closed[0], high, closed[1]),), subject))


def _without_bars(region: Region) -> Region:
    r"""`1 \le |z| \le 2` is `z \in [-2, -1] \cup [1, 2]`."""
    piece, subject = region.pieces[0], region.subject
    if subject is None or subject.op != "abs" or order(piece.high) <= 0:
        return region
    low, high = piece.low, piece.high
    if order(low) < 0:
        return Region(
            (Piece(Expr("neg", (high,)), piece.high_closed, high, piece.high_closed),), subject.args[0]
        )
    mirrored = Piece(_negative(high), piece.high_closed, _negative(low), piece.low_closed)
    return Region((mirrored, piece), subject.args[0])


def _negative(expr: Expr) -> Expr:
    return MINUS_INFINITY if expr == INFINITY else Expr("neg", (expr,))


def _joined(items: tuple[Value, ...]) -> Region | None:
    """Relations in a list: their intersection or, if that is empty (`x < 1, x > 3`), their union."""
    regions = [item for item in items if isinstance(item, Region) and item.subject is not None]
    if len(regions) < 2 or len(regions) != len(items) or len({region.subject for region in regions}) != 1:
        return None
    if len(regions) == 2 and all(len(region.pieces) == 1 for region in regions):
        common = _common(regions[0].pieces[0], regions[1].pieces[0])
        if common is not None:
            return Region((common,), regions[0].subject)
    return Region(_sorted(piece for region in regions for piece in region.pieces), regions[0].subject)


def _common(a: Piece, b: Piece) -> Piece | None:
    low, low_closed = max(
        (a.low, a.low_closed), (b.low, b.low_closed), key=lambda end: (order(end[0]), not end[1])
    )
    high, high_closed = min(
        (a.high, a.high_closed), (b.high, b.high_closed), key=lambda end: (order(end[0]), end[1])
    )
    return Piece(low, low_closed, high, high_closed) if order(low) < order(high) else None


def _combined(operator: str, items: tuple[Value, ...]) -> Region | None:
    """A union, or all real numbers except some points."""
    regions = [as_region(item) for item in items]
    if any(region is None for region in regions):
        return None
    first, second = regions
    assert first is not None and second is not None
    if operator == "cup":
        return Region(_sorted([*first.pieces, *second.pieces]), first.subject)
    points = [piece.low for piece in second.pieces]
    if (
        operator != "setminus"
        or len(first.pieces) != 1
        or any(piece.low != piece.high for piece in second.pieces)
    ):
        return None
    whole, pieces = first.pieces[0], []
    low, closed = whole.low, whole.low_closed
    for point in sorted(points, key=order):
        pieces.append(Piece(low, closed, point, False))
        low, closed = point, False
    pieces.append(Piece(low, closed, whole.high, whole.high_closed))
    return Region(tuple(pieces), first.subject)


def is_number(expr: Expr) -> bool:
    """Whether an expression has no variables."""
    return exact(expr) is not None or not (
        symbols(expr) or any(node.op == "call" and node.args[0][:1].isupper() for node in expr.walk())
    )

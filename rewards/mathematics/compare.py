r"""Comparing the values of a truth and an answer by type.

The result is the pairs of expressions that math-verify still has to compare: empty if the values are equal, None if they differ.
`equality.py` decides most expressions without it.
"""

from __future__ import annotations

import math
from fractions import Fraction

from rewards.mathematics.equality import POINTS, Pairs, both, expressions, first, quantities
from rewards.mathematics.expressions import Expr, approximate, num, symbols, times
from rewards.mathematics.relations import as_region
from rewards.mathematics.values import Chain, Clock, Day, Quantity, Ratio, Region, Sequence, Value, Words

MAX_ITEMS = 60
_SAME_WORDS = {
    "no solutions": "no solution",
    "no real solutions": "no real solution",
    "none of the above.": "none of the above",
}
_BRACKETS = {("<", ">"): ("(", ")")}


def compare(gold: Value, predicted: Value, strict: bool = True) -> Pairs | None:
    """The pairs left to compare, or None if the values differ. `strict`: arithmetic does not answer a number."""
    if isinstance(gold, Chain):
        return _equations(gold, predicted, strict)
    if isinstance(predicted, Chain):
        return first(compare(gold, value, strict) for value in given_values(predicted))
    if isinstance(gold, Quantity):
        if isinstance(predicted, Ratio) and len(predicted.terms) == 2 and gold.expr.op == "/":
            predicted = Quantity(Expr("/", predicted.terms))
        if isinstance(predicted, Sequence) and not predicted.left:
            items = {item for item in predicted.items if not isinstance(item, Chain)}
            if len(items) == len(predicted.items):  # one value written in several ways: `3/4, or 75 %`
                return both(compare(gold, item, strict) for item in predicted.items)
        return quantities(gold, predicted, strict) if isinstance(predicted, Quantity) else None
    if isinstance(gold, Words):
        return () if isinstance(predicted, Words) and _word(gold) == _word(predicted) else None
    if isinstance(gold, Clock):
        return () if isinstance(predicted, Clock) and _same_time(gold, predicted) else None
    if isinstance(gold, Day):
        return () if gold == predicted else None
    if isinstance(gold, Ratio):
        return _ratios(gold, predicted)
    if isinstance(gold, Region):
        return _regions(gold, predicted, strict)
    return _sequences(gold, predicted, strict)


# Relations


def given_values(chain: Chain) -> list[Value]:
    """The value that a chain of equations gives: the last one after a name (`x = 2 + 3 = 5`, `5 = x`), or all members of a true
    equation between numbers (`3/4 = 0.75`). Empty for `2 = 5`, `|x| = 5`, `x > 5`. What follows `\\approx` is ignored."""
    members = list(chain.members)
    if not set(chain.relations) <= {"=", "approx", "sim", "equiv"} or any(
        member is None for member in members
    ):
        return []
    names = [is_name(member, loose=True) for member in members]
    for at, relation in enumerate(chain.relations, 1):
        if relation != "=" and not all(names[:at]):
            members, names = members[:at], names[:at]
            break
    if not any(names):
        return [member for member in members if member is not None] if _agree(members) else []
    values = [member for member, name in zip(members, names, strict=True) if not name]
    starts_or_ends = names[0] or (names[-1] and len(values) == 1)
    return values[-1:] if values and starts_or_ends else []  # type: ignore[return-value]


def is_name(member: Value | None, loose: bool = False) -> bool:
    """Whether a member of an equation names the unknown: `x`, `f(3)`, `AB`, `(p, q)`, `Area`; `loose`: also any expression in more
    than one variable, such as `x + y` (one in a single variable is an equation to be solved)."""
    if isinstance(member, Words):
        return True
    if isinstance(member, Ratio):
        return all(term.op == "sym" for term in member.terms)
    if isinstance(member, Sequence):
        return bool(member.items) and all(is_name(item) for item in member.items)
    if not isinstance(member, Quantity) or member.unit is not None:
        return False
    expr = member.expr
    if expr.op == "sym" or (expr.op == "*" and all(arg.op == "sym" for arg in expr.args)):
        return True
    if expr.op == "call" and (symbols(expr) or not _known(expr)):
        return True
    return loose and len(symbols(expr)) > 1


def _known(expr: Expr) -> bool:
    return approximate(expr) is not None and expr.args[0] in (
        "sin",
        "cos",
        "tan",
        "log",
        "ln",
        "binom",
        "lg",
        "cot",
        "sec",
        "csc",
        "det",
        "gcd",
        "lcm",
        "max",
        "min",
    )


def _agree(members: list[Value | None]) -> bool:
    """Whether all members equal the last in floating point; decimals may be rounded. A member with a unit that the last one lacks
    is a conversion and is not compared."""
    last = members[-1]
    for member in members[:-1]:
        if not isinstance(member, Quantity) or not isinstance(last, Quantity):
            if member is None or last is None or compare(last, member, False) is None:
                return False
            continue
        if member.unit is not None and last.unit is None and not member.unit.percent:
            continue
        x, y = approximate(member.expr), approximate(last.expr)
        if x is None or y is None:
            return False
        sizes = [1.0 if q.unit is None else float(q.unit.factor) for q in (member, last)]
        tolerance = max(_rounding(member.expr), _rounding(last.expr), 1e-9 * abs(x * sizes[0]))
        if abs(x * sizes[0] - y * sizes[1]) > tolerance:
            return False
    return True


def _rounding(expr: Expr) -> float:
    """Half a unit in the last place of a decimal, else 0."""
    if expr.op == "num" and expr.args[1] and expr.args[0].denominator > 1:
        return (
            0.5000001 * 10.0 ** -math.ceil(math.log10(expr.args[0].denominator))
            if expr.args[0].denominator < 10**12
            else 0.0
        )
    return 0.0


def _equations(gold: Chain, predicted: Value, strict: bool) -> Pairs | None:
    """A true `x = 3` is answered by 3 or `x = 3`; other relations by the same relation, up to a factor and direction."""
    if not any(is_name(member, loose=True) for member in gold.members):
        true = given_values(gold)
        if true:  # `3/4 = 0.75`
            return first(compare(value, predicted, strict) for value in true)
    names = [member for member in gold.members if is_name(member)]
    rest = [member for member in gold.members if member is not None and not is_name(member)]
    values = rest[-1:] if set(gold.relations) == {"="} and names and is_proper(gold) else []
    if isinstance(predicted, Chain):
        if values and set(predicted.relations) <= {"=", "approx"}:
            others = [member for member in predicted.members if is_name(member)]
            if any(name in others for name in names):
                return first(compare(values[0], value, strict) for value in given_values(predicted))
        return _same_relation(gold, predicted)
    return compare(values[0], predicted, strict) if values else None


def is_proper(chain: Chain) -> bool:
    """Whether the value of a chain is the value of a name, not of an expression (`x = 3`, not `x + y = 3`)."""
    return all(
        is_name(member) or not is_name(member, loose=True) or member == chain.members[-1]
        for member in chain.members
    )


_OPPOSITE = {"<": ">", ">": "<", "le": "ge", "ge": "le"}


def _same_relation(gold: Chain, predicted: Chain) -> Pairs | None:
    if len(gold.members) != len(predicted.members):
        return None
    turned = Chain(predicted.members[::-1], tuple(_OPPOSITE.get(r, r) for r in reversed(predicted.relations)))
    for other in (predicted, turned):
        if other.relations == gold.relations:
            pairs = both(
                compare(a, b, False) if a is not None and b is not None else (() if a is b else None)
                for a, b in zip(gold.members, other.members, strict=True)
            )
            if pairs is not None:
                return pairs
            if len(gold.members) == 2:
                return _proportional(gold, other)
    return None


def _proportional(gold: Chain, predicted: Chain) -> Pairs | None:
    """`y = 2x + 1` and `2x - y + 1 = 0`: the differences of the sides are multiples, positive ones for inequalities."""
    sides = [_difference(chain) for chain in (gold, predicted)]
    if sides[0] is None or sides[1] is None or not symbols(sides[0]):
        return None
    ratios = []
    for point in range(POINTS):
        x, y = approximate(sides[0], point), approximate(sides[1], point)
        if x is None or y is None or not abs(y) > 1e-9:
            return None
        ratios.append(x / y)
    spread = max(abs(ratio - ratios[0]) for ratio in ratios)
    if spread > 1e-8 * abs(ratios[0]) or abs(ratios[0].imag) > 1e-9 or not abs(ratios[0]) > 1e-9:
        return None
    factor = Fraction(ratios[0].real).limit_denominator(10_000)
    if gold.relations[0] not in ("=", "ne") and factor < 0:
        return None
    return expressions(sides[0], times(num(factor), sides[1]), False)


def _difference(chain: Chain) -> Expr | None:
    left, right = chain.members
    if not isinstance(left, Quantity) or not isinstance(right, Quantity):
        return None
    return Expr("+", (left.expr, Expr("neg", (right.expr,))))


# Sets, tuples, lists


def _regions(gold: Region, predicted: Value, strict: bool) -> Pairs | None:
    other = as_region(predicted)
    if other is None or len(gold.pieces) != len(other.pieces):
        return None
    a_subject, b_subject = gold.subject, other.subject
    if a_subject is not None and b_subject is not None and expressions(a_subject, b_subject, False) != ():
        return None
    results: list[Pairs | None] = []
    for a, b in zip(gold.pieces, other.pieces, strict=True):
        if (a.low_closed, a.high_closed) != (b.low_closed, b.high_closed):
            return None
        results += [expressions(a.low, b.low, strict), expressions(a.high, b.high, strict)]
    return both(results)


def _sequences(gold: Sequence, predicted: Value, strict: bool) -> Pairs | None:
    region = as_region(gold) if isinstance(predicted, Region) else None
    if region is not None:
        return _regions(region, predicted, strict)
    if not isinstance(predicted, Sequence):
        alone = len(gold.items) == 1 and gold.left == "\\{"
        return compare(gold.items[0], predicted, strict) if alone else None
    brackets = (gold.left, gold.right), (predicted.left, predicted.right)
    a, b = (_BRACKETS.get(pair, pair) for pair in brackets)
    if (
        a[0] in ("", "\\{") and b[0] in ("", "\\{") and len(gold.items) != len(predicted.items)
    ):  # duplicates count once
        gold, predicted = (
            Sequence(s.left, tuple(dict.fromkeys(s.items)), s.right) for s in (gold, predicted)
        )
    if len(gold.items) != len(predicted.items) or len(gold.items) > MAX_ITEMS:
        return None
    ordered = _in_order(gold.items, predicted.items, strict)
    if a[0] in ("", "\\{"):
        if b[0] in ("", "\\{"):
            return (
                ordered
                if ordered == () or (a[0] == "" and _ordered_names(gold))
                else _any_order(gold.items, predicted.items, strict)
            )
        return ordered if a[0] == "" and b == ("(", ")") and _ordered_names(gold) else None
    if a == b:
        return ordered
    in_brackets = a == ("(", ")") or (a == ("[", "]") and len(gold.items) > 2)
    return ordered if in_brackets and b[0] == "" else None


def _ordered_names(gold: Sequence) -> bool:
    """Whether the items are values of different names (`p = 3, q = 2`, not `x_1 = 3, x_2 = 2`), so that their order matters."""
    letters = set()
    for item in gold.items:
        if (
            not isinstance(item, Chain)
            or not is_name(item.members[0])
            or not isinstance(item.members[0], Quantity)
        ):
            return False
        letters.add(str(item.members[0].expr.args[0]).split("_")[0])
    return len(letters) == len(gold.items)


def _in_order(gold: tuple[Value, ...], predicted: tuple[Value, ...], strict: bool) -> Pairs | None:
    return both(compare(a, b, strict) for a, b in zip(gold, predicted, strict=True))


def _any_order(gold: tuple[Value, ...], predicted: tuple[Value, ...], strict: bool) -> Pairs | None:
    """Pair each true item with a different item of the answer; items that differ in floating point are never paired."""
    left, pairs = list(predicted), []
    for item in gold:
        results = [(at, compare(item, other, strict)) for at, other in enumerate(left)]
        found = [result for result in results if result[1] is not None]
        if not found:
            return None
        at, result = min(found, key=lambda entry: len(entry[1] or ()))
        del left[at]
        pairs.append(result)
    return both(pairs)


def _ratios(gold: Ratio, predicted: Value) -> Pairs | None:
    if isinstance(predicted, Clock) and not predicted.half:
        parts = [Fraction(predicted.hours), Fraction(predicted.minutes), *filter(None, [predicted.seconds])]
        predicted = Ratio(tuple(map(num, parts)))
    if isinstance(predicted, Quantity) and predicted.unit is None and len(gold.terms) == 2:
        return expressions(Expr("/", gold.terms), predicted.expr, True)
    if not isinstance(predicted, Ratio) or len(predicted.terms) != len(gold.terms):
        return None
    a, b = gold.terms[0], predicted.terms[0]
    return both(
        expressions(times(x, b), times(y, a), False)
        for x, y in zip(gold.terms[1:], predicted.terms[1:], strict=True)
    )


# Words and times


def _word(words: Words) -> str:
    return _SAME_WORDS.get(words.text, words.text)


def _same_time(gold: Clock, predicted: Clock) -> bool:
    """The same time: `4:30 p.m.` is `16:30`, and not `4:30`; a true `4:30` may be answered `4:30 p.m.`."""
    if (gold.minutes, gold.seconds or 0) != (predicted.minutes, predicted.seconds or 0):
        return False
    if bool(gold.half) == bool(predicted.half):
        return _hours(gold) == _hours(predicted)
    if gold.half:  # without am or pm a time is only the same if written in 24 hours
        return predicted.hours == _hours(gold)
    return gold.hours in (_hours(predicted), predicted.hours)


def _hours(clock: Clock) -> int:
    return clock.hours % 12 + 12 * (clock.half == "pm") if clock.half else clock.hours

"""Expressions as small trees: exact value, value at a point, LaTeX for math-verify, and whether they are worked out."""

from __future__ import annotations

import cmath
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MAX_BITS = 4_000
"""Largest size of an exact value in bits; larger ones are not computed."""


@dataclass(frozen=True)
class Expr:
    """A node. `op` and what `args` holds:

    num        (Fraction, whether it was written as a decimal)
    sym        (name,)                      a variable, with its subscript and primes
    const      ("pi" | "e" | "i" | "infty" | "degree",)
    + *        terms, factors               (a difference is a sum with a `neg`)
    / ^ root   (a, b), (base, exponent), (radicand, index)
    neg abs factorial floor ceil pm mp      (a,)
    call       (function's name, *arguments)
    matrix     (rows,), each a tuple of Expr
    based      (digits, base)
    big        (command, lower or None, upper or None, body)      sum, product, integral, limit
    """

    op: str
    args: tuple[Any, ...] = ()

    def children(self) -> Iterator[Expr]:
        """The child nodes."""
        for arg in self.args:
            if isinstance(arg, Expr):
                yield arg
            elif self.op == "matrix":
                for row in arg:
                    yield from row

    def walk(self) -> Iterator[Expr]:
        """This node and all its descendants."""
        yield self
        for child in self.children():
            yield from child.walk()


def num(value: Fraction | int, decimal: bool = False) -> Expr:
    return Expr("num", (Fraction(value), decimal))


def times(a: Expr, b: Expr) -> Expr:
    return Expr("*", (a, b))


DEGREE = Expr("const", ("degree",))
INFINITY = Expr("const", ("infty",))


def symbols(expr: Expr) -> set[str]:
    """Names of the variables in an expression."""
    return {node.args[0] for node in expr.walk() if node.op == "sym"}


def has_decimal(expr: Expr) -> bool:
    """Whether any number in an expression was written as a decimal."""
    return any(node.op == "num" and node.args[1] for node in expr.walk())


def exact(expr: Expr, point: int | None = None) -> Fraction | None:
    """The value of an expression that is a rational number; None for anything else (a root, a variable, a division by zero, a
    power that is too large). With a `point`, variables have values: 31-bit numbers determined by their name and the point.
    """
    op, args = expr.op, expr.args
    if op == "num":
        return args[0]
    if op == "sym" and point is not None:
        return Fraction(1 + zlib.crc32(f"{point} {args[0]}".encode("utf-8", "replace")) % (2**31 - 1))
    if op not in ("neg", "+", "*", "/", "^", "root", "abs", "factorial"):
        return None
    values = [exact(arg, point) for arg in args]
    if any(value is None for value in values):
        return None
    first: Fraction = values[0]  # type: ignore[assignment]
    if op == "neg":
        return -first
    if op == "abs":
        return abs(first)
    if op == "factorial":
        return Fraction(math.factorial(int(first))) if first.denominator == 1 and 0 <= first <= 300 else None
    if op == "^":
        return _power(first, values[1])  # type: ignore[arg-type]
    if op == "root":
        return _root(first, values[1])  # type: ignore[arg-type]
    result = first
    for value in values[1:]:
        if op == "/":
            if not value:
                return None
            result /= value
        else:
            result = result + value if op == "+" else result * value  # type: ignore[operator]
        if _bits(result) > MAX_BITS:
            return None
    return result


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        root = _root(base, Fraction(exponent.denominator))
        return None if root is None else _power(root, Fraction(exponent.numerator))
    if (not base and exponent <= 0) or abs(exponent) * max(_bits(base), 1) > MAX_BITS:
        return None
    return base ** int(exponent)


def _root(value: Fraction, index: Fraction) -> Fraction | None:
    """The rational root of a positive number (or odd root of a negative one); None if it is not rational."""
    if index.denominator != 1 or not 2 <= index <= 100 or (value < 0 and not int(index) % 2):
        return None
    parts = []
    for part in (abs(value.numerator), value.denominator):
        root = math.isqrt(part) if index == 2 else _integer_root(part, int(index))
        if root ** int(index) != part:
            return None
        parts.append(root)
    return Fraction(-parts[0] if value < 0 else parts[0], parts[1])


def _integer_root(value: int, index: int) -> int:
    """Floor of a root, by bisection."""
    low, high = 0, 1 << (value.bit_length() // index + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**index <= value else (low, middle - 1)
    return low


_FUNCTIONS = {
    **{name: getattr(cmath, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp")},
    **{"arc" + name: getattr(cmath, "a" + name) for name in ("sin", "cos", "tan")},
    "ln": cmath.log,
    "lg": cmath.log10,
    "sec": lambda z: 1 / cmath.cos(z),
    "csc": lambda z: 1 / cmath.sin(z),
    "cot": lambda z: 1 / cmath.tan(z),
}


def approximate(expr: Expr, point: int = 0) -> complex | None:
    """The value in floating point, with variables as positive numbers determined by their name and `point`. None if there is none
    (infinity, an integral, a number that is too large). An unknown function stands for some smooth function."""
    try:
        value = complex(_approximate(expr, point))
    except (ArithmeticError, ValueError, TypeError, NotImplementedError):
        return None
    return value if cmath.isfinite(value) else None


def _approximate(expr: Expr, point: int) -> complex:
    op, args = expr.op, expr.args
    if op == "num":
        return complex(float(args[0]))
    if op == "sym":
        return complex(_sample(args[0], point))
    if op == "const":
        return _CONSTANTS[args[0]]
    if op == "call":
        name, *rest = args
        values = [_approximate(arg, point) for arg in rest]
        if name in _FUNCTIONS and len(values) == 1:
            return _FUNCTIONS[name](values[0])
        if name == "log":
            return cmath.log(values[0]) if len(values) == 1 else cmath.log(values[0]) / cmath.log(values[1])
        if name == "binom" and len(values) == 2:
            n, k = (value.real for value in values)
            return complex(math.gamma(n + 1) / math.gamma(k + 1) / math.gamma(n - k + 1))
        return sum(
            (cmath.sin(_sample(f"{name}{i}", point) * value + i) for i, value in enumerate(values, 2)), 3j
        )
    if op in ("big", "matrix", "pm", "mp", "based"):
        raise NotImplementedError
    values = [_approximate(arg, point) for arg in args]
    first = values[0]
    if op == "+":
        return sum(values)
    if op == "*":
        return math.prod(values, start=complex(1))
    if op == "/":
        return first / values[1]
    if op == "^":
        return first ** values[1]
    if op == "root":
        odd = args[1] == num(3) and not first.imag and first.real < 0
        return -((-first) ** (1 / values[1])) if odd else first ** (1 / values[1])
    if op == "factorial":
        return complex(math.gamma(first.real + 1))
    simple = {"neg": lambda: -first, "abs": lambda: complex(abs(first))}
    rounding = {
        "floor": lambda: complex(math.floor(first.real)),
        "ceil": lambda: complex(math.ceil(first.real)),
    }
    return (simple | rounding)[op]()


_CONSTANTS = {
    "pi": complex(math.pi),
    "e": complex(math.e),
    "i": 1j,
    "infty": complex(math.inf),
    "degree": complex(math.pi / 180),
}


def _sample(name: str, point: int) -> float:
    return 0.5 + 1.5 * (zlib.crc32(f"{point} {name}".encode("utf-8", "replace")) % 9973) / 9973


def names_of(*exprs: Expr) -> dict[str, str]:
    r"""LaTeX for every variable: `x_{1}`, `x_{2}`, …, so that none is mistaken for a unit, a constant or a letter of the other case."""
    found = sorted(set().union(*map(symbols, exprs)))
    return {name: f"x_{{{i}}}" for i, name in enumerate(found, 1)}


def latex(expr: Expr, names: Mapping[str, str]) -> str:
    """Unambiguous LaTeX for math-verify, with brackets around every group."""
    op, args = expr.op, expr.args
    if op == "num":
        value: Fraction = args[0]
        return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    if op == "sym":
        return names[args[0]]
    if op == "const":
        return _CONSTANT_LATEX[args[0]]
    if op == "matrix":
        rows = r"\\".join("&".join(latex(entry, names) for entry in row) for row in args[0])
        return rf"\begin{{pmatrix}}{rows}\end{{pmatrix}}"
    if op == "call":
        name, *rest = args
        return _call_latex(name, [latex(arg, names) for arg in rest])
    if op == "big":
        command, lower, upper, body = args
        scripts = "".join(
            f"{mark}{{{latex(arg, names)}}}" for mark, arg in (("_", lower), ("^", upper)) if arg
        )
        return rf"\{command}{scripts} {latex(body, names)}"
    parts = [latex(arg, names) for arg in args if isinstance(arg, Expr)]
    grouped = [_bracketed(arg, part) for arg, part in zip(args, parts, strict=False)]
    if op == "+":
        terms = [part if arg.op == "neg" else f"+{part}" for arg, part in zip(args, parts, strict=True)]
        return "".join(terms).removeprefix("+")
    if op == "*":
        factors = (
            part if arg.op in ("^", "call") else group
            for arg, part, group in zip(args, parts, grouped, strict=True)
        )
        return r" \cdot ".join(factors)
    forms = {
        "/": lambda: rf"\frac{{{parts[0]}}}{{{parts[1]}}}",
        "^": lambda: f"{grouped[0] if args[0].op != '/' else _BRACKETS.format(parts[0])}^{{{parts[1]}}}",
        "root": lambda: rf"\sqrt[{parts[1]}]{{{parts[0]}}}" if args[1] != num(2) else rf"\sqrt{{{parts[0]}}}",
        "neg": lambda: f"-{grouped[0]}",
        "abs": lambda: rf"\left|{parts[0]}\right|",
        "factorial": lambda: f"{_BRACKETS.format(parts[0])}!",
        "floor": lambda: rf"\lfloor {parts[0]} \rfloor",
        "ceil": lambda: rf"\lceil {parts[0]} \rceil",
        "pm": lambda: rf"\pm {grouped[0]}",
        "mp": lambda: rf"\mp {grouped[0]}",
        "based": lambda: rf"\text{{{args[0]}}}",
    }
    return forms[op]()


_BRACKETS = r"\left({}\right)"


def _bracketed(expr: Expr, part: str) -> str:
    """A factor, a base or a negated term, in brackets unless it is a single symbol or fraction."""
    single = (
        expr.op in ("sym", "/")
        or part in (r"\pi", "e")
        or (expr.op == "num" and part.isdigit())
        or expr.op in ("root", "abs")
    )
    return part if single else _BRACKETS.format(part)


_CONSTANT_LATEX = {
    "pi": r"\pi",
    "e": "e",
    "i": r"\left(\sqrt{-1}\right)",
    "infty": r"\infty",
    "degree": r"\frac{\pi}{180}",
}


def _call_latex(name: str, args: list[str]) -> str:
    if name == "binom" and len(args) == 2:
        return rf"\binom{{{args[0]}}}{{{args[1]}}}"
    if name == "log" and len(args) == 2:
        return rf"\log_{{{args[1]}}}\left({args[0]}\right)"
    known = name in _FUNCTIONS or name in ("log", "gcd", "max", "min")
    # An unknown function gets a letter by its name; all that matters is that both sides use the same one.
    letter = rf"\{name}" if known else f"f_{{{zlib.crc32(name.encode('utf-8', 'replace')) % 9973}}}"
    return rf"{letter}\left({','.join(args)}\right)"


def worked_out(expr: Expr, rational: bool) -> bool:
    r"""Whether a number is given as a value: a plain number, a fraction, a root or power, a multiple of one (`3 \times 10^8`).

    If the truth is irrational (`rational` False), sums, products and functions may be part of its value, but not arithmetic on
    plain numbers that could be carried out: `2 \cdot 3\sqrt{2}` is not worked out, `1 + \sqrt{2}` is. If it is rational, sums,
    products and functions are not allowed, except for one operation on a variable (`x - x` for 0).
    """
    if rational and symbols(expr):
        counted = (node for node in expr.walk() if node.op not in ("num", "sym", "const", "neg"))
        return sum(max(1, len(node.args) - 1) for node in counted) <= 1
    return all(_worked_out_node(node, rational) for node in expr.walk())


def _worked_out_node(node: Expr, rational: bool) -> bool:
    if node.op in ("factorial", "abs", "floor", "ceil", "big", "based"):
        return not rational and exact(node) is None
    if node.op == "call":
        return not rational
    if node.op == "+":
        numbers = sum(exact(arg) is not None for arg in node.args)
        return numbers < 2 and not rational
    if node.op == "*":
        flat = [exact(arg) is not None and not _is_power(arg) for arg in _factors(node)]
        return sum(flat) < 2 and (not rational or any(map(_is_power, node.args)) or len(node.args) < 2)
    if node.op == "/" and rational:
        return all(map(_is_plain, node.args))
    return True


def _factors(node: Expr) -> Iterator[Expr]:
    for arg in node.args:
        if arg.op == "*":
            yield from _factors(arg)
        else:
            yield arg


def _is_power(expr: Expr) -> bool:
    return expr.op == "^" and expr.args[0] == num(10)


def _is_plain(expr: Expr) -> bool:
    return expr.op in ("num", "root", "^") or (expr.op == "neg" and _is_plain(expr.args[0]))

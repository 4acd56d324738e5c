"""Presentation MathML to TeX, for formulas of pages that carry no TeX of their own (`alttext`, an annotation).

Elements of MathML Core (https://www.w3.org/TR/mathml-core/) that place their parts are written as TeX commands; letters and
signs stay the Unicode characters that they are (α, ≤), as LuaTeX, XeTeX and MathJax read them. An element that is not known
gives its children in order, so that no letter is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

FUNCTIONS = frozenset(
    [
        "arccos",
        "arcsin",
        "arctan",
        "arg",
        "cos",
        "cosh",
        "cot",
        "coth",
        "csc",
        "deg",
        "det",
        "dim",
        "exp",
        "gcd",
        "hom",
        "inf",
        "ker",
        "lg",
        "lim",
        "ln",
        "log",
        "max",
        "min",
        "sec",
        "sin",
        "sinh",
        "sup",
        "tan",
        "tanh",
    ]
)
ACCENTS = {
    "¯": "overline",
    "‾": "overline",
    "^": "hat",
    "ˆ": "hat",
    "~": "tilde",
    "˜": "tilde",
    "→": "vec",
    "˙": "dot",
    "⏞": "overbrace",
}
_INVISIBLE = dict.fromkeys(range(0x2061, 0x2065))
DEEPEST = 60
"""Levels of nesting that are followed; what lies deeper is taken as text."""

Node = Any
"""An element of resiliparse's tree."""


def tex(node: Node, depth: int = 0) -> str:
    """TeX of a MathML element, without dollars."""
    name = (node.tag or "").removeprefix("m:").removeprefix("mml:")
    if name in ("mi", "mn", "mo", "mtext", "ms") or depth > DEEPEST:
        return _token(name, node.text)
    if name in ("annotation", "annotation-xml", "mphantom", "none", "mprescripts"):
        return ""
    parts = [tex(child, depth + 1) for child in children(node)]
    made = _ELEMENTS.get(name, _joined)(parts, node)
    return made if parts else _token("mtext", node.text) if name not in ("mspace", "math") else " "


def children(node: Node) -> list[Node]:
    """Child elements."""
    return [child for child in node.child_nodes if child.tag and not child.tag.startswith(("#", "!"))]


def _token(name: str, text: str) -> str:
    text = " ".join(text.translate(_INVISIBLE).split())
    if name == "mtext":
        return rf"\text{{{text}}}" if text else ""
    if name == "mi" and len(text) > 1 and text.isalpha():
        return f"\\{text} " if text in FUNCTIONS else rf"\mathrm{{{text}}}"
    return re.sub(r"([%#&_{}$])", r"\\\1", text)


def _joined(parts: list[str], node: Node) -> str:
    return "".join(parts)


def _script(*signs: str) -> Callable[[list[str], Node], str]:
    """A base with parts under or over it: x_{i}^{2}."""

    def made(parts: list[str], node: Node) -> str:
        base, *rest = parts
        accent = ACCENTS.get(rest[0].strip()) if rest and node.tag.endswith("mover") else None
        if accent:
            return rf"\{accent}{{{base}}}"
        base = (
            base
            if len(base.strip()) == 1 or (base.startswith("\\") and base.strip()[1:].isalpha())
            else f"{{{base}}}"
        )
        return base.strip() + "".join(f"{sign}{{{part}}}" for sign, part in zip(signs, rest))

    return made


def _fraction(parts: list[str], node: Node) -> str:
    top, bottom = (*parts, "", "")[:2]
    name = "binom" if (node.getattr("linethickness") or "").startswith("0") else "frac"
    return rf"\{name}{{{top}}}{{{bottom}}}"


def _root(parts: list[str], node: Node) -> str:
    base, index = (*parts, "", "")[:2]
    return rf"\sqrt[{index}]{{{base}}}"


def _fenced(parts: list[str], node: Node) -> str:
    opening, closing = node.getattr("open") or "(", node.getattr("close") or ")"
    return f"{opening}{','.join(parts)}{closing}"


_ELEMENTS: dict[str, Callable[[list[str], Node], str]] = {
    "mfrac": _fraction,
    "msqrt": lambda parts, node: rf"\sqrt{{{''.join(parts)}}}",
    "mroot": _root,
    "msup": _script("^"),
    "msub": _script("_"),
    "msubsup": _script("_", "^"),
    "mover": _script("^"),
    "munder": _script("_"),
    "munderover": _script("_", "^"),
    "mfenced": _fenced,
    "semantics": lambda parts, node: parts[0],
    "mtable": lambda parts, node: r"\begin{matrix} " + r" \\ ".join(parts) + r" \end{matrix}",
    "mtr": lambda parts, node: " & ".join(parts),
    "mspace": lambda parts, node: " ",
}

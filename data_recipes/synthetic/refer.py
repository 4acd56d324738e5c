"""Referring expressions that match exactly one figure, whether relations are read strictly or loosely."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from data_recipes.synthetic.figures import Box, Figure
from data_recipes.synthetic.shapes.tasks import plural

RELATIONS: dict[str, tuple[Callable[[Box, Box], bool], Callable[[Box, Box], bool]]] = {
    "to the left of": (lambda a, b: a[2] <= b[0], lambda a, b: a[0] + a[2] < b[0] + b[2]),
    "to the right of": (lambda a, b: a[0] >= b[2], lambda a, b: a[0] + a[2] > b[0] + b[2]),
    "above": (lambda a, b: a[3] <= b[1], lambda a, b: a[1] + a[3] < b[1] + b[3]),
    "below": (lambda a, b: a[1] >= b[3], lambda a, b: a[1] + a[3] > b[1] + b[3]),
}
"""Relation -> (strict: the whole box is on that side, loose: its centre is). The target satisfies the relation strictly; no
other figure with the same attributes satisfies it even loosely."""
EXTREMES: dict[str, Callable[[Box], float]] = {
    "leftmost": lambda b: b[0],
    "rightmost": lambda b: -b[2],
    "topmost": lambda b: b[1],
    "bottommost": lambda b: -b[3],
}
"""Word -> sort key, a side of the box: the target has the smallest value, by at least MARGIN pixels."""
MARGIN = 6


@dataclass(frozen=True)
class Query:
    """Attributes ("" for any), and optionally a relation to another unambiguous query, or an extreme word."""

    size: str = ""
    colour: str = ""
    shape: str = ""
    relation: str = ""
    anchor: Query | None = None
    extreme: str = ""

    @property
    def text(self) -> str:
        words = " ".join(w for w in (self.extreme, self.size, self.colour, self.shape or "figure") if w)
        return f"{words} {self.relation} the {self.anchor.text}" if self.anchor else words

    @property
    def plural_text(self) -> str:
        return " ".join(w for w in (self.size, self.colour, plural(self.shape or "figure")) if w)

    def alike(self, figures: Sequence[Figure]) -> list[Figure]:
        """Figures with these attributes, regardless of position."""
        return [
            f
            for f in figures
            if (self.size in ("", f.size))
            and (self.colour in ("", f.colour))
            and (self.shape in ("", f.shape))
        ]


def meant(query: Query, figures: Sequence[Figure]) -> Figure | None:
    """The figure that the query matches; None if it matches none or several, or is ambiguous."""
    alike = query.alike(figures)
    if query.extreme:
        key = EXTREMES[query.extreme]
        ordered = sorted(alike, key=lambda f: key(f.box))
        clear = len(ordered) > 1 and key(ordered[1].box) - key(ordered[0].box) >= MARGIN
        return ordered[0] if clear else None
    if query.anchor is None:
        return alike[0] if len(alike) == 1 else None
    anchor = meant(query.anchor, figures)
    if anchor is None:
        return None
    strict, loose = RELATIONS[query.relation]
    candidates = [f for f in alike if f != anchor and loose(f.box, anchor.box)]
    return candidates[0] if len(candidates) == 1 and strict(candidates[0].box, anchor.box) else None


def describe(
    rng: random.Random, figures: Sequence[Figure], style: str, targets: Sequence[Figure] | None = None
) -> tuple[Query, Figure] | None:
    """The shortest query of the given style that matches exactly one of the targets (default: any figure).

    style: `attributes`, `relation` or `extreme`; the last two only for figures that attributes alone do not identify.
    """
    order = list(figures if targets is None else targets)
    rng.shuffle(order)
    for target in order:
        queries = [q for q in attribute_queries(target) if q.shape or q.colour]
        if style == "attributes":
            found = [q for q in queries if meant(q, figures) == target]
        else:
            vague = [q for q in queries if len(q.alike(figures)) > 1]
            found = [
                q
                for base in vague
                for q in _located(rng, base, target, figures, style)
                if meant(q, figures) == target
            ]
        if found:
            fewest = min(_words(q) for q in found)
            return rng.choice([q for q in found if _words(q) == fewest]), target
    return None


def attribute_queries(figure: Figure) -> list[Query]:
    """All combinations of the figure's attributes, including the empty one."""
    sizes = ("", figure.size) if figure.size else ("",)
    return [Query(s, c, h) for s, c, h in product(sizes, ("", figure.colour), ("", figure.shape))]


def _located(
    rng: random.Random, base: Query, target: Figure, figures: Sequence[Figure], style: str
) -> list[Query]:
    if style == "extreme":
        return [replace(base, extreme=word) for word in EXTREMES]
    anchors = [q for f in figures if f != target for q in attribute_queries(f) if q.colour and q.shape]
    anchors = [q for q in dict.fromkeys(anchors) if meant(q, figures) is not None]
    shown = rng.sample(anchors, min(4, len(anchors)))
    return [replace(base, relation=relation, anchor=anchor) for anchor in shown for relation in RELATIONS]


def _words(query: Query) -> int:
    return len(query.text.split())

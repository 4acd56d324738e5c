"""Brackets: groups, tuples, intervals, sets, lists, absolute values, matrices and lines of equations."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

from rewards.mathematics.expressions import Expr
from rewards.mathematics.number_grammar import NumberParser
from rewards.mathematics.tokens import Token, Unreadable
from rewards.mathematics.values import Quantity, Sequence, Value

_MATRICES = {"matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "smallmatrix", "array"}
_LINES = {"cases", "aligned", "align", "align*", "gathered", "split", "rcases", "dcases"}


class BracketParser(NumberParser):
    """Reads brackets and environments."""

    @abstractmethod
    def whole(self) -> Value:
        """The value of all tokens. Raises Unreadable if any are left."""

    @abstractmethod
    def answer(self) -> Value:
        """The value up to a closing bracket or the end."""

    @abstractmethod
    def expression(self) -> Expr:
        """A sum that is an expression and not a list."""

    def brackets(self) -> Expr | Value:
        """A group (its expression), a tuple, an interval, a set, a list; set-builder notation is a relation."""
        left = self.take().text
        closers = {"(": (")", "]"), "[": ("]", ")"), "{": ("}",), "\\{": ("\\}",), "langle": ("rangle",)}[
            left
        ]
        outer_bars, self.bars = self.bars, 0
        if left == "\\{":
            if self.accept("\\}"):
                return Sequence(left, (), "\\}")
            outer, self.in_set_builder = self.in_set_builder, True
        value = self.answer()
        if left == "\\{":
            self.in_set_builder = outer
            if self.accept("mid", "|", ":"):
                value = self.answer()  # {x | x > 3} is read as x > 3
                self.expect("\\}")
                self.bars = outer_bars
                return value
        right = self.expect(*closers)
        self.bars = outer_bars
        bare = isinstance(value, Sequence) and not value.left
        if left == "{":
            return value.expr if isinstance(value, Quantity) and value.unit is None else value
        if not bare and left in "([" and right == {"(": ")", "[": "]"}[left]:
            return _grouped(value)
        items = cast(Sequence, value).items if bare else (value,)
        if left in "([" and len(items) == 1:
            raise Unreadable("brackets that do not match")
        left, right = ("<", ">") if left == "langle" else (left, right)
        return Sequence(left, items, right)

    def bar_group(self) -> Expr:
        self.take()
        self.bars += 1
        inner = self.expression()
        self.expect("|")
        self.bars -= 1
        return Expr("abs", (inner,))

    def environment(self) -> Expr | Value:
        name = self.take().text
        if name in _LINES:
            return self.lines()
        if name not in _MATRICES:
            raise Unreadable(f"environment {name}")
        rows: list[list[Expr]] = [[self.expression()]]
        while self.kind() != "end":
            if self.accept("&"):
                rows[-1].append(self.expression())
            else:
                self.expect("\\")
                if self.kind() != "end":
                    rows.append([self.expression()])
        self.take()
        if len({len(row) for row in rows}) != 1:
            raise Unreadable("rows of different lengths")
        matrix = Expr("matrix", (tuple(map(tuple, rows)),))
        return Expr("call", ("det", matrix)) if name == "vmatrix" else matrix

    def lines(self) -> Value:
        """The lines of an environment such as `cases`, as a list."""
        items: list[Value] = []
        end = next((i for i in range(self.at, len(self.tokens)) if self.tokens[i].kind == "end"), None)
        if end is None:
            raise Unreadable("an environment is not closed")
        line: list[Token] = []
        for token in [*self.tokens[self.at : end], Token("command", "\\")]:
            if token.text == "\\" and token.kind == "command":
                if line:
                    inner = type(self)(line, self.letters_are_units).whole()
                    items.extend(inner.items if isinstance(inner, Sequence) and not inner.left else [inner])
                line = []
            elif token.text != "&":
                line.append(token)
        self.at = end + 1
        return items[0] if len(items) == 1 else Sequence("", tuple(items), "")


def _grouped(value: Value) -> Expr | Value:
    """The meaning of brackets around one value: its expression if it has no unit, else the value itself."""
    return value.expr if isinstance(value, Quantity) and value.unit is None else value

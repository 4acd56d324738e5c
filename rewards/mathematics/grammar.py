r"""A recursive-descent parser from tokens to a typed value. Raises Unreadable for what it cannot read as a whole.

    answer   := group (";" group)*                 group := item (("," | "and" | "or") item)*
    item     := [relation] side (relation side)*   relation := = < > \le \ge \ne \approx \in …
    side     := operand ((\cup | \cap | \setminus) operand)*
    operand  := clock | words | [money] sum [unit] (":" sum)*
    sum      := term (("+" | "-" | \pm | \mp) term)*
    term     := factor (("*" | "/" | nothing) factor)*
    factor   := atom ("^" … | "_" … | "!" | "'")*
    atom     := number | mixed number | variable | \frac … | function | brackets | |…| | matrix

Juxtaposed factors multiply; a whole number before a numeric fraction is a mixed number; `a/bc` is (a/b)c, noted as `ambiguous`.
A letter that is a unit's symbol is that unit if it is set apart at the end (`5 m`; `5m` and `4t` are products).
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from rewards.mathematics.expression_grammar import MAX_DEPTH, SIGN_WORDS, ExpressionParser
from rewards.mathematics.expressions import DEGREE, Expr, num
from rewards.mathematics.tokens import RELATIONS, UNION, Unreadable
from rewards.mathematics.units import REFUSED, Unit, money, read_unit
from rewards.mathematics.values import Chain, Clock, Quantity, Ratio, Sequence, Value, Words
from rewards.reading.text import plain_text


class Parser(ExpressionParser):
    """Reads a list of tokens as an answer (`whole`)."""

    def whole(self) -> Value:
        """The value of all tokens. Raises Unreadable if any are left."""
        value = self.answer()
        if self.peek() is not None:
            raise Unreadable(f"{self.text()} is left over")
        return value

    def answer(self) -> Value:
        groups = [self.group()]
        while self.accept(";"):
            groups.append(self.group())
        if any(len({isinstance(item, Words) for item in group}) > 1 for group in groups):
            raise Unreadable("words and mathematics mixed")
        if len(groups) == 1:
            return groups[0][0] if len(groups[0]) == 1 else Sequence("", tuple(groups[0]), "")
        items = (group[0] if len(group) == 1 else Sequence("", tuple(group), "") for group in groups)
        return Sequence("", tuple(items), "")

    def group(self) -> list[Value]:
        items = [self.item()]
        while self.at_separator():
            while self.at_separator():
                self.at += 1
            items.append(self.item())
        return items

    def item(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        members: list[Value | None] = [None if self.relation_ahead() else self.side()]
        relations = []
        while self.relation_ahead():
            relations.append(self.take().text)
            members.append(self.side())
        self.depth -= 1
        if not set(relations) <= {"=", "approx"} and any(isinstance(member, Words) for member in members):
            raise Unreadable("words and mathematics mixed")
        if not relations:
            return cast(Value, members[0])
        if members[0] is None and len(members) == 2 and relations[0] in ("approx", "sim", "="):
            return cast(Value, members[1])  # `= 5`, `\approx 5`
        return Chain(tuple(members), tuple(relations))

    def relation_ahead(self) -> bool:
        return self.text() in RELATIONS and self.kind() in ("op", "command")

    def side(self) -> Value:
        value = self.operand()
        while self.text() in UNION:
            operator = self.take().text
            value = Sequence(operator, (value, self.operand()), operator)
        return value

    def operand(self) -> Value:
        clock = self.clock()
        if clock is not None:
            return clock
        if self.kind() == "word" and self.text() not in SIGN_WORDS and self.half() is None:
            prefix = money(self.text())
            letter = len(self.text()) == 1 and self.text().isascii() and self.kind(1) != "word"  # \text{E}
            if not letter and (prefix is None or self.kind(1) != "num"):
                return self.words()
        unit = self.prefix()
        expr = self.sum()
        if not isinstance(expr, Expr):
            return expr
        if self.accept("over"):  # {3 \over 4}
            expr = Expr("/", (expr, self.expression()))
        return self.quantity(expr, unit)

    def words(self) -> Value:
        """Words to the end of the item: a text, or the name of a value (`Area = 12`)."""
        start = self.at
        while not self.at_boundary():
            token = self.take()
            if token.kind not in ("word", "letter") and token.text not in ("-", "'", "."):
                raise Unreadable("words and mathematics mixed")
        return Words(plain_text(" ".join(token.text for token in self.tokens[start : self.at])))

    def clock(self) -> Value | None:
        """`4:30`, `4:30 pm`, `4 pm`, `4 oclock`; None if there is no time at this position."""
        halves = ("am", "pm")
        if self.kind() == "clock":
            parts = self.take().value
            half = self.take().text.lower() if self.kind() == "word" and self.text().lower() in halves else ""
            seconds = Fraction(parts[2]) if len(parts) == 3 else None
            if int(parts[1]) > 59 or (seconds or 0) >= 60:
                return Ratio(tuple(num(Fraction(part)) for part in parts))
            if not self.at_boundary():
                self.take_noise("hours", "hour", "h", "minutes", "min")
            return Clock(int(parts[0]), int(parts[1]), seconds, half)
        if self.kind() == "num" and self.kind(1) == "word" and self.text(1).lower() in (*halves, "oclock"):
            value, decimal, _ = self.take().value
            half = self.take().text.lower()
            if decimal or not 0 <= value <= 24:
                raise Unreadable("not an hour")
            return Clock(int(value), 0, None, half if half in halves else "")
        return None

    def take_noise(self, *words: str) -> None:
        if self.text() in words:
            self.at += 1

    def prefix(self) -> Unit | None:
        """A currency sign or code before a number, possibly after a minus sign; its token is removed."""
        ahead = 1 if self.text() == "-" else 0
        token = self.peek(ahead)
        unit = (
            money(token.text)
            if token is not None and (token.kind == "word" or token.text in "$€£¥₹")
            else None
        )
        if unit is None:
            return None
        del self.tokens[self.at + ahead]
        return unit

    def quantity(self, expr: Expr, unit: Unit | None) -> Value:
        """A value with what follows its expression: a unit, more quantities of the same kind (`5 ft 6 in`), or terms of a ratio."""
        if expr.op == "*" and expr.args[-1] == DEGREE and len(expr.args) == 2:
            expr, unit = expr.args[0], Unit(dimensions=(("angle", 1),))
            if self.kind() in ("letter", "word") and self.text().lower() in (
                "c",
                "f",
                "celsius",
                "fahrenheit",
            ):
                unit = Unit(dimensions=((f"deg{self.take().text[0].upper()}", 1),))
        label = self.label()
        if label is not None and label.nouns and not any(node.op in ("num", "const") for node in expr.walk()):
            raise Unreadable("words behind a variable")
        if label is not None:
            unit = label if unit is None else _money_and_label(unit, label)
        while unit is not None and self.kind() == "num":
            expr, unit = self.compound(expr, unit)
        if (self.text() == ":" and not self.in_set_builder) or (
            self.kind() == "word" and self.text() == "to"
        ):
            terms = [expr]
            while self.accept(":", "to"):
                term = self.sum()
                if not isinstance(term, Expr):
                    raise Unreadable("a ratio of something other than numbers")
                terms.append(term)
            named = [term.op == "sym" for term in terms]
            if unit is None and self.at_boundary() and (all(named) or not any(named)):
                return Ratio(tuple(terms))
            raise Unreadable("a range")
        if not self.at_boundary():
            raise Unreadable(f"{self.text()} follows a value")
        return Quantity(expr, unit)

    def label(self) -> Unit | None:
        token = self.peek()
        if token is None or self.at_separator() or not self.unit_may_start(token):
            return None
        found = read_unit(self.tokens, self.at)
        if found is None:
            return None
        unit, end = found
        after = self.tokens[end] if end < len(self.tokens) else None
        if after is not None and after.kind == "word" and after.text.lower() in REFUSED:
            raise Unreadable(f"{after.text} follows a value")
        self.at = end
        return unit

    def compound(self, expr: Expr, unit: Unit) -> tuple[Expr, Unit]:
        """Add the next quantity, which must have the same dimensions and a smaller unit: `5 ft 6 in`, `1 h 30 min`."""
        value, _, _ = self.take().value
        smaller = self.label()
        if (
            smaller is None
            or smaller.dimensions != unit.dimensions
            or smaller.factor >= unit.factor
            or smaller.nouns
        ):
            raise Unreadable("two numbers beside each other")
        return Expr("+", (expr, num(value * smaller.factor / unit.factor))), unit


def _money_and_label(money_unit: Unit, label: Unit) -> Unit:
    """`$5 million`, `$5 dollars`, `$12 per hour`."""
    if label.dimensions and label.dimensions == money_unit.dimensions:
        return money_unit
    return money_unit.times(label)

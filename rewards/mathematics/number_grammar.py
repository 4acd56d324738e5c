r"""Numbers: whole, decimal, mixed (`2\frac{1}{2}`, `2 1/2`), and with words (`3 million`, `3 quarters`, `2 and a half`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import cast

from rewards.mathematics.expressions import Expr, num
from rewards.mathematics.tokens import Token, TokenStream
from rewards.mathematics.units import SCALES

_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}
_PARTS |= {word + "s": value for word, value in _PARTS.items() if word not in ("half", "halves")}


class NumberParser(TokenStream, ABC):
    """Reads numbers."""

    @abstractmethod
    def argument(self, exponent: bool = False) -> Expr:
        """The argument of a command: a group or one token."""

    def digit(self) -> Expr:
        """One argument of `\\frac`; in `\\frac34` each is one digit."""
        token = self.peek()
        if (
            token is not None
            and token.kind == "num"
            and token.value[2]
            and len(token.text) > 1
            and token.text.isdigit()
        ):
            first, rest = token.text[0], token.text[1:]
            value = Fraction(int(rest)), False, rest
            self.tokens[self.at] = Token("num", rest, False, value)
            return num(int(first))
        return self.argument()

    def half(self) -> int | None:
        """The number of words if the next ones are `half` or `a half`, else None."""
        for words in (("half",), ("a", "half")):
            if tuple(self.text(i).lower() for i in range(len(words))) == words and self.text(
                len(words)
            ) not in ("of", "an"):
                return len(words)
        return None

    def number(self) -> Expr:
        value, decimal, digits = self.take().value
        if digits and (fraction := self.mixed()) is not None:
            return num(value + fraction)
        if digits and (part := self.spoken_part()) is not None:
            return num(part[0] + part[1] * value)
        scale = self.peek()
        if scale is not None and scale.kind == "word" and scale.text.lower() in SCALES:
            self.at += 1
            return num(value * SCALES[scale.text.lower()], decimal)
        return num(value, decimal)

    def spoken_part(self) -> tuple[Fraction, Fraction] | None:
        """(sum, factor) for a number before `quarters` (of `3 quarters`) or `and a half`; None if no such words follow."""
        words = [self.text(i).lower() for i in range(3)]
        if self.kind() == "word" and words[0] in _PARTS:
            self.at += 1
            return Fraction(0), Fraction(1, _PARTS[words[0]])
        if words[0] == "and" and words[1] in ("a", "1") and words[2] in _PARTS:
            self.at += 3
            return Fraction(1, _PARTS[words[2]]), Fraction(1)
        return None

    def mixed(self) -> Fraction | None:
        """The fraction below one that follows a whole number in `2\\frac{1}{2}` or `2 1/2`; None, with nothing read, if there is none."""
        here, token = self.at, self.peek()
        if token is None:
            return None
        if token.text == "frac" and token.kind == "command":
            saved = list(self.tokens)
            self.at += 1
            top, bottom = self.digit(), self.digit()
            if top.op == bottom.op == "num" and bottom.args[0] > 0 and top.args[0] < bottom.args[0]:
                return top.args[0] / bottom.args[0]
            self.at, self.tokens = here, saved
            if top.op == bottom.op == "num":
                self.ambiguous.append("a mixed number or a product")
        elif token.kind == "num" and token.spaced and self.text(1) == "/" and self.kind(2) == "num":
            top, bottom = token.value[0], cast(Token, self.peek(2)).value[0]
            if 0 < top < bottom:
                self.at += 3
                return top / bottom
        return None

"""Tokens of a mathematical text, and a position in a list of them: the base of the parser (`grammar.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RELATIONS = {"=", "<", ">", "le", "ge", "ne", "approx", "sim", "in", "notin", "equiv", "cong", "propto"}
UNION = {"cup", "cap", "setminus"}
CLOSERS = {")", "]", "\\}", "}", "|", "rangle", "rfloor", "rceil", "&", "\\", "mid"}


class Unreadable(Exception):
    """The text cannot be read as a whole as a mathematical answer."""


@dataclass(frozen=True)
class Token:
    """One token: `kind` (num, letter, word, command, begin, end, clock, op), its text, and whether white space stood before it.

    num: `value` is (Fraction, whether written as a decimal, the digits). clock: (hours, minutes, seconds or None).
    word: two or more letters that are not a product of variables, or any letters inside `\\text{…}`, in their own case.
    """

    kind: str
    text: str
    spaced: bool = False
    value: Any = None


class TokenStream:
    """A list of tokens and the position up to which it is read.

    letters_are_units: False reads single letters as variables everywhere. `ambiguous` collects what could be read in two ways.
    """

    def __init__(self, tokens: list[Token], letters_are_units: bool = True) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0  # absolute-value bars that are open
        self.letters_are_units = letters_are_units
        self.ambiguous: list[str] = []
        self.in_set_builder = False

    def peek(self, ahead: int = 0) -> Token | None:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def text(self, ahead: int = 0) -> str:
        token = self.peek(ahead)
        return token.text if token is not None else ""

    def kind(self, ahead: int = 0) -> str:
        token = self.peek(ahead)
        return token.kind if token is not None else ""

    def take(self) -> Token:
        token = self.peek()
        if token is None:
            raise Unreadable("it ends too early")
        self.at += 1
        return token

    def accept(self, *texts: str) -> bool:
        if self.text() in texts and self.peek() is not None:
            self.at += 1
            return True
        return False

    def expect(self, *texts: str) -> str:
        token = self.take()
        if token.text not in texts:
            raise Unreadable(f"expected {' or '.join(texts)}, got {token.text}")
        return token.text

    def at_boundary(self) -> bool:
        """Whether an item may end here."""
        token = self.peek()
        return token is None or self.at_separator() or token.text in RELATIONS | CLOSERS | UNION | {":", ";"}

    def at_separator(self) -> bool:
        return self.text() == "," or (self.kind() == "word" and self.text() in ("and", "or"))

    def script(self) -> str:
        """A subscript, as text."""
        if self.text() != "{":
            return self.take().text
        depth, parts = 0, []
        while True:
            token = self.take()
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            parts.append(token.text)
            if not depth:
                return "".join(parts[1:-1])

"""Expressions: sums, products, powers, functions and variables."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from rewards.mathematics.bracket_grammar import BracketParser
from rewards.mathematics.expressions import DEGREE, Expr, exact, num, times
from rewards.mathematics.markup import FUNCTIONS
from rewards.mathematics.tokens import CLOSERS, RELATIONS, UNION, Token, Unreadable
from rewards.mathematics.units import read_unit
from rewards.mathematics.values import Value

MAX_DEPTH = 30
KNOWN_NAMES = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda",
    "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "ell", "hbar",
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
    "emptyset", "ldots", "partial", "nabla", "aleph",
}  # fmt: skip
"""Names of LaTeX symbols that are variables."""
_ACCENTS = {"overline", "bar", "hat", "widehat", "vec", "tilde", "dot", "ddot", "overrightarrow", "overset", "mathbb", "mathcal", "mathfrak"}  # fmt: skip
_ENDS_PRODUCT = {"pm", "mp", "to", "Rightarrow", "circ", "%", "over"}
_NOT_VALUES = {"land", "lnot", "to", "Rightarrow", "Leftrightarrow", "forall", "exists", "cancel", "circ", "%", "&", "\\"}  # fmt: skip
_SHAPES = {"angle", "triangle", "square", "widehat"}
_BIG = {"sum", "prod", "int", "lim", "iint", "oint"}
SIGN_WORDS = {"negative": "-", "minus": "-", "positive": "+"}
_CALLED = set("fghFGHPQEu")
"""Letters that name a function if a bracket follows directly."""


class ExpressionParser(BracketParser):
    """Reads expressions."""

    def sum(self) -> Expr | Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        terms: list[Expr] = []
        sign = self.sign()
        while True:
            term = self.term()
            if not isinstance(term, Expr):
                if terms or sign:
                    raise Unreadable("arithmetic on a list")
                self.depth -= 1
                return term
            for operator in reversed(sign):
                if operator != "+":
                    term = Expr({"-": "neg", "pm": "pm", "mp": "mp"}[operator], (term,))
            terms.append(term)
            if self.text() not in ("+", "-", "pm", "mp") or self.kind() == "word":
                break
            self.note_range(terms)
            sign = self.sign()
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Expr("+", tuple(terms))

    def sign(self) -> list[str]:
        signs = []
        while self.text() in ("+", "-", "pm", "mp", *SIGN_WORDS):
            text = self.take().text
            signs.append(SIGN_WORDS.get(text, text))
        if len(signs) > 4:
            raise Unreadable("too many signs")
        return signs

    def note_range(self, terms: list[Expr]) -> None:
        """Note that `12-15`, two numbers with nothing around them, may be a difference or a range."""
        bare = len(terms) == 1 and self.at == 1 and self.text() == "-" and len(self.tokens) == 3
        if bare and self.kind(1) == "num" and terms[0].op == "num":
            self.ambiguous.append("a difference or a range")

    def term(self) -> Expr | Value:
        first = self.factor()
        if not isinstance(first, Expr):
            return first
        result, slashed = first, False
        while True:
            token = self.peek()
            if token is None:
                return result
            if self.times_sign(token):
                self.at += 1
                result, slashed = _product(result, self.operand_factor()), False
            elif token.text in ("/", "div") and token.kind in ("op", "command"):
                self.at += 1
                result, slashed = Expr("/", (result, self.operand_factor())), token.text == "/"
            elif self.factor_starts(token):
                if slashed:
                    self.ambiguous.append("a/bc: (a/b)c or a/(bc)")
                result = _product(result, self.operand_factor())
            else:
                return result

    def times_sign(self, token: Token) -> bool:
        if token.kind == "letter" and token.text in ("x", "X"):  # `3 x 10^8`
            return self.at > 0 and self.tokens[self.at - 1].kind == "num" and self.kind(1) == "num"
        return token.text in ("*", "times", "cdot") and token.kind in ("op", "command")

    def operand_factor(self) -> Expr:
        sign = self.sign()
        factor = self.factor()
        if not isinstance(factor, Expr):
            raise Unreadable("arithmetic on a list")
        return Expr("neg", (factor,)) if sign.count("-") % 2 else factor

    def factor_starts(self, token: Token) -> bool:
        """Whether a token continues a product without a multiplication sign."""
        if token.kind == "num":
            return self.tokens[self.at - 1].kind not in ("num",) and not token.spaced
        if token.kind == "letter":
            return not self.unit_ahead()
        if token.kind == "command":
            return token.text not in RELATIONS | UNION | CLOSERS | _ENDS_PRODUCT
        if token.kind == "begin":
            return True
        return token.text in ("(", "[", "{") or (token.text == "|" and self.bars == 0)

    def unit_may_start(self, token: Token) -> bool:
        """Whether a unit may begin with this token: a letter only after white space or with a power attached (`m2`)."""
        if token.kind == "letter":
            powered = (
                self.kind(1) == "num" and self.text(1) in ("2", "3") and not cast(Token, self.peek(1)).spaced
            )
            return self.letters_are_units and (token.spaced or powered)
        return token.kind == "word" or token.text in ("%", "$", "€", "£", "¥", "₹", "mu")

    def unit_ahead(self) -> bool:
        """Whether the next letter is a unit that ends the item."""
        token = cast(Token, self.peek())
        before = self.tokens[self.at - 1]
        if not self.unit_may_start(token) or not (before.kind == "num" or before.text in ("}", ")", "pi")):
            return False
        found = read_unit(self.tokens, self.at)
        if found is None:
            return False
        here, self.at = self.at, found[1]
        ends = self.at_boundary() or self.kind() == "num"
        self.at = here
        return ends

    def factor(self) -> Expr | Value:
        value = self.atom()
        while isinstance(value, Expr):
            token = self.peek()
            if token is None:
                break
            if token.text == "^":
                value = self.raised(value)
            elif token.text == "_" and value.op == "num":
                self.at += 1
                value = Expr("based", (self.tokens[self.at - 2].text, self.script()))
            elif token.text == "!" and self.text(1) != "!":
                self.at += 1
                value = Expr("factorial", (value,))
            else:
                break
        return value

    def raised(self, base: Expr) -> Expr:
        self.at += 1
        if self.accept("circ"):
            return times(base, DEGREE)
        if [self.text(i) for i in range(3)] == ["{", "circ", "}"]:
            self.at += 3
            return times(base, DEGREE)
        return Expr("^", (base, self.argument(exponent=True)))

    def argument(self, exponent: bool = False) -> Expr:
        """The argument of `^`, `\\frac` or `\\sqrt`: a group or one token (one digit in `\\frac12`)."""
        if self.text() == "{":
            value = self.brackets()
        elif exponent and self.text() in ("-", "+"):
            negative = self.take().text == "-"
            inner = self.argument()
            return Expr("neg", (inner,)) if negative else inner
        elif exponent and self.text() == "(":
            value = self.brackets()
        else:
            value = self.atom()
        if not isinstance(value, Expr):
            raise Unreadable("a list where a number was expected")
        return value

    def atom(self) -> Expr | Value:
        token = self.peek()
        if token is None:
            raise Unreadable("it ends too early")
        if token.kind == "num":
            return self.number()
        if token.kind == "word" or self.half() is not None:
            return self.word_atom()
        if token.kind == "letter":
            return self.variable(self.take().text)
        if token.kind == "begin":
            return self.environment()
        if token.text in ("(", "[", "{", "\\{", "langle") or token.text == "|":
            return self.brackets() if token.text != "|" else self.bar_group()
        if token.kind == "command":
            self.at += 1
            return self.command(token.text)
        raise Unreadable(f"{token.text} is not a value")

    def word_atom(self) -> Expr:
        half = self.half()
        if half is not None:
            self.at += half
            return num(Fraction(1, 2))
        token = self.take()
        if len(token.text) == 1 and token.text.isascii():
            return self.variable(token.text)
        raise Unreadable("a word among mathematics")

    def variable(self, name: str) -> Expr:
        """A letter with its subscript and primes; `e` and `i` are constants; a function's name with a bracket is a call."""
        while True:
            if self.text() == "_" and self.kind() == "op":
                self.at += 1
                name += "_" + self.script()
            elif self.text() == "'":
                self.at += 1
                name += "'"
            else:
                break
        if name in ("e", "i"):
            return Expr("const", (name,))
        token = self.peek()
        if token is not None and token.text == "(" and not token.spaced and name[0] in _CALLED:
            return Expr("call", (name, *self.arguments()))
        if (
            name[0] in _CALLED
            and [self.text(i) for i in range(5)] == ["^", "{", "-", "1", "}"]
            and self.text(5) == "("
        ):
            self.at += 5
            return Expr("call", (name + "^-1", *self.arguments()))
        return Expr("sym", (name,))

    def arguments(self) -> list[Expr]:
        """Arguments in brackets."""
        self.expect("(")
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        self.expect(")")
        return found

    def expression(self) -> Expr:
        value = self.sum()
        if not isinstance(value, Expr):
            raise Unreadable("a list where a number was expected")
        return value

    def command(self, name: str) -> Expr | Value:
        if name == "frac":
            top = self.digit()
            return Expr("/", (top, self.digit()))
        if name == "sqrt":
            return self.root()
        if name == "binom":
            top = self.digit()
            return Expr("call", ("binom", top, self.digit()))
        if name == "pi":
            return Expr("const", ("pi",))
        if name == "infty":
            return Expr("const", ("infty",))
        if name in FUNCTIONS:
            return self.function(name)
        if name in KNOWN_NAMES:
            return self.variable("\\" + name)
        if name in _SHAPES and self.kind() == "letter":
            letters = [name]
            while self.kind() == "letter" and (len(letters) == 1 or not cast(Token, self.peek()).spaced):
                letters.append(self.take().text)
            return Expr("sym", ("".join(letters),))
        if name in _ACCENTS:
            return self.variable(f"{name} {self.script()}")
        if name in ("lfloor", "lceil"):
            inner = self.expression()
            self.expect("r" + name[1:])
            return Expr(name[1:], (inner,))
        if name in _BIG:
            return self.big(name)
        if name in _NOT_VALUES:
            raise Unreadable(f"\\{name} is not a value")
        return self.variable("\\" + name)

    def root(self) -> Expr:
        index = num(2)
        if self.accept("["):
            index = self.expression()
            self.expect("]")
        return Expr("root", (self.argument(exponent=True), index))

    def function(self, name: str) -> Expr:
        power: Expr | None = None
        base: Expr | None = None
        while self.text() in ("^", "_") and self.kind() == "op":
            if self.take().text == "^":
                power = self.argument(exponent=True)
            else:
                base = self.argument()
        inverse = power is not None and exact(power) == -1 and name in ("sin", "cos", "tan")
        if self.text() == "(":
            args = self.arguments()
        elif self.text() == "{":
            args = [self.argument()]
        else:
            args = [self.bare_argument()]
        if name == "abs" and len(args) == 1:
            call = Expr("abs", (args[0],))
        elif name == "exp" and len(args) == 1:
            call = Expr("^", (Expr("const", ("e",)), args[0]))
        else:
            call = Expr(
                "call", ("arc" + name if inverse else name, *args, *([base] if base is not None else []))
            )
        return call if power is None or inverse else Expr("^", (call, power))

    def bare_argument(self) -> Expr:
        """The argument of `\\sin 2x`: factors up to the next function or sign."""
        result = self.operand_factor()
        while (token := self.peek()) is not None and self.factor_starts(token):
            if token.kind == "command" and token.text in FUNCTIONS - {"frac", "sqrt"}:
                break
            result = _product(result, self.operand_factor())
        if self.text() == "/":
            self.ambiguous.append("a function of a/b, or divided by b")
        return result

    def big(self, name: str) -> Expr:
        lower = upper = None
        while self.text() in ("^", "_") and self.kind() == "op":
            if self.take().text == "_":
                lower = Expr("sym", (self.script(),))
            else:
                upper = self.argument(exponent=True)
        body = self.term()
        if not isinstance(body, Expr):
            raise Unreadable("a sum of lists")
        return Expr("big", (name, lower, upper, body))


def _product(a: Expr, b: Expr) -> Expr:
    return Expr("*", (*(a.args if a.op == "*" else (a,)), b))

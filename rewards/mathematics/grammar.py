r"""From tokens to a typed value, by recursive descent. What it cannot read whole is Unreadable.

    answer   := group (";" group)*                 group := item (("," | "and" | "or") item)*
    item     := [relation] side (relation side)*   relation := = < > \le \ge \ne \approx \in …
    side     := operand ((\cup | \cap | \setminus) operand)*
    operand  := clock | words | [money] sum [unit] (":" sum)*
    sum      := term (("+" | "-" | \pm | \mp) term)*
    term     := factor (("*" | "/" | nothing) factor)*
    factor   := atom ("^" … | "_" … | "!" | "'")*
    atom     := number | mixed number | variable | \frac … | function | brackets | |…| | matrix

Juxtaposed factors multiply; a whole number before a fraction of numbers is a mixed number; `a/bc` is (a/b)c and noted as
`ambiguous`. A letter that is a unit's symbol is that unit where it stands apart at the end (`5 m`, but `5m` and `4t` are products).
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from rewards.mathematics.expressions import DEGREE, Expr, exact, num, times
from rewards.mathematics.markup import FUNCTIONS, Token, Unreadable
from rewards.mathematics.units import REFUSED, SCALES, Unit, money, read_unit
from rewards.mathematics.values import Chain, Clock, Quantity, Ratio, Sequence, Value, Words
from rewards.reading.text import plain_text

MAX_DEPTH = 30
RELATIONS = {"=", "<", ">", "le", "ge", "ne", "approx", "sim", "in", "notin", "equiv", "cong", "propto"}
_UNION = {"cup", "cap", "setminus"}
_CLOSERS = {")", "]", "\\}", "}", "|", "rangle", "rfloor", "rceil", "&", "\\", "mid"}
KNOWN_NAMES = {
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
    "ell",
    "hbar",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Pi",
    "Sigma",
    "Upsilon",
    "Phi",
    "Psi",
    "Omega",
    "emptyset",
    "ldots",
    "partial",
    "nabla",
    "aleph",
}
_ACCENTS = {
    "overline",
    "bar",
    "hat",
    "widehat",
    "vec",
    "tilde",
    "dot",
    "ddot",
    "overrightarrow",
    "overset",
    "mathbb",
    "mathcal",
    "mathfrak",
}
_SHAPES = {"angle", "triangle", "square", "widehat"}
_BIG = {"sum", "prod", "int", "lim", "iint", "oint"}
_MATRICES = {"matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "smallmatrix", "array"}
_LINES = {"cases", "aligned", "align", "align*", "gathered", "split", "rcases", "dcases"}
_SIGN_WORDS = {"negative": "-", "minus": "-", "positive": "+"}
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
_CALLED = set("fghFGHPQEu")
"""Letters that name a function where a bracket follows at once."""


class Parser:
    """Reads one token list; `letters_are_units` False reads single letters as variables wherever they stand."""

    def __init__(self, tokens: list[Token], letters_are_units: bool = True) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.letters_are_units = letters_are_units
        self.ambiguous: list[str] = []
        self.in_set_builder = False

    # Token stream

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
        return (
            token is None or self.at_separator() or token.text in RELATIONS | _CLOSERS | _UNION | {":", ";"}
        )

    def at_separator(self) -> bool:
        return self.text() == "," or (self.kind() == "word" and self.text() in ("and", "or"))

    # Answers

    def whole(self) -> Value:
        """The value of all tokens; Unreadable if any is left."""
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
        while self.text() in _UNION:
            operator = self.take().text
            value = Sequence(operator, (value, self.operand()), operator)
        return value

    def operand(self) -> Value:
        clock = self.clock()
        if clock is not None:
            return clock
        if self.kind() == "word" and self.text() not in _SIGN_WORDS and self.half() is None:
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
        """`4:30`, `4:30 pm`, `4 pm`, `4 oclock`; None if there is no time here."""
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
                raise Unreadable("no hour")
            return Clock(int(value), 0, None, half if half in halves else "")
        return None

    def take_noise(self, *words: str) -> None:
        if self.text() in words:
            self.at += 1

    def prefix(self) -> Unit | None:
        """A currency sign or code before a number (a minus before it moves behind it)."""
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
        """What stands behind an expression: a unit, more quantities of the same kind (`5 ft 6 in`), or terms of a ratio."""
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
                    raise Unreadable("a ratio of no numbers")
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

    def unit_may_start(self, token: Token) -> bool:
        """Whether a unit may begin with this token: a letter only where it stands apart, or with a glued power (`m2`)."""
        if token.kind == "letter":
            powered = (
                self.kind(1) == "num" and self.text(1) in ("2", "3") and not cast(Token, self.peek(1)).spaced
            )
            return self.letters_are_units and (token.spaced or powered)
        return token.kind == "word" or token.text in ("%", "$", "€", "£", "¥", "₹", "mu")

    def compound(self, expr: Expr, unit: Unit) -> tuple[Expr, Unit]:
        """Add the next quantity, of the same dimensions and smaller, to one: `5 ft 6 in`, `1 h 30 min`."""
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

    # Expressions

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
        while self.text() in ("+", "-", "pm", "mp", *_SIGN_WORDS):
            text = self.take().text
            signs.append(_SIGN_WORDS.get(text, text))
        if len(signs) > 4:
            raise Unreadable("too many signs")
        return signs

    def note_range(self, terms: list[Expr]) -> None:
        """`12-15`, two numbers with nothing around them: a difference, or a range?"""
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
        """Whether a token continues a product without a sign between."""
        if token.kind == "num":
            return self.tokens[self.at - 1].kind not in ("num",) and not token.spaced
        if token.kind == "letter":
            return not self.unit_ahead()
        if token.kind == "command":
            return token.text not in RELATIONS | _UNION | _CLOSERS | {
                "pm",
                "mp",
                "to",
                "Rightarrow",
                "circ",
                "%",
                "over",
            }
        if token.kind == "begin":
            return True
        return token.text in ("(", "[", "{") or (token.text == "|" and self.bars == 0)

    bars = 0
    """Absolute-value bars that are open."""

    def unit_ahead(self) -> bool:
        """Whether the letter here is a unit that ends the item."""
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
        """What `^`, `\\frac` or `\\sqrt` takes: a group, or one token (of `\\frac12` one digit)."""
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

    def digit(self) -> Expr:
        """The argument of `\\frac`, where `\\frac34` has one digit each."""
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
        raise Unreadable(f"{token.text} is no value")

    def word_atom(self) -> Expr:
        half = self.half()
        if half is not None:
            self.at += half
            return num(Fraction(1, 2))
        token = self.take()
        if len(token.text) == 1 and token.text.isascii():
            return self.variable(token.text)
        raise Unreadable("a word among mathematics")

    def half(self) -> int | None:
        """How many words say a half here: `half`, `a half`; None if they don't."""
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
        """The fraction below one behind a whole number, of `2\\frac{1}{2}` or `2 1/2`; None, and nothing read, if there is none."""
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
        if name in (
            "land",
            "lnot",
            "to",
            "Rightarrow",
            "Leftrightarrow",
            "forall",
            "exists",
            "cancel",
            "circ",
            "%",
            "&",
            "\\",
        ):
            raise Unreadable(f"\\{name} is no value")
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

    # Brackets

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
                value = self.answer()  # {x | x > 3} is what x > 3 says
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
        """Equations under each other: a list."""
        items: list[Value] = []
        end = next((i for i in range(self.at, len(self.tokens)) if self.tokens[i].kind == "end"), None)
        if end is None:
            raise Unreadable("an environment is not closed")
        line: list[Token] = []
        for token in [*self.tokens[self.at : end], Token("command", "\\")]:
            if token.text == "\\" and token.kind == "command":
                if line:
                    inner = Parser(line, self.letters_are_units).whole()
                    items.extend(inner.items if isinstance(inner, Sequence) and not inner.left else [inner])
                line = []
            elif token.text != "&":
                line.append(token)
        self.at = end + 1
        return items[0] if len(items) == 1 else Sequence("", tuple(items), "")


def _grouped(value: Value) -> Expr | Value:
    """What a pair of brackets around one value is: its expression; a bracketed unit or relation stays what it is."""
    return value.expr if isinstance(value, Quantity) and value.unit is None else value


def _product(a: Expr, b: Expr) -> Expr:
    return Expr("*", (*(a.args if a.op == "*" else (a,)), b))


def _money_and_label(money_unit: Unit, label: Unit) -> Unit:
    """`$5 million`, `$5 dollars`, `$12 per hour`."""
    if label.dimensions and label.dimensions == money_unit.dimensions:
        return money_unit
    return money_unit.times(label)

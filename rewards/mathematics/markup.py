r"""From text to tokens. Equivalent Unicode, LaTeX and Markdown give the same tokens, and no character is silently dropped.

5/2, \frac{5}{2}, \dfrac52                    the same fraction (the grammar reads \frac52 digit by digit)
1,234  1{,}234  1\,234  1 234                 one number
\text{ cm}, \mathrm{cm}, cm                   the same word
$…$, \(…\), **…**, \left, \displaystyle, \,   layout, ignored
"""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.mathematics.tokens import Token, Unreadable
from rewards.mathematics.units import is_unit
from rewards.reading.unicode import latex_symbols

MAX_TOKENS = 400


FUNCTIONS = {
    *("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "ln", "log", "lg", "exp"),
    *("sqrt", "frac", "binom", "gcd", "lcm", "max", "min", "det", "abs"),
}  # fmt: skip
_SPELLED = {
    **{name: name for name in FUNCTIONS - {"frac"}},
    "pi": "pi",
    "infinity": "infty",
    "inf": "infty",
    "oo": "infty",
}
"""Words of plain text that stand for a command."""

_LAYOUT = {
    *("left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "middle", "displaystyle", "textstyle"),
    *("limits", "nolimits", "rm", "bf", "it", "ensuremath", "mathstrut", "small", "large", "Large", "hfill", "boxed", "fbox"),
    *("mathbf", "boldsymbol", "bm", "mathit", "underline", "nonumber", "hbox", "fboxed", "scriptstyle", "normalsize"),
}  # fmt: skip
_TEXT = {
    "text",
    "textbf",
    "textit",
    "textrm",
    "textnormal",
    "textsf",
    "texttt",
    "mathrm",
    "mathsf",
    "mbox",
    "operatorname",
    "emph",
}
_SAME = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "binom"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), "le"),
    **dict.fromkeys(("geq", "geqslant", "geqq"), "ge"),
    "lt": "<", "gt": ">", "neq": "ne", "cdotp": "cdot", "ast": "*", "varnothing": "emptyset", "lbrace": "{", "rbrace": "}",
    **dict.fromkeys(("simeq", "thickapprox", "doteq", "approxeq"), "approx"),
    **dict.fromkeys(("rightarrow", "longrightarrow", "mapsto"), "to"),
    **dict.fromkeys(("implies", "Longrightarrow"), "Rightarrow"),
    "lvert": "|", "rvert": "|", "vert": "|", "lbrack": "[", "rbrack": "]", "colon": ":", "degree": "circ", "neg": "lnot",
    "varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "lor": "or", "land": "and", "vee": "or", "wedge": "and",
    "arsinh": "arcsinh", "tg": "tan", "ctg": "cot", "arctg": "arctan", "textdollar": "$", "dots": "ldots", "cdots": "ldots",
}  # fmt: skip
"""Commands that mean the same as another command or character."""

_GROUP_MARKS = (r",", r"\s?\{\s?,\s?\}\s?", r"(?:\\[,!;: ]|~)", r",\s?\\!\s?", r"\\!,\\!", r" ", r"'")
_GROUPED = "|".join(rf"[0-9]{{1,3}}(?:{mark}[0-9]{{3}}(?![0-9])){{1,30}}" for mark in _GROUP_MARKS)
_DECIMALS = r"\.[0-9]{1,200}"
_REPEATING = r"[0-9]{0,50}\.[0-9]{0,50}\\(?:overline|bar|dot)\s?\{?[0-9]{1,50}\}?"
_EXPONENT = r"[eE][-+]?[0-9]{1,4}(?![0-9.A-Za-z])"
_TOKENS = re.compile(
    rf"(?P<space>(?:[ \t\r\n~]|\\[,;:!> ]|\\q?quad|\\(?:hspace|vspace)\*?\{{[^{{}}]*\}}|\\thinspace)+)"
    r"|(?P<clock>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?![0-9:]))"
    rf"|(?P<repeating>{_REPEATING})"
    rf"|(?P<num>(?:(?:{_GROUPED}|[0-9]{{1,300}})(?:{_DECIMALS})?|{_DECIMALS})(?:{_EXPONENT})?)"
    r"|\\begin\s?\{(?P<begin>[A-Za-z]+\*?)\}(?:\s?\{[clr|]*\})?|\\end\s?\{(?P<end>[A-Za-z]+\*?)\}"
    r"|\\(?P<command>[A-Za-z]+|\\|[{}|%$#&_])"
    r"|(?P<letters>[^\W\d_]+)"
    r"|(?P<op><=|>=|!=|==|=<|=>|->|\*\*|\.\.\.|.)",
    re.DOTALL,
)


_SMALL_WORDS = {"is", "in", "on", "of", "to", "by", "no", "yes", "not", "at", "an", "as", "so", "if", "be", "he", "we", "us", "my", "it", "up", "do", "go", "the", "and", "all", "are", "was", "has", "had", "can", "did", "its", "his", "her", "our", "out", "for", "but", "who", "how", "why", "may", "any", "one", "two", "six", "ten", "or", "nor", "per", "men", "day", "odd", "pct", "none", "dne", "am", "pm", "half"}  # fmt: skip
_PLAIN_NUMBER = re.compile(rf"(?:[0-9]{{1,300}}(?:{_DECIMALS})?|{_DECIMALS})(?:{_EXPONENT})?")
_ENVIRONMENT = re.compile(r"\\[()\[\]]|\$\$")
_DOLLAR = re.compile(r"(?<!\\)\$")


def without_delimiters(text: str) -> str:
    r"""Replace math delimiters (`$…$`, `\(…\)`, `\[…\]`) by spaces. A dollar sign without a partner, or two that each precede a
    digit (`$5 or $6`), are money and stay."""
    text = _ENVIRONMENT.sub(" ", text)
    places = [match.start() for match in _DOLLAR.finditer(text)]
    pairs = zip(places[::2], places[1::2], strict=False)
    if len(places) % 2 or any(
        text[a + 1 : a + 2].isdigit() and text[b + 1 : b + 2].isdigit() for a, b in pairs
    ):
        return text
    return _DOLLAR.sub(" ", text)


_MERIDIEM = re.compile(r"(?<=[0-9\s{])([aApP])\.\s?[mM]\.?(?![A-Za-z])")


def tokens(text: str) -> list[Token]:
    """The tokens of an answer. Raises Unreadable if there are too many."""
    text = latex_symbols(text)
    if "\\\\" in text and "\\begin" not in text:  # escaped twice, as in JSON that was not decoded
        text = re.sub(r"\\\\(?=[A-Za-z{}()\[\]%$,;!])", r"\\", text)
    text = (
        _MERIDIEM.sub(lambda m: m[1].lower() + "m ", text)
        .replace("o'clock", "oclock")
        .replace("per cent", "percent")
    )
    found: list[Token] = []
    _scan(without_delimiters(text), found, in_text=False)
    return found


def _scan(text: str, found: list[Token], in_text: bool) -> None:
    at, spaced, brackets = 0, False, 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        assert match is not None and match.lastgroup is not None  # the last alternative takes any character
        kind, piece = match.lastgroup, match.group(match.lastgroup)
        if (
            kind == "num"
            and "," in piece
            and "{" not in piece
            and "!" not in piece
            and "\\" not in piece
            and brackets
        ):
            match = _PLAIN_NUMBER.match(text, at)  # in brackets a comma is a separator: (1,234) is a pair
            assert match is not None
            piece = match.group()
        at = match.end()
        if kind == "space":
            spaced = True
            continue
        brackets = max(
            0, brackets + (piece in ("(", "[", "{") and kind in ("op", "command") and piece != "{")
        )
        if piece in (")", "]") and brackets:
            brackets -= 1
        if kind == "command" and piece in _TEXT:
            content, at = _group(text, at)
            _scan(content, found, in_text=True)
            spaced = True
            continue
        if kind == "command" and piece in ("color", "textcolor"):
            _, at = _group(text, at)
            continue
        if kind == "command" and piece in _LAYOUT:
            at += piece in ("left", "right") and text[at : at + 1] == "."
            continue
        if kind == "letters":
            _letters(piece, spaced, found, in_text)
        else:
            found.append(_token(kind, piece, spaced))
        spaced = False
        if len(found) > MAX_TOKENS:
            raise Unreadable("too long")


def _group(text: str, at: int) -> tuple[str, int]:
    """Content of the `{…}` at a position (after white space), or the one character there, and the position after it."""
    while at < len(text) and text[at].isspace():
        at += 1
    if at >= len(text) or text[at] != "{":
        return text[at : at + 1], at + 1
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, at):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if not depth:
            return text[at + 1 : match.start()], match.end()
    raise Unreadable("a group is not closed")


def _token(kind: str, piece: str, spaced: bool) -> Token:
    if kind == "num":
        return Token("num", piece, spaced, number_value(piece))
    if kind == "repeating":
        return Token("num", piece, spaced, _repeating_value(piece))
    if kind == "clock":
        parts = piece.split(":")
        return Token("clock", piece, spaced, tuple(parts))
    if kind == "command":
        piece = _SAME.get(piece, piece)
        if piece in "{}":
            return Token("op", "\\" + piece, spaced)
        if piece.startswith("quad"):  # `\quadx`: a space command without an end
            return Token("letter", piece.removeprefix("quad"), True)
        kind = "command" if len(piece) > 1 or piece == "\\" else "op"
        return Token("word", piece, spaced) if piece in ("and", "or") else Token(kind, piece, spaced)
    if kind == "op":
        piece = {
            "<=": "le",
            "=<": "le",
            ">=": "ge",
            "!=": "ne",
            "->": "to",
            "=>": "Rightarrow",
            "==": "=",
            "**": "^",
        }.get(piece, piece)
        return Token("command" if piece.isalpha() and len(piece) > 1 else "op", piece, spaced)
    return Token(kind, piece, spaced)


def number_value(piece: str) -> tuple[Fraction, bool, str]:
    """(exact value, written as a decimal, digits) of a number token."""
    mantissa, _, exponent = re.sub(r"(?<=[0-9.])[eE]", "@", piece).partition("@")
    whole, _, decimals = mantissa.partition(".")
    whole = "".join(re.findall(r"[0-9]", whole))
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
    if exponent:
        if abs(int(exponent)) > 400:
            raise Unreadable("an exponent beyond 400")
        value *= Fraction(10) ** int(exponent)
    return value, bool(decimals or exponent), whole if not (decimals or exponent) else ""


def _repeating_value(piece: str) -> tuple[Fraction, bool, str]:
    whole, rest = piece.split(".", 1)
    fixed, repeated = re.split(r"\\[a-z]+", rest)
    repeated = re.sub(r"[^0-9]", "", repeated)
    value = Fraction(int(whole + fixed or "0"), 10 ** len(fixed))
    return value + Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(fixed)), False, ""


def _letters(run: str, spaced: bool, found: list[Token], in_text: bool) -> None:
    """A run of letters: a function or constant, a word, or a product of variables."""
    before = found[-1] if found else None
    after_number = before is not None and (
        before.kind == "num" or before.text in (")", "}", "pi", "/") or spaced
    )
    if run in _SPELLED and not (after_number and is_unit(run)) and not (in_text and len(run) < 3):
        found.append(Token("command", _SPELLED[run], spaced))
    elif in_text or _is_word(run, spaced, after_number, before is not None and before.kind == "num"):
        found.append(Token("word", run, spaced))
    else:
        found.extend(Token("letter", letter, spaced and not i) for i, letter in enumerate(run))


def _is_word(run: str, spaced: bool, after_number: bool, number_before: bool) -> bool:
    if len(run) == 1:
        return not run.isascii()
    if not run.isascii() or len(run) > 4 or run.lower() in _SMALL_WORDS or run.istitle():
        return True
    if after_number and (is_unit(run) or (spaced and number_before)):
        return True
    return len(run) == 4 and not run.isupper()

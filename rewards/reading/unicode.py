r"""Normalising characters that mean the same, in truths and answers alike.

`plain_characters` is for any text: full-width forms, CJK punctuation, minus signs, quotes, spaces and invisible characters
become ASCII. `latex_symbols` is for mathematics, after it: `²` becomes `^{2}`, `√3` `\sqrt{3}`, `½` `\frac{1}{2}`, `π` `\pi`.

Digits of other scripts, circled and Roman numerals, and letters that look like digits are not changed, nor is an invisible
character between two letters or digits: readers of numbers reject it there.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
_INVISIBLE_AT_AN_EDGE = re.compile(rf"(?<![^\W_])[{_INVISIBLE}]+|[{_INVISIBLE}]+(?![^\W_]|[{_INVISIBLE}])")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# A dash used as a minus: before a value and not after one (`3–8` is a range). An em dash must touch the value.
_DASH_AS_MINUS = re.compile(r"(?<![\w.)\]}%°])(?:[\u2010-\u2013]\s?|[\u2014\u2015])(?=[0-9.\\√π∞½¼¾(])")

_PLAIN = str.maketrans(
    {
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
        **dict.fromkeys("\u2212\ufe63\u2796", "-"),  # minus signs
        **dict.fromkeys("\u2236\ufe55\ua789", ":"),
        **dict.fromkeys("。｡．﹒", "."),
        **dict.fromkeys("、﹐､", ","),
        **dict.fromkeys("“”„‟«»「」『』〝〞", '"'),
        **dict.fromkeys("‘’‚‛", "'"),
        **dict.fromkeys("【〔〖", "["),
        **dict.fromkeys("】〕〗", "]"),
        "﹢": "+",
        "➕": "+",
        "﹔": ";",
        "﹪": "%",
        "￥": "¥",
        "￡": "£",
        "￠": "¢",
        "…": "...",
    }
)


def plain_characters(text: str) -> str:
    """The text with ASCII for full-width forms, CJK punctuation, minus signs, quotes and spaces, and without invisible characters
    (except between two letters or digits)."""
    if text.isascii():
        return text
    text = _SPACES.sub(" ", _INVISIBLE_AT_AN_EDGE.sub("", text))
    return _DASH_AS_MINUS.sub("-", text.translate(_PLAIN))


_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni")
_SUBSCRIPT = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₙₖₘ", "0123456789+-=()aeoxnkm")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ]{1,40}")
_SUBSCRIPTS = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₙₖₘ]{1,40}")
# The root sign covers the number or letter after it, or the contents of a bracket after it.
_ROOT = re.compile(r"([√∛∜])\s?([0-9]{1,40}(?:\.[0-9]{1,40})?|[A-Za-zπ])?")
_ROOT_COMMAND = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}

_GREEK = {
    **dict(zip("αβγδεζηθικλμνξπρστυφχψω", ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"], strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΦΨΩ", ["Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega"], strict=True)),
    "µ": "mu", "ϕ": "phi", "ϵ": "epsilon", "ϑ": "theta", "\u2126": "Omega", "\u2206": "Delta",
}  # fmt: skip
_SYMBOLS = {
    **dict.fromkeys("×✕✖⨯", r"\times "),
    **dict.fromkeys("·⋅∙•", r"\cdot "),
    **dict.fromkeys("÷➗", r"\div "),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("≤≦⩽", r"\le "),
    **dict.fromkeys("≥≧⩾", r"\ge "),
    **dict.fromkeys("∣｜", "|"),
    **dict.fromkeys("∅⌀", r"\emptyset "),
    **dict.fromkeys("°º˚", r"^{\circ}"),
    "℃": r"^{\circ}C", "℉": r"^{\circ}F", "′": "'", "″": "''", "∗": "*", "∖": r"\setminus ",
    "≠": r"\ne ", "≈": r"\approx ", "≒": r"\approx ", "≅": r"\cong ", "≡": r"\equiv ", "∼": r"\sim ", "∝": r"\propto ",
    "±": r"\pm ", "∓": r"\mp ", "∞": r"\infty ", "∘": r"\circ ", "∠": r"\angle ", "△": r"\triangle ", "⊥": r"\perp ", "∥": r"\parallel ",
    "∈": r"\in ", "∉": r"\notin ", "∪": r"\cup ", "∩": r"\cap ", "⊂": r"\subset ", "⊆": r"\subseteq ", "∀": r"\forall ", "∃": r"\exists ",
    "¬": r"\lnot ", "∧": r"\land ", "∨": r"\lor ", "→": r"\to ", "⟶": r"\to ", "⇒": r"\Rightarrow ", "⇔": r"\Leftrightarrow ",
    "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "∂": r"\partial ", "∇": r"\nabla ", "ℓ": r"\ell ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "‖": r"\|",
    **{letter: rf"\mathbb{{{name}}}" for letter, name in zip("ℝℤℕℚℂ", "RZNQC", strict=True)},
    **{letter: rf"\{name} " for letter, name in _GREEK.items()},
    **{chr(code): unicodedata.normalize("NFKC", chr(code)) for code in range(0x1D400, 0x1D6A6)},  # letters in a style
    **{chr(code): unicodedata.normalize("NFKC", chr(code)) for code in range(0x1D7CE, 0x1D800)},  # digits in a style
}  # fmt: skip
for _fraction in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞":
    _top, _bottom = unicodedata.normalize("NFKC", _fraction).split("⁄")
    _SYMBOLS[_fraction] = rf"\frac{{{_top}}}{{{_bottom}}}"
_LATEX = str.maketrans(_SYMBOLS)


def latex_symbols(text: str) -> str:
    """The text after `plain_characters`, with LaTeX for its mathematical characters."""
    text = plain_characters(text)
    if text.isascii():
        return text
    text = _SUPERSCRIPTS.sub(lambda run: f"^{{{run.group().translate(_SUPERSCRIPT)}}}", text)
    text = _SUBSCRIPTS.sub(lambda run: f"_{{{run.group().translate(_SUBSCRIPT)}}}", text)
    text = _ROOT.sub(lambda m: _ROOT_COMMAND[m[1]] + (f"{{{m[2]}}}" if m[2] else " "), text)
    return text.translate(_LATEX)

r"""MATH-Vision (MATH-V): the answer in a response, and whether it equals the true one.

Source: mathllm/MATH-V at a1f5cc3, `evaluation/evaluate.py` (`evaluate`) and `evaluation/utils.py` (`find_math_answer`, `is_equal`).
Ported line by line, quirks included, because published figures contain them: the extractor lower-cases, drops spaces, and takes
what follows the last equals sign.

One thing differs. The official code turns both answers into SymPy text (`latex2sympy2`) and runs Python's `eval` on it. Model text
is never run here: both are read by the grammar of `rewards.mathematics` and worked out in floating point; what has a variable in
it has no value, as there (`eval` raises NameError, and the official code takes that for unequal).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rewards.mathematics.expressions import Expr, approximate, exact, symbols
from rewards.mathematics.grammar import Parser
from rewards.mathematics.markup import tokens
from rewards.mathematics.tokens import Unreadable

_FLAGS = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
_LETTERS = tuple((wrapped, c) for form in ("({})", "{{{}}}") for c in "abcde" for wrapped in [form.format(c)])
_NOISE = (
    (" ", ""), ("\\,", ""), ("∞", "\\infty"), ("+\\infty", "\\infty"), ("\\\\", "\\"), ("\n", ""), ("\\text", ""), ("\\mbox", ""),
    ("bmatrix", "pmatrix"), ("\\left", ""), ("\\right", ""), ("^{\\circ}", ""), ("^\\circ", ""), ("{m}^3", ""), ("m^3", ""),
    ("{units}", ""), ("units", ""), ("{km}", ""), ("km", ""),
)  # fmt: skip
_MARKUP = (
    ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
    ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""), ("$", ""),
)  # fmt: skip


def extract(response: str, record: Mapping[str, Any]) -> str:
    """The model's answer in a response (`evaluate`)."""
    answer = response.strip()
    for c in "ABCDE":
        if answer.endswith((f" {c}.", f" ({c}).")) or answer.startswith(
            (f"{c}\n", f"({c})\n", f"({c}) {c}\n")
        ):
            answer = c
    last = answer.split("is ")[-1].rstrip(".")
    if _is_number(last):
        answer = last
    if "oxed{" not in answer:
        for flag in _FLAGS:
            for wording in (flag, flag.replace("the", "The")):
                said = wording in answer
                answer = answer.split(wording)[-1].strip()
                if said:
                    answer = answer.split("\n")[0].split(". ")[0]
    elif answer.count("oxed{") > 1:
        answer = "\\boxed{" + answer.split("oxed{")[-1]
    answer = find_math_answer(answer)
    for wrapped, letter in _LETTERS:
        answer = answer.replace(wrapped, letter)
    return answer.rstrip(".").lstrip(":").strip()


def correct(prediction: str, record: Mapping[str, Any]) -> float:
    """1 if the prediction equals the true letter or answer, or the text of the true option."""
    answer = str(record["answer"])
    options = record.get("options") or []
    place = ord(answer) - ord("A") if options and len(answer) == 1 else -1
    value = str(options[place]) if 0 <= place < len(options) else ""
    return float(is_equal(answer, prediction) or is_equal(value, prediction))


def find_math_answer(text: str) -> str:
    """The content of the last box, or the whole text, without LaTeX that says nothing (`find_math_answer`)."""
    text = text.lower().replace("{}", "")
    boxes = re.findall(r"oxed{(.*)}", text, flags=re.DOTALL)
    answer = boxes[-1] if boxes else text
    closing, opening = answer.find("}"), answer.find("{")
    if closing != -1 and (opening == -1 or closing < opening):
        answer = answer.split("}")[0]
    answer = answer.split("=")[-1].split("\\approx")[-1]
    for old, new in _NOISE:
        answer = answer.replace(old, new)
    return _strip(answer)


def is_equal(answer: str, other: str) -> bool:
    """Whether two answers are the same text, or the same number to two decimals (`is_equal`)."""
    answer, other = answer.lower(), other.lower()
    if not answer.replace(" ", "") or not other.replace(" ", ""):
        return False
    if answer.strip() == other.strip():
        return True
    answer, other = _rounded_list(answer), _rounded_list(other)
    if answer == other:
        return True
    values = number(answer), number(other)
    return values[0] is not None and values[1] is not None and round(values[0], 2) == round(values[1], 2)


def number(text: str) -> float | None:
    """The value of the mathematics that a text begins with, None if it has none: a variable, a unit, words.

    As the official parser, which needs no end of the text, it stops at a closing brace too many; a colon divides; and `\frac12` without braces is no fraction.
    """
    text = text.replace("$", "").replace("−", "-").replace(":", "/")
    text = text[: _end(text)]
    if not text or len(text) > MAX_CHARS or _ODD.search(text):
        return None
    try:
        parser = Parser(tokens(_PRODUCT.sub(r"\\cdot ", text)), False)
        expr = parser.sum()
    except (Unreadable, RecursionError):
        return None
    if (
        parser.peek() is not None or not isinstance(expr, Expr) or symbols(expr)
    ):  # `approximate` would make a value up for a variable
        return None
    rational = exact(expr)
    try:
        value = approximate(expr) if rational is None else complex(rational)
    except OverflowError:
        return None
    return None if value is None or abs(value.imag) > 1e-12 else value.real


MAX_CHARS = 1_000
"""Longer texts are not answers."""
_ODD = re.compile(r"\\frac(?!{)|\\\)")
_PRODUCT = re.compile(r"(?<=})\s*(?=\d)")


def _end(text: str) -> int:
    """Where a text has a closing brace too many, or its length."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "{") - (c == "}")
        if depth < 0:
            return i
    return len(text)


def _rounded_list(text: str) -> str:
    """`(1/2, 3)` as `(0.5,3)` (`eval_tuple`); any other text as it is."""
    parts = text[1:-1].split(",")
    if text[0] + text[-1] not in ("()", "[]") or len(parts) < 2:
        return text
    rounded = []
    for part in parts:
        kept = "infty" in part or part in ("a", "-a")
        value = None if kept else number(part)
        if not kept and value is None:
            return text
        rounded.append(part if value is None else str(round(value, 2)))
    return f"{text[0]}{','.join(rounded)}{text[-1]}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _strip(text: str) -> str:
    """`_strip_string`."""
    for old, new in _MARKUP:
        text = text.replace(old, new)
    text = text.split("\\text{ ")[0].replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    for sign in ("=", "\\approx"):
        if len(text.split(sign)) == 2:
            text = text.split(sign)[-1]
    if "sqrt" in text:
        text = _braced_roots(text)
    text = text.replace(" ", "")
    if "sqrt" in text:
        text = _braced_fractions(text)
    if text == "0.5":
        text = "\\frac{1}{2}"
    return _slash(text)


def _braced_roots(text: str) -> str:
    """`\\sqrt3` as `\\sqrt{3}`."""
    first, *rest = text.split("\\sqrt")
    return first + "".join(
        "\\sqrt{" + part[0] + "}" + part[1:] if part and part[0] != "{" else "\\sqrt" + part for part in rest
    )


def _braced_fractions(text: str) -> str:
    """`\\frac12` as `\\frac{1}{2}`; the text as it is where a fraction is cut off."""
    first, *rest = text.split("\\frac")
    done = first
    for part in rest:
        done += "\\frac"
        if part and part[0] == "{":
            done += part
        elif len(part) < 2:
            return text
        elif part[1] == "{":
            done += "{" + part[0] + "}" + part[1:]
        else:
            done += "{" + part[0] + "}{" + part[1] + "}" + part[2:]
    return done


def _slash(text: str) -> str:
    """`1/2` as `\\frac{1}{2}`."""
    match = re.fullmatch(r"(-?\d+)/(-?\d+)", text)
    if not match or any(part != str(int(part)) for part in match.groups()):
        return text
    return "\\frac{" + match[1] + "}{" + match[2] + "}"

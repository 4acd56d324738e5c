r"""Reward for mathematical answers: numbers and texts compared exactly here, everything else by math-verify in the pool.

What is read: the last complete `\boxed{…}` of the text if there is one (so of several boxed answers the last counts), else the
whole text. How it is judged depends on what the truth is:

    letter   the truth is one capital letter, or the row has options: as in `choice` (letter or exact option text)
    number   both are plain numbers: equal values; thousands separators, currency signs and trailing zeros do not matter; a
             percent may be written as 28 %, 28 or 0.28; decimals are equal up to 1e-6 absolute and relative (0.333333 is 1/3)
    text     the truth is words (`Wednesday`, `4:30 p.m.`): equal words, see `reading.plain_text`
    math     the rest (fractions, units, expressions, sets, intervals, equations, matrices): math-verify, truth first (it is not
             symmetric), in a killable process with a limit of processor time: an answer beyond it scores 0, is counted as
             `reasons/math/too_expensive` and says so; one that was not judged (the process died) scores None
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from rewards.calls import Failure
from rewards.choice import gold_letter, options_of, read_choice
from rewards.gold import field, gold_check, number
from rewards.math_pool import MathPool, reward_of
from rewards.reading import (
    PlainNumber,
    boxed_answers,
    decimal_comma,
    last_boxed_list,
    plain_number,
    plain_text,
    tail,
    without_lead,
)

MAX_ANSWER_CHARS = 2_000
"""Of a longer text only the end is sent to math-verify."""

MAX_EXPRESSION_CHARS = 500
MAX_DEPTH = 25
"""A boxed or bare expression that is longer, or brackets nested deeper, is no answer (and slow to parse): 0 without asking."""

Kind = Literal["letter", "number", "text", "math"]


@dataclass(frozen=True)
class Gold:
    """A true answer, read once: its kind, text, value (of numbers), the ways to write it that math-verify may parse (best first),
    and whether it has several values (a list, a set, "1 or 2")."""

    kind: Kind
    text: str
    value: PlainNumber | None
    forms: tuple[str, ...]
    several: bool = False


_pool: MathPool | None = None
_pool_lock = threading.Lock()


def pool() -> MathPool:
    """The pool that math rewards of this process share, made on first use. See `use_pool` for other settings."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = MathPool()
        return _pool


def use_pool(new: MathPool) -> None:
    """Judge with this pool from now on; the old one is closed."""
    global _pool
    with _pool_lock:
        old, _pool = _pool, new
    if old is not None and old is not new:
        old.close()


def _new_lock() -> None:
    """In a forked child the lock may be held by a thread that does not exist there. (The pool itself starts afresh, too.)"""
    global _pool_lock
    _pool_lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)

_COMMAND = re.compile(r"\\(?!text|mathrm|textbf|mbox)[A-Za-z]+|[=^_{}<>|+*/\\]")
_WORD = re.compile(r"[^\W\d_]{2,}")
_DIGITS = re.compile(r"[0-9][0-9.,:]*")


@lru_cache(maxsize=4096)
def read_gold(value: str) -> Gold:
    """Classify a true answer. ValueError if it is empty or too long; whether math parses is asked by `check_gold`."""
    text = value.strip()
    if not text or len(text) > MAX_ANSWER_CHARS:
        raise ValueError(f"answer.value: expected 1 to {MAX_ANSWER_CHARS} characters, got {len(text)}")
    boxes = boxed_answers(text)
    if len(boxes) > 1:
        return Gold("math", text, None, (text,), several=True)
    inner = boxes[0].content.strip() if boxes else text
    forms = _forms(inner, boxed=bool(boxes))
    plain = plain_number(inner)
    if plain:
        return Gold("number", inner, plain, (_as_latex(plain),))
    bare = plain_text(inner)
    if re.fullmatch(r"[($\s]*(?:\\text\s?\{)?\(?[A-Z]\)?[}$)\s.]*", inner):
        return Gold("letter", bare.strip("()").upper(), None, forms)
    if _is_words(inner, bare):
        return Gold("text", bare, None, (f"$\\text{{{bare}}}$",))
    return Gold("math", inner, None, forms, several=_has_several(inner))


def _is_words(inner: str, bare: str) -> bool:
    """Words that are not mathematics: `Wednesday`, `4:30 p.m.`; not `12 apples`, `(1,2) or (2,1)`, `\\frac12`, `x`."""
    words = [word for word in _WORD.findall(bare) if word not in ("and", "or")]
    initials = re.search(r"\b[a-z]\.[a-z]\b", bare)
    if not (words or initials) or _COMMAND.search(_unwrapped(inner)) or "$" in inner.strip("$"):
        return False
    digits = _DIGITS.findall(bare)
    number_with_unit = len(digits) == 1 and bare.startswith(digits[0]) and ":" not in digits[0]
    return not number_with_unit


def _has_several(inner: str) -> bool:
    """Whether a true answer has several values: a comma, `and` or `or` outside brackets, or a set."""
    inner = inner.strip("$ ")
    if inner.startswith((r"\{", r"\left\{")) or re.search(r"\band\b|\bor\b|[)\d](?:and|or)[(\d]", inner):
        return True
    depth = 0
    for char in inner:
        depth += (char in "([{") - (char in ")]}")
        if char in ",;" and depth <= 0:
            return True
    # A whole answer in braces without backslashes, as `$${1,2,3}$$`, is a set too.
    return inner.startswith("{") and "," in inner


def gold_of(answer: Mapping[str, Any]) -> Gold:
    """The true answer `{"value": "4,656"}` (a string or a number); ValueError if it is broken."""
    value = field(answer, "value")
    if isinstance(value, str):
        return read_gold(value)
    parsed = number(value, "answer.value", limit=1e300)
    return read_gold(str(int(parsed)) if parsed.is_integer() else repr(parsed))


def _check_math(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    options = options_of(answer, row)
    if options:
        gold_letter(answer, options)
        return
    gold = gold_of(answer)
    if gold.kind != "math":
        return
    judged = pool().judge(gold.forms, None)
    if not judged.gold_parses:
        why = (
            "math-verify finds no mathematics in it"
            if judged.outcome == "ok"
            else f"parsing ended by {judged.outcome}"
        )
        raise ValueError(f"answer.value: expected a mathematical answer, got {gold.text!r:.120} ({why})")


@gold_check(_check_math)
def math_reward(completion: str, answer: Mapping[str, Any], **row: Any) -> float | None:
    """1 if the answer in the text equals the true one, else 0 (see the module's docstring); None without a verdict."""
    (result,) = math_many([completion], [answer], [row])
    if isinstance(result, Failure):
        return None
    return result["reward"] if isinstance(result, dict) else result


def math_many(
    completions: Sequence[str], answers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> list[float | dict[str, Any] | Failure]:
    """`math_reward` of a batch, with all workers of the pool busy and each distinct question asked once.

    What was too expensive is 0 with that reason, and an answer without a verdict a Failure (`math_pool.reward_of`).
    """
    decided = [_decide(*item) for item in zip(completions, answers, rows, strict=True)]
    questions = list(dict.fromkeys(item for item in decided if not isinstance(item, float)))
    verdicts = dict(zip(questions, pool().judge_many(questions), strict=True))
    return [item if isinstance(item, float) else reward_of(verdicts[item]) for item in decided]


math_reward.many = math_many  # type: ignore[attr-defined]


def _decide(
    completion: object, answer: Mapping[str, Any], row: Mapping[str, Any]
) -> float | tuple[tuple[str, ...], tuple[str, ...]]:
    """The score where it needs no mathematics, else the question for the pool: (forms of the truth, of the prediction)."""
    options = options_of(answer, row)
    if options:
        return float(read_choice(completion, options) == gold_letter(answer, options))
    gold = gold_of(answer)
    text = tail(completion).strip()
    boxes = last_boxed_list(text)
    if boxes:
        # Connected boxes are one answer with several values, and only a truth with several values asks for one.
        candidate = (", ".join(boxes) if gold.several else boxes[-1]).strip()
    else:
        candidate = without_lead(text)
    if not candidate:
        return 0.0
    if gold.kind == "letter":
        letter = read_choice(completion, None)
        if letter:
            return float(letter == gold.text)
    # Words are only looked for inside running text where a math environment marks them: "so $\\text{even}$".
    if gold.kind == "text" and not _ENVIRONMENT.search(candidate):
        return _judge_words(candidate, gold)
    if gold.value:
        plain = plain_number(candidate) or decimal_comma(candidate)
        if plain:
            return float(same_number(gold.value, plain))
    if not boxes:
        candidate = candidate[-MAX_ANSWER_CHARS:]
    if plain_text(candidate) == plain_text(gold.text):
        return 1.0
    forms = _forms(candidate, boxed=bool(boxes))
    expression = bool(boxes) or forms[0] != candidate  # not running text, in which math-verify searches
    if (expression and len(candidate) > MAX_EXPRESSION_CHARS) or _depth(candidate) > MAX_DEPTH:
        return 0.0
    return gold.forms, forms


def same_number(gold: PlainNumber, predicted: PlainNumber) -> bool:
    """Equal values; see `number` in the module's docstring."""
    if gold.percent == predicted.percent:
        return _equal(gold.value, predicted.value, gold.decimal or predicted.decimal)
    if gold.percent:  # "28 %" written as 28 or as 0.28
        return any(_equal(gold.value, predicted.value * factor, True) for factor in (1, 100))
    # A percent sign the truth does not have: 28 % for 0.28, and for 28 (its unit was in the question); not 0.5 % for 0.5.
    same = abs(gold.value) >= 1 and _equal(gold.value, predicted.value, True)
    return same or _equal(gold.value, predicted.value / 100, True)


def _equal(gold: Fraction, predicted: Fraction, decimal: bool) -> bool:
    difference = abs(gold - predicted)
    return difference == 0 or (decimal and difference * 10**6 <= min(Fraction(1), abs(gold)))


def _depth(text: str) -> int:
    """How deep brackets nest (any kind, unbalanced ones count)."""
    depth = deepest = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}" and depth:
            depth -= 1
    return deepest


def _as_latex(plain: PlainNumber) -> str:
    """A plain number for math-verify: a decimal where it is one, so that its rounding rules for decimals hold."""
    value, percent = plain.value, r"\%" if plain.percent else ""
    if value.denominator == 1:
        return f"${value.numerator}{percent}$"
    if plain.decimal and len(str(value.denominator)) < 30:
        with localcontext(prec=400):
            return f"${Decimal(value.numerator) / Decimal(value.denominator):f}{percent}$"
    return f"$\\frac{{{value.numerator}}}{{{value.denominator}}}{percent}$"


def _judge_words(candidate: str, gold: Gold) -> float:
    return float(len(candidate) <= MAX_ANSWER_CHARS and plain_text(candidate) == plain_text(gold.text))


def _unwrapped(text: str) -> str:
    return re.sub(r"\\(?:text|mathrm|textbf|mbox)\s?\{([^{}]*)\}", r"\1", text.replace("\\ ", " ").strip("$"))


_ENVIRONMENT = re.compile(r"(?<!\\)\$|\\\(|\\\[")
_CLUTTER = re.compile(r"\A\s*(?:#{1,6}|=|:)\s*|(?<!\\)[€£¥₹]|[`*]")
_LENGTH = r"(?:[kcdmµn]?m|in|ft|yd|mi)(?:\^?\{?[23]\}?|[²³])?"
_UNIT = re.compile(rf"(?<=[0-9}}])\s?(?:{_LENGTH}|[kmµ]?g|m?s|°[CF]?|[mc]?[lL])\.?\Z")


def _forms(text: str, boxed: bool = False) -> tuple[str, ...]:
    r"""Ways to write an answer for math-verify, best first.

    A bare expression (`x+12`, `\frac12`) must be read as LaTeX whole: math-verify's search in plain text would find the 12 in it.
    """
    if boxed:
        return (f"\\boxed{{{text}}}",)
    if _ENVIRONMENT.search(text):
        return (text,)
    if _WORD.search(re.sub(r"\\[A-Za-z]+", "", _unwrapped(text))) and not _UNIT.search(text):
        return (text, f"${text}$") if "\\" in text else (text,)
    return (f"${_UNIT.sub('', _CLUTTER.sub('', text)).strip()}$",)

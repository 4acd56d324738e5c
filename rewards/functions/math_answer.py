r"""Reward for mathematical answers: truth and answer are read as typed values and compared by type (`rewards.mathematics`).

The answer (the last box, else what follows "the answer is", else the whole text, else what the last sentence states; see
`rewards.reading.final_answer`) must be readable as a whole. It is equal to the truth

    numbers      exactly; decimals up to 1e-6, absolute and relative (0.333333 is 1/3). 28 % may be answered 28 or 0.28, but 1 % is
                 not 1. A unit may be left out or, where the truth has none, added; of another size it is converted (5000 m for
                 5 km), of another kind it is wrong
    expressions  if math-verify finds them equal, truth first, in a worker process with a limit of processor time: an answer that
                 exceeds it scores 0 and is counted as `reasons/math/too_expensive`; one that could not be compared (the worker
                 died) scores None
    others       tuples and intervals in order and with their brackets, sets and lists in any order, inequalities as the interval
                 they describe, equations up to a factor, times as times, words as words
    letters      if the truth is one capital letter or the row has options: as in `choice`

If the truth is a number, the answer must be worked out: `18 + 1 * 3` scores 0 for 21 (see `expressions.worked_out`), unless the
option `unevaluated: true` is set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rewards.functions.choice import gold_letter, options_of, read_choice
from rewards.mathematics.answers import Reading, is_plain_letter
from rewards.mathematics.compare import compare
from rewards.mathematics.expression_grammar import KNOWN_NAMES
from rewards.mathematics.expressions import Expr, exact, latex, names_of
from rewards.mathematics.finding import answer_readings, truth_readings
from rewards.mathematics.pool import math_pool, reward_of
from rewards.mathematics.values import Chain, Quantity, Ratio, Region, Value, Words
from rewards.mathematics.values import Sequence as Several
from rewards.reading.gold import field, gold_check, number
from rewards.serving.items import Failure, Outcome

MAX_TRUTH_CHARS = 20_000
MAX_PAIRS = 30
"""Limit for the expressions of one answer that math-verify compares; an answer with more is wrong."""

Question = tuple[str, str]
"""A comparison for math-verify: LaTeX of the truth's expression and of the answer's."""

Ways = tuple[tuple[Question, ...], ...]
"""Alternative ways in which an answer can be right: the comparisons that must all succeed, for each way."""


@lru_cache(maxsize=4096)
def read_truth(value: str) -> Reading:
    """A true answer as a typed value. Raises ValueError if it is empty, too long or cannot be read as a whole."""
    text = value.strip()
    if not text or len(text) > MAX_TRUTH_CHARS:
        raise ValueError(f"answer.value: expected 1 to {MAX_TRUTH_CHARS} characters, got {len(text)}")
    readings = truth_readings(text)
    if not readings:
        raise ValueError(
            f"answer.value: expected a mathematical answer or words, got {text!r:.120}, which cannot be read whole"
        )
    return readings[0]


def truth_of(answer: Mapping[str, Any]) -> Reading:
    """The true answer of `{"value": "4,656"}` (a string or a number). Raises ValueError if it is broken."""
    value = field(answer, "value")
    if isinstance(value, str):
        return read_truth(value)
    parsed = number(value, "answer.value", limit=1e300)
    return read_truth(str(int(parsed)) if parsed.is_integer() else repr(parsed))


def _check_math(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    options = options_of(answer, row)
    if options:
        gold_letter(answer, options)
        return
    truth = truth_of(answer)
    text = str(field(answer, "value"))
    if truth.ambiguous:
        raise ValueError(
            f"answer.value: expected an unambiguous answer, got {text!r:.120} ({'; '.join(truth.ambiguous)}); "
            r"write \frac, brackets, \text{ to } or the value"
        )
    if isinstance(truth.value, Words) and not re.search(r"[^\W\d_]{2,}", truth.value.text):
        raise ValueError(f"answer.value: expected a mathematical answer or words, got {text!r:.120}")
    for expr in _expressions(truth.value):
        unknown = [
            node.args[0] for node in expr.walk() if node.op == "sym" and re.match(r"\\[a-z]+\b", node.args[0])
        ]
        strange = [name for name in unknown if name.split("_")[0].lstrip("\\") not in KNOWN_NAMES]
        if strange:
            raise ValueError(f"answer.value: expected known LaTeX, got {strange[0]} in {text!r:.120}")
        if exact(expr) is None and expr.op not in ("sym", "const", "based"):
            outcome = math_pool().compare(f"${latex(expr, names_of(expr))}$", "")
            if not outcome.extra.get("gold_parses"):
                why = "math-verify cannot parse it"
                if outcome.failure:
                    why = f"{outcome.failure.kind}: {outcome.failure.message}"
                raise ValueError(f"answer.value: expected a mathematical answer, got {text!r:.120} ({why})")


def _expressions(value: Value | None) -> Iterator[Expr]:
    """The expressions in a value."""
    if isinstance(value, Quantity):
        yield value.expr
    elif isinstance(value, Ratio):
        yield from value.terms
    elif isinstance(value, Several):
        for item in value.items:
            yield from _expressions(item)
    elif isinstance(value, Chain):
        for member in value.members:
            yield from _expressions(member)
    elif isinstance(value, Region):
        for piece in value.pieces:
            yield from (
                end
                for end in (piece.low, piece.high)
                if not any(node.args == ("infty",) for node in end.walk())
            )


@gold_check(_check_math)
def math_reward(
    completion: str, answer: Mapping[str, Any], *, unevaluated: bool = False, **row: Any
) -> float | None:
    """1 if the answer in the text equals the true one, else 0 (see the module's docstring); None if it could not be compared."""
    (result,) = math_many([completion], [answer], [row], unevaluated=unevaluated)
    if isinstance(result, Failure):
        return None
    return result["reward"] if isinstance(result, dict) else result


def math_many(
    completions: Sequence[str],
    answers: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    *,
    unevaluated: bool = False,
) -> list[float | dict[str, Any] | Failure]:
    """`math_reward` for many samples, using all workers of the pool; each distinct comparison is made once.

    An answer that is too expensive gets 0 with that reason; one that could not be compared, a Failure (`pool.reward_of`).
    """
    decided = [_decide(*item, unevaluated) for item in zip(completions, answers, rows, strict=True)]
    asked = [question for ways in decided if not isinstance(ways, float) for way in ways for question in way]
    questions = list(dict.fromkeys(asked))
    outcomes = dict(zip(questions, math_pool().compare_many(questions), strict=True))
    return [ways if isinstance(ways, float) else _reward(ways, outcomes) for ways in decided]


def _reward(ways: Ways, outcomes: Mapping[Question, Outcome]) -> float | dict[str, Any] | Failure:
    """1 if all comparisons of one way succeed. Else 0, or a failure if only failed comparisons stood in the way of a 1."""
    failed = None
    for way in ways:
        answers = [outcomes[question] for question in way]
        if all(answer.value == 1.0 for answer in answers):
            return 1.0
        if all(answer.value == 1.0 or answer.failure for answer in answers):
            failed = next(answer for answer in answers if answer.failure)
    return 0.0 if failed is None else reward_of(failed)


math_reward.many = math_many  # type: ignore[attr-defined]


def _decide(
    completion: object, answer: Mapping[str, Any], row: Mapping[str, Any], unevaluated: bool
) -> float | Ways:
    """The score if math-verify is not needed, else the ways to be right."""
    options = options_of(answer, row)
    if options:
        return float(read_choice(completion, options) == gold_letter(answer, options))
    truth = truth_of(answer)
    if is_plain_letter(truth.value):
        letter = read_choice(completion, None)
        if letter:
            return float(letter == truth.value.expr.args[0])  # type: ignore[union-attr]
    ways = []
    for reading in answer_readings(completion):
        if truth.tokens and reading.tokens == truth.tokens:
            return 1.0
        pairs = compare(truth.value, reading.value, not unevaluated)
        if pairs == ():
            return 1.0
        if pairs is not None and len(pairs) <= MAX_PAIRS:
            ways.append(tuple(dict.fromkeys(map(_question, pairs))))
    return tuple(ways) if ways else 0.0


def _question(pair: tuple[Expr, Expr]) -> Question:
    names = names_of(*pair)
    gold, predicted = (latex(expr, names) for expr in pair)
    return f"${gold}$", f"\\boxed{{{predicted}}}"

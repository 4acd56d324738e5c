"""Multiple choice with a numeric or symbolic answer becomes free form, so that a letter cannot be guessed.

MiMo-VL (arXiv 2506.03569, section 3.1) has a model rewrite such problems; here it is done by rule. A problem is rewritten
only if its text loses the list of options whole, it can be asked without them (not "which of the following"), the right
option is a number or an expression, and the math reward reads the new truth, accepts the right option and no other one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from core.rows import Row
from data_recipes.operations.asks_choice import needs_options
from data_recipes.operations.option_lists import OptionList, find_options, without_options
from data_recipes.records import Context, Options, Removed, RowOperation
from rewards.functions.choice import LETTERS, gold_letter, options_of
from rewards.reading.text import plain_number, plain_text

_WORD = re.compile(r"[^\W\d_]{2,}")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_COMMAND = re.compile(r"\\(?:text|mathrm|mathbf|mbox|textbf|operatorname)\s?\{([^{}]*)\}|\\[A-Za-z]+|\\.")
_LABELS = re.compile(r"[\s$(){}\\]*[A-Z](?:[\s$(){}\\,]|and|or)*(?:[A-Z](?:[\s$(){}\\,]|and|or)*)*", re.ASCII)
_UNIT_OR_FUNCTION = re.compile(
    r"[ckdmnµ]?m|in|ft|yd|mi|[km]?g|lb|oz|[mcd]?l|s|sec|min|hr?|hz|kj|cal|mol|k?pa|kph|mph|rad|deg|degrees?|(?:centi|kilo|milli)?met(?:er|re)s?"
    r"|inch(?:es)?|foot|feet|yards?|miles?|(?:kilo)?grams?|seconds?|minutes?|hours?|days?|weeks?|months?|years?|units?|square|sq|cubic"
    r"|dollars?|cents?|percent|euros?|lit(?:er|re)s?|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|lim|max",
    re.IGNORECASE,
)


class FreeForm(Options):
    """Multiple choice rewritten as free form."""

    otherwise: Literal["keep", "drop"] = "keep"
    """What becomes of multiple choice that cannot be rewritten: its right option is words, the options are pictures or
    letters, the question needs them, or the row is inconsistent."""
    task: str = "math"
    """Task of the rewritten rows; its reward must read `{"value": …}`."""
    tasks: list[str] | None = None
    """Rows of other tasks pass unchanged. Not given: all tasks."""


class Unfit(Exception):
    """(rule, why) a multiple choice row cannot be rewritten."""


def free_form(row: Row, task: str = "math") -> Row | None:
    """The row as free form; None if it is no multiple choice. Raises Unfit (see `_apply`) if it cannot be rewritten.

    The new row has `answer` {"value": text of the right option}, no options, no trace (which would argue for a letter),
    and the old answer with its options as `multiple_choice`.
    """
    answer = row.get("answer")
    if not isinstance(answer, Mapping):
        return None
    texts = _texts(row)
    known = options_of(answer, row)
    inline = [(at, found) for at, (_, text) in enumerate(texts) if (found := find_options(text)) is not None]
    at, listed = inline[-1] if inline else (-1, None)
    if listed is not None and not _belongs(listed, known, answer):
        at, listed = -1, None
    options = known or (list(listed.options) if listed is not None else None)
    if options is None or len(options) < 2:
        if "letter" in answer and answer["letter"] is not None:
            raise Unfit("options_unknown", "its options stand neither in a column nor in the text")
        return None
    try:
        letter = gold_letter(answer, options)
    except ValueError as error:
        raise Unfit("inconsistent", str(error)) from None
    value = options[LETTERS.index(letter)].strip()
    if not is_expression(value):
        raise Unfit("words", f"its right option is no number or expression: {value!r:.80}")
    for index, (_, text) in enumerate(texts):
        rest = without_options(text, listed if index == at else None)
        if needs_options(rest):
            raise Unfit("needs_options", "its question cannot be asked without the options")
        texts[index] = (texts[index][0], rest)
    if not any(_WORD.search(rest) or re.search(r"\w", rest) for _, rest in texts):
        raise Unfit("needs_options", "nothing is left of its question without the options")
    fields = {key: item for key, item in row.items() if key not in ("options", "choices")}
    new = fields | {
        "task": task,
        "prompt": _with_texts(row["prompt"], texts),
        "answer": {"value": value},
        "trace": None,
        "multiple_choice": {"letter": letter, "options": options},
    }
    _verify(new, value, [option for i, option in enumerate(options) if i != LETTERS.index(letter)])
    return new


def is_expression(option: str) -> bool:
    r"""Whether an option is a number, with or without a unit, or an expression; not words, and not a mere label (`B`, `A
    and C`, `\triangle ABC`)."""
    if plain_number(option):
        return True
    bare = _COMMAND.sub(lambda match: f" {match.group(1) or ''} ", option)
    words = {word for word in _WORD.findall(bare) if not _UNIT_OR_FUNCTION.fullmatch(word)}
    if words and not _products(words, bare):
        return False
    if _CJK.search(bare) or _LABELS.fullmatch(_COMMAND.sub(" ", option)):
        return False
    has_digit = bool(re.search(r"[0-9]", bare))
    has_symbol = bool(re.search(r"\b[A-Za-z]\b|\\(?:pi|alpha|beta|theta|infty|frac|sqrt)", option))
    operators = bool(re.search(r"[-+*/^=<>]|\\(?:frac|sqrt|pi|times|cdot|pm|le|ge|infty)", option))
    return has_digit or (has_symbol and operators)


def _products(words: set[str], bare: str) -> bool:
    """Whether all words are products of lower-case variables (`2ab + xy`)."""
    short = all(len(word) <= 3 and word.isascii() and word.islower() for word in words)
    return short and bool(re.search(r"[+*/^=]|[0-9][a-z]", bare))


def _belongs(found: OptionList, known: Sequence[str] | None, answer: Mapping[str, Any]) -> bool:
    """Whether a list in the text is the row's: equal to the known options, or, where none are known, with the letter."""
    if known is not None:
        same = [plain_text(a) == plain_text(b) for a, b in zip(found.options, known, strict=False)]
        if len(found.options) == len(known) and all(same):
            return True
        if any(same):
            raise Unfit("inconsistent", "the options in its text are not those of its column")
        return False
    letter = answer.get("letter", answer.get("value"))
    return isinstance(letter, str) and letter.strip().strip("().").upper() in LETTERS[: len(found.options)]


def _verify(row: Row, value: str, others: Sequence[str]) -> None:
    """The math reward must read the new truth, accept it, and refuse the other options."""
    from rewards.functions.math_answer import math_reward

    try:
        math_reward.check_gold(row["answer"], row)  # type: ignore[attr-defined]
    except ValueError as error:
        raise Unfit("gold", f"the math reward cannot read its right option: {error}") from None
    if math_reward(f"\\boxed{{{value.strip().strip('$')}}}", row["answer"]) != 1.0:
        raise Unfit("gold", f"the math reward does not accept its right option: {value!r:.80}")
    for other in others:
        if math_reward(other, row["answer"]) == 1.0:
            raise Unfit(
                "ambiguous", f"the math reward accepts the wrong option {other!r:.60} for {value!r:.60}"
            )


def _texts(row: Row) -> list[tuple[tuple[int, int | None], str]]:
    """((message, part), text) of the last user message."""
    users = [i for i, message in enumerate(row["prompt"]) if message["role"] == "user"]
    if not users:
        return []
    content = row["prompt"][users[-1]]["content"]
    if isinstance(content, str):
        return [((users[-1], None), content)]
    return [((users[-1], j), part["text"]) for j, part in enumerate(content) if part["type"] == "text"]


def _with_texts(
    prompt: Sequence[Mapping[str, Any]], texts: Sequence[tuple[tuple[int, int | None], str]]
) -> Any:
    """The prompt with these texts in their places; parts that became empty are left out."""
    new = [dict(message) for message in prompt]
    by_place = dict(texts)
    for i in {i for (i, _), _ in texts}:
        if (i, None) in by_place:
            new[i]["content"] = by_place[i, None]
            continue
        parts = [
            part if part["type"] != "text" else {"type": "text", "text": by_place[i, j]}
            for j, part in enumerate(new[i]["content"])
        ]
        new[i]["content"] = [part for part in parts if part["type"] != "text" or part["text"].strip()]
    return new


def _apply(rows: Iterator[Row], options: FreeForm, context: Context) -> Iterator[Row | Removed]:
    for row in rows:
        if options.tasks is not None and row["task"] not in options.tasks:
            yield row
            continue
        try:
            new = free_form(row, options.task)
        except Unfit as error:
            rule, why = error.args
            context.counts[f"not_rewritten/{rule}"] += 1
            if options.otherwise == "drop":
                yield Removed(row, f"choice_{rule}", f"multiple choice that cannot be asked freely: {why}")
            else:
                yield row
            continue
        if new is not None:
            context.counts["rewritten"] += 1
        yield row if new is None else new


OPERATIONS: dict[str, Any] = {"free_form": RowOperation(_apply, FreeForm)}

"""TabMWP: 38,431 grade-school questions about tables, each with an image of the table and a human solution.

Published at github.com/lupantech/PromptPG (`data/tabmwp/problems_{train,dev,test}.json`, images in `tables/<pid>.png`):
one JSON object, problem id -> problem. Data under CC BY-NC-SA 4.0.

    {"880": {"question": "…", "choices": null, "answer": "4,656", "unit": "$", "table_title": null, "table": "a | $1\\n…",
             "solution": "…", "ques_type": "free_text", "ans_type": "integer_number", "grade": 4, "split": "test", …}}

Answers keep thousands separators; their unit is a separate field. `trace: stages` rewrites the human solution as a four-stage
trace by rule and verifies it: the solution's last line must contain the answer, and the conclusion must score 1 with the
row's reward.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.readers.chat import SourceOptions, locate, options_text, source
from data_recipes.readers.files import json_pairs, need, show
from data_recipes.records import Format, Record, Rejected


class TabMWPOptions(SourceOptions):
    """Options of `tabmwp`. `media`: folder of the tables' images; null: `tables` next to the file."""

    trace: Literal["none", "stages"] = "none"
    """`stages`: the human solution as a verified four-stage trace; rows whose solution cannot be verified are rejected."""
    show_unit: bool = True
    """State the answer's unit in the question, as in the authors' prompts."""


def read(path: Path, options: TabMWPOptions) -> Iterator[Record]:
    """Problems in file order; `at` is the problem id."""
    return json_pairs(path)


def convert(record: Record, options: TabMWPOptions) -> Iterable[Row]:
    """One row: task `math` (free text) or `choice`."""
    data = record.data
    question = need(data, "question", str, "a text").strip()
    answer = need(data, "answer", str, "a text").strip()
    unit = data.get("unit")
    choices = data.get("choices")
    if data.get("ques_type") not in ("free_text", "multi_choice"):
        raise Rejected(
            f"field 'ques_type': expected free_text or multi_choice, got {show(data.get('ques_type'))}"
        )
    row: Row = {"id": str(record.at)}
    if data["ques_type"] == "multi_choice":
        choices = need(data, "choices", list, "a list of options")
        if choices.count(answer) != 1:
            raise Rejected(f"field 'answer': expected one of the choices {choices}, got {show(answer)}")
        row |= {"task": "choice", "answer": {"letter": chr(65 + choices.index(answer)), "options": choices}}
        question += f"\nOptions:\n{options_text(choices)}"
    else:
        row |= {"task": "math", "answer": {"value": answer}}
        if unit and options.show_unit:
            question += f" (Unit: {unit})"
    folder = options.media or record.file.parent / "tables"
    kept = ("unit", "grade", "split", "ques_type", "ans_type", "table_title", "table", "solution")
    return [
        row
        | {
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            "images": [locate(f"{record.at}.png", "pid", folder)],
            "trace": verified_trace(data, row) if options.trace == "stages" else None,
            "source": source(options, "TabMWP", "CC BY-NC-SA 4.0"),
        }
        | {name: data.get(name) for name in kept}
    ]


# ---------------------------------------------------------------------------------------------------- four-stage trace

_PLANS = (
    (r"\bmedian\b", "put the values in order and take the middle one"),
    (r"\bmean\b", "add the values up and divide by how many there are"),
    (r"\bmode\b", "count how often each value appears and take the most frequent one"),
    (r"\brange\b", "subtract the least value from the greatest one"),
    (r"rate of change", "divide the change in value by the change in time"),
    (r"linear or nonlinear", "compare the rate of change between different rows"),
    (r"probability", "divide the number of matching outcomes by the number of all outcomes"),
    (r"what fraction", "divide the number that is asked for by the total"),
    (r"shortage or a surplus", "compare the quantity demanded with the quantity supplied at that price"),
    (r"is the relation a function|relation a function", "check that every x-value has only one y-value"),
    (r"enough", "add up the prices and compare the sum with the money at hand"),
    (r"how much (?:more|less)|how many (?:more|fewer)|difference", "look up both values and subtract them"),
    (r"how much (?:money )?(?:did|does|would|will|has)|total cost|cost to buy", "look up the prices and calculate the cost"),
    (r"how many .*\b(?:at least|at most|more than|less than|fewer than|exactly)\b", "count the entries that fit the condition"),
    (r"\bless\b|\bfewer\b|\bmore\b", "look up both values and compare them"),
    (r"(?<!at )\b(?:most|greatest|largest|highest|longest|oldest)\b", "compare the values to find the greatest one"),
    (r"(?<!at )\b(?:least|fewest|smallest|lowest|shortest|youngest)\b", "compare the values to find the least one"),
    (r"schedule", "find the times in question in the schedule"),
    (r"in all\b|in total|total number|altogether", "add up the values that the question asks about"),
    (r"how many", "find the pattern or the entries that give the number"),
)  # fmt: skip
"""(pattern in the question, how such a question is solved); the first match is the plan of the SUMMARY."""

# References to pictures on the website that the table's image does not show.
_NOT_IN_IMAGE = re.compile(
    r", which (?:is|are) (?:blue|shown in blue|highlighted)[^.]*?(?:above|below)(?=\.)"
)
_NUMBER = re.compile(r"-?\s?\$?\d[\d,]*(?:\.\d+)?|\.\d+")
_FRACTION = re.compile(r"\\frac\{(-?[\d,.]+)\}\{([\d,.]+)\}")


def verified_trace(data: Mapping[str, Any], row: Row) -> dict[str, str]:
    """The four stages from the human solution; Rejected if it does not reach the answer or scores below 1.

    row: its `task` and `answer` are used to verify the trace.
    """
    from rewards.functions.choice import choice_reward
    from rewards.functions.math_answer import math_reward

    solution = clean_solution(need(data, "solution", str, "a text"))
    table = need(data, "table", str, "a text").strip()
    if not solution or not table:
        raise Rejected(f"field '{'table' if solution else 'solution'}': expected a text, got an empty one")
    answer = row["answer"]
    plan = next(
        (text for pattern, text in _PLANS if re.search(pattern, data["question"], re.IGNORECASE)), None
    )
    title = f" with the title “{data['table_title']}”" if data.get("table_title") else ""
    if row["task"] == "choice":
        chosen = data["answer"].strip()
        conclusion = f"{answer['letter']}. {chosen}"
        score: float | None = choice_reward(conclusion, answer)
        if data.get("ans_type") == "extractive_text" and chosen.lower() not in solution.lower():
            raise Rejected(
                f"field 'solution': expected the answer {chosen!r} in it, got {show(solution[-60:])}"
            )
    else:
        last = solution.rstrip("\n").split("\n")[-1]
        if not reaches(last, answer["value"]):
            raise Rejected(f"field 'solution': expected it to end with {answer['value']!r}, got {show(last)}")
        conclusion = with_unit(answer["value"], data.get("unit"))
        score = math_reward(conclusion, answer) or 0.0
        if score != 1.0:  # for example a unit that hides the number from the reward, as in -$3 per year
            conclusion = answer["value"]
            score = math_reward(conclusion, answer) or 0.0
    if score != 1.0:
        raise Rejected(
            f"field 'answer': expected a conclusion that scores 1, got {conclusion!r} with {score}"
        )
    return {
        "summary": f"I will read the table in the image, then {plan or 'work out step by step what is asked'}.",
        "caption": f"The image shows a table{title}. Its rows are:\n{table}",
        "reasoning": solution,
        "conclusion": conclusion,
    }


def clean_solution(text: str) -> str:
    """The human solution without export errors and references to missing pictures."""
    text = _NOT_IN_IMAGE.sub("", text.strip())
    text = re.sub(r"\b([AP])\. M\.", r"\1.M.", text)
    text = re.sub(r"\b(exactly|least|than)(?=\d)", r"\1 ", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def with_unit(answer: str, unit: str | None) -> str:
    """The answer with its unit in the usual notation: `$4,656`, `-$3 per year`, `7 pages`, `4/13`."""
    if not unit:
        return answer
    if not unit.startswith("$"):
        return f"{answer} {unit}"
    rest = unit[1:].lstrip(", ")
    sign, digits = ("-", answer[1:]) if answer.startswith("-") else ("", answer)
    return f"{sign}${digits}" + (f" {rest}" if rest else "")


def reaches(text: str, answer: str) -> bool:
    """True if any number or fraction in the text equals the answer."""
    value = _value(answer)
    if value is None:
        return answer in text
    if any(_value(f"{top}/{bottom}") == value for top, bottom in _FRACTION.findall(text)):
        return True
    return any(_value(re.sub(r"[\s$]", "", number)) == value for number in _NUMBER.findall(text))


def _value(text: str) -> Any:
    from fractions import Fraction

    try:
        return Fraction(text.replace(",", "").strip())
    except (ValueError, ZeroDivisionError):
        return None


def looks_like(path: Path, first: Any) -> bool:
    """True for problems with a table and a solution, keyed by id."""
    return isinstance(first, dict) and {"question", "answer", "table", "ques_type", "solution"} <= set(first)


FORMATS = (
    Format(
        "tabmwp", "TabMWP problems*.json with the tables' images", read, convert, looks_like, TabMWPOptions
    ),
)

"""MathVista: a text, a number or a list that an answer gives, against the truth at its precision.

Source: lupantech/MathVista at 53d5258, `evaluation/extract_answer.py` (`extract_answer` with `--quick_extract`) and
`evaluation/calculate_score.py` (`normalize_extracted_answer`, `safe_equal`). Officially GPT-4 extracts what the quick rules do not;
predictions may hold its `extraction`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_QUOTED = re.compile(r'The answer is "(.*)"\.')
_LETTER = re.compile(r"\(([a-zA-Z])\)")


def extract(response: str, record: Mapping[str, Any]) -> str | None:
    """The quick rules; None where an LLM would extract officially."""
    if not response or (record["question_type"] == "multi_choice" and response in record["choices"]):
        return response
    kind = {"integer": int, "float": float}.get(record["answer_type"])
    if kind:
        try:
            return str(kind(response))
        except ValueError:
            pass
    quoted = _QUOTED.search(response)
    return quoted[1] if quoted else None


def correct(extraction: str | None, record: Mapping[str, Any]) -> float:
    """1 if the extraction, brought into the form of the answer, equals it. No extraction counts as an empty one."""
    return float(normalise(extraction or "", record) == str(record["answer"]))


def normalise(extraction: str, record: Mapping[str, Any]) -> str | None:
    """The option, number or text that an extraction stands for; None if it is no number where one is expected."""
    if record["question_type"] == "multi_choice":
        return _option(extraction.strip(), record["choices"])
    try:
        if record["answer_type"] == "integer":
            return str(int(float(extraction)))
        if record["answer_type"] == "float":
            return str(round(float(extraction), _precision(record)))
    except (ValueError, OverflowError):
        return None
    return extraction


def _precision(record: Mapping[str, Any]) -> int:
    """Decimals that count: the record's, or where a copy of the set has none, those of the answer."""
    given = record.get("precision")
    return int(float(given)) if given not in (None, "") else len(str(record["answer"]).partition(".")[2])


def _option(extraction: str, choices: Sequence[str]) -> str:
    """The option with the letter, else the one whose text is nearest (the first of several)."""
    letters = _LETTER.findall(extraction)
    letter = letters[0].upper() if letters else extraction
    place = ord(letter) - ord("A") if len(letter) == 1 else -1
    if 0 <= place < len(choices):
        return choices[place]
    return min(choices, key=lambda choice: edit_distance(letter, choice))


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: insertions, deletions and replacements."""
    line = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, line[0] = line[0], i
        for j, right in enumerate(b, 1):
            above, line[j] = line[j], min(line[j] + 1, line[j - 1] + 1, above + (left != right))
    return line[-1]

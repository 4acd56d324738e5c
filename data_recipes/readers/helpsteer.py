"""NVIDIA's HelpSteer sets as preference rows (core/pairs.py), by the fields of their cards (nvidia/HelpSteer, HelpSteer2, HelpSteer3).

HelpSteer, HelpSteer2     a rated response per line; consecutive lines about one prompt are compared pair by pair
HelpSteer2's preferences  response_1, response_2 and preference_strength, -3 (the first is much better) to 3
HelpSteer3                context, response1, response2 and overall_preference, likewise
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.preference_sets import NO_MEDIA, RatedOptions, made_row, rated_rows
from data_recipes.readers.preferences import better, number, pair
from data_recipes.records import Format, Record, Rejected

_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


class HelpSteerOptions(RatedOptions):
    """Options of `helpsteer`."""

    score: tuple[str, ...] = ("helpfulness",)
    """Attributes whose sum decides, where responses are rated: helpfulness, correctness, coherence, complexity, verbosity."""


def read_helpsteer(path: Path, options: HelpSteerOptions) -> Iterator[Record]:
    """Records; consecutive rated responses to one prompt become one record of several."""
    group: list[Record] = []
    for record in records(path, options.split):
        rated = record.problem is None and isinstance(record.data, dict) and "response" in record.data
        if group and not (rated and record.data.get("prompt") == group[0].data.get("prompt")):
            yield _together(group)
            group = []
        if rated:
            group.append(record)
        else:
            yield record
    if group:
        yield _together(group)


def _together(group: Sequence[Record]) -> Record:
    first = group[0]
    return Record(
        {"prompt": first.data.get("prompt"), "rated": [r.data for r in group]}, first.file, first.at
    )


def helpsteer(record: Record, options: HelpSteerOptions) -> Iterable[Row | Rejected]:
    """A row per pair of responses."""
    data = record.data
    if isinstance(data, dict) and data.get("context") is not None:
        prompt = _context(need(data, "context", list, "messages"))
    else:
        prompt = _turns(need(data, "prompt", str, "a text"))
    licence = "cc-by-4.0"
    if "rated" in data:
        rated = data["rated"]
        if len(rated) < 2:
            raise Rejected("field 'response': expected two or more responses to a prompt in a row, got one")

        def rating(i: int) -> float:
            return sum(number(rated[i].get(name), name) for name in options.score)

        responses = [need(one, "response", str, "a text") for one in rated]
        return rated_rows(record, options, prompt, NO_MEDIA, responses, rating, ("HelpSteer", licence))
    third = "overall_preference" in data
    names = ("response1", "response2") if third else ("response_1", "response_2")
    field = "overall_preference" if third else "preference_strength"
    first, second = (need(data, name, str, "a text") for name in names)
    strength = number(data.get(field), field)  # negative: the first is better
    chosen, rejected, margin = better(first, second, -strength, f"field '{field}'")
    row = pair(prompt, chosen, rejected, NO_MEDIA, margin=margin)
    return [made_row(record, options, row, "HelpSteer3" if third else "HelpSteer2", licence)]


def _context(turns: list[Any]) -> list[dict[str, Any]]:
    messages = []
    for i, turn in enumerate(turns):
        if not isinstance(turn, dict) or turn.get("role") not in ("system", "user", "assistant"):
            raise Rejected(f"field 'context[{i}]': expected a message, got {show(turn)}")
        messages.append({"role": turn["role"], "content": need(turn, "content", str, "a text")})
    return messages


def _turns(text: str) -> list[dict[str, Any]]:
    """A prompt as messages; HelpSteer2 writes several turns into one text: question, <extra_id_1>Assistant, …"""
    pieces = _TURN.split(text)
    roles = ["User", *pieces[1::2]]
    return [
        {"role": role.lower(), "content": content.strip("\n")}
        for role, content in zip(roles, pieces[0::2], strict=True)
    ]


def _is_helpsteer(path: Path, first: Any) -> bool:
    return isinstance(first, dict) and any(
        set(names) <= set(first)
        for names in (
            ("prompt", "response", "helpfulness", "verbosity"),
            ("prompt", "response_1", "response_2", "preference_strength"),
            ("context", "response1", "response2", "overall_preference"),
        )
    )


FORMATS = (
    Format("helpsteer", "HelpSteer 1, 2 and 3", read_helpsteer, helpsteer, _is_helpsteer, HelpSteerOptions),
)

"""Balance: MetaCLIP's curation of captions by concepts, and caps or tempered weights over the values of a column.

`concept_balance` is Algorithm 1 of MetaCLIP (Xu et al. 2023, arXiv 2309.16671). Texts are matched with a list of entries
(in the paper 500,000 words, bigrams and titles from WordNet and Wikipedia); a text matches an entry that stands in it
between spaces. An entry matched by `count` texts keeps each of them with probability min(1, t / count), and a text stays
if any of its entries keeps it: texts of rare concepts all stay, frequent ones are thinned to about t each.

`balance` works on one column: at most `cap` rows per value, or shares proportional to count**(1 / temperature).

Both draw a row's chance from its id and the seed, so that order and number of workers do not matter.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from core.rows import Row
from data_recipes.chance import uniform
from data_recipes.operations.text_hashes import answer, question
from data_recipes.records import Context, Decision, Options, SetOperation, Signature

Signatures = Callable[[], Iterator[Signature]]


class ConceptBalanceOptions(Options):
    """MetaCLIP's balance of concepts: texts of frequent entries are thinned out."""

    entries: str | tuple[str, ...]
    """The entries, or a file with them: one per line, or a JSON array of strings."""
    t: int = Field(20_000, ge=1)
    """Texts that an entry keeps on average. The paper's 20,000 is for 1.6 billion texts; take less for small sets."""
    text: Literal["answer", "question", "both"] = "answer"
    """Where the caption is: in the answer (with the trace), in the question, or in both."""
    tasks: tuple[str, ...] = ()
    """Balance rows of these tasks alone, e.g. captions; the others stay. Empty: all rows."""
    unmatched: Literal["drop", "keep"] = "drop"
    """What becomes of texts that match no entry; the paper drops them."""
    ignore_case: bool = True
    """Match "Dog" with the entry "dog". False as in the paper's code."""


def sign_concepts(row: Row, options: ConceptBalanceOptions) -> Mapping[str, Any]:
    """Numbers of the entries in the row's text; {} for a row of another task."""
    if options.tasks and row["task"] not in options.tasks:
        return {}
    parts = {"answer": [answer(row)], "question": [question(row)], "both": [question(row), answer(row)]}[
        options.text
    ]
    entries, longest = _entries(options.entries, options.ignore_case)
    return {"entries": matches("\n".join(parts), entries, longest, options.ignore_case)}


def matches(
    text: str, entries: Mapping[str, int], longest: Mapping[str, int], ignore_case: bool
) -> list[int]:
    """Numbers of the entries that stand between spaces in the text, after the paper's `spacing`, sorted.

    Every such entry begins and ends at a space, so looking up runs of words finds the same ones as an automaton over
    characters. longest: for the first word of any entry, the words of the longest entry that it begins.
    """
    tokens = spaced(text.lower() if ignore_case else text).split(" ")
    found = set()
    for i, first in enumerate(tokens):
        for end in range(i + 1, min(len(tokens), i + longest.get(first, 0)) + 1):
            number = entries.get(" ".join(tokens[i:end]))
            if number is not None:
                found.add(number)
    return sorted(found)


def spaced(text: str) -> str:
    """The text with spaces around punctuation and in place of tabs and line ends, as in MetaCLIP's substr_matching.py."""
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    for space in "\t\n\r":
        text = text.replace(space, " ")
    return text


@lru_cache(maxsize=4)
def _entries(source: str | tuple[str, ...], ignore_case: bool) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """(number of each entry, words of the longest entry by first word)."""
    if isinstance(source, str):
        text = Path(source).read_text(encoding="utf-8")
        listed = json.loads(text) if text.lstrip().startswith("[") else text.removesuffix("\n").split("\n")
    else:
        listed = list(source)
    if not listed or not all(isinstance(entry, str) for entry in listed):
        raise ValueError(f"entries: expected a non-empty list of strings, got {source!r}")
    numbers: dict[str, int] = {}
    longest: dict[str, int] = {}
    for entry in listed:
        entry = entry.lower() if ignore_case else entry
        if entry.strip() and entry not in numbers:
            numbers[entry] = len(numbers)
            first = entry.split(" ", 1)[0]
            longest[first] = max(longest.get(first, 0), entry.count(" ") + 1)
    return numbers, longest


def decide_concepts(
    signatures: Signatures, options: ConceptBalanceOptions, context: Context
) -> Iterator[Decision]:
    numbers, _ = _entries(options.entries, options.ignore_case)
    counts = array("q", bytes(8 * len(numbers)))
    for signature in signatures():
        for entry in signature.data.get("entries", ()):
            counts[entry] += 1
    context.counts["entries_matched"] += sum(count > 0 for count in counts)
    context.counts["entries_over_t"] += sum(count > options.t for count in counts)
    for signature in signatures():
        found = signature.data.get("entries")
        if found is None:
            continue
        if not found:
            if options.unmatched == "drop":
                yield Decision(signature.id, "no_concept", "its text matches none of the entries")
        elif not any(
            uniform(context.seed, f"{signature.id}\0{entry}") < min(1, options.t / counts[entry])
            for entry in found
        ):
            rarest = min(counts[entry] for entry in found)
            yield Decision(
                signature.id,
                "frequent_concepts",
                f"none of its {len(found)} entries kept it; the rarest is in {rarest} texts, t = {options.t}",
            )


# ------------------------------------------------------------------------------------------------------ any column


class BalanceOptions(Options):
    """Values of a column brought nearer to each other in number."""

    by: str | tuple[str, ...] = "task"
    """Column whose values are balanced; a dot leads into a dict: `task`, `source.dataset`, `level`, `answer.letter`. A list,
    as [language, kind]: the combinations of their values, written `zh, helpful`."""
    cap: int | None = Field(None, ge=1)
    """Keep at most so many rows of each value."""
    caps: dict[str, int] = {}
    """Caps of single values, in place of `cap`."""
    temperature: float | None = Field(None, ge=1)
    """Thin values so that their shares become proportional to count**(1/temperature): 1 changes nothing, infinity makes
    all equal. The rarest value keeps all its rows."""

    @model_validator(mode="after")
    def _one_way(self) -> BalanceOptions:
        if (self.cap is not None or bool(self.caps)) == (self.temperature is not None):
            raise ValueError(
                f"expected cap (or caps) or temperature, got cap={self.cap}, caps={self.caps}, "
                f"temperature={self.temperature}"
            )
        return self


def sign_value(row: Row, options: BalanceOptions) -> Mapping[str, Any]:
    columns = (options.by,) if isinstance(options.by, str) else options.by
    return {"value": ", ".join(_value(row, column) for column in columns)}


def _value(row: Row, column: str) -> str:
    value: Any = row
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def decide_values(signatures: Signatures, options: BalanceOptions, context: Context) -> Iterator[Decision]:
    """Of each value, the rows with the lowest chances stay."""
    by = options.by if isinstance(options.by, str) else ", ".join(options.by)

    def keep(counts: Mapping[str, int]) -> Mapping[str, int]:
        stay = allowed(counts, options)
        context.counts.update({f"{by}={value}": n for value, n in stay.items()})
        return stay

    yield from thinned(signatures, by, keep, context.seed)


def thinned(
    signatures: Signatures, by: str, keep: Callable[[Mapping[str, int]], Mapping[str, int]], seed: int
) -> Iterator[Decision]:
    """Of each `value` of the signatures, those rows stay that have the lowest chances; rows without a value all stay.

    by: what the value is called. keep: rows that stay of each value, from the rows that there are.
    Memory: one number per row (8 bytes), to find the chance below which exactly as many rows lie as are to stay.
    """
    chances: dict[str, array[float]] = {}
    for signature in signatures():
        value = signature.data.get("value")
        if value is not None:
            chances.setdefault(value, array("d")).append(uniform(seed, signature.id))
    counts = {value: len(c) for value, c in chances.items()}
    stay = keep(counts)
    limits: dict[str, float] = {}
    for value, all_chances in chances.items():
        n = stay[value]
        limits[value] = float(np.partition(np.frombuffer(all_chances), n - 1)[n - 1]) if n else -1.0
    chances.clear()
    for signature in signatures():
        value = signature.data.get("value")
        if value is not None and uniform(seed, signature.id) > limits[value]:
            yield Decision(
                signature.id,
                f"over_{by}",
                f"{by} {value!r} has {counts[value]} rows, {stay[value]} of them stay",
            )


def allowed(counts: Mapping[str, int], options: BalanceOptions) -> dict[str, int]:
    """How many rows of each value stay."""
    if options.temperature is None:
        caps = {value: options.caps.get(value, options.cap) for value in counts}
        return {v: n if (cap := caps[v]) is None else min(n, cap) for v, n in counts.items()}
    power = 1 / options.temperature
    weights = {value: count**power for value, count in counts.items()}
    # the largest total at which no value needs more rows than it has
    scale = min((counts[value] / weights[value] for value in counts), default=0.0)
    return {value: max(1, min(n, round(scale * weights[value]))) for value, n in Counter(counts).items()}


OPERATIONS = {
    "concept_balance": SetOperation(sign_concepts, decide_concepts, ConceptBalanceOptions),
    "balance": SetOperation(sign_value, decide_values, BalanceOptions),
}

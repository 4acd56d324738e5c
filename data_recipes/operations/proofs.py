"""Problems that ask for a proof leave: no rule can compare a proof with a known result (MiMo-VL, section 3.1).

By patterns in English and Chinese, that is in the imperative ("prove that", "试证明"), so that a text which merely
mentions proving stays. A model may be asked as well, about the problems found or about all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import model_validator

from core.rows import Row
from data_recipes.records import Context, Options, Removed, RowOperation
from data_recipes.teacher import judge
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import question_of
from data_recipes.teacher.ordered import in_order

# An order begins a sentence, a clause or a numbered part, or follows one of these words.
_BEGIN = r"(?:\A|[.;:!?,\n)\]]\s*|\b(?:and|then|please|to|hence|also|must|can you|could you|if so|now|first|finally|thus)\s+|\d[.)]\s*)"
PATTERNS: dict[str, re.Pattern[str]] = {
    "prove": re.compile(
        _BEGIN
        + r"(?:prove|disprove)\b(?!\s+(?:useful|helpful|difficult|hard|to be))"
        + r"(?=\s*:|\s+(?:that|or|the|this|these|it|by|your|each|if|for|using|whether|both|in|one|why|[$\\(]))",
        re.IGNORECASE,
    ),
    "show that": re.compile(
        _BEGIN + r"(?:show|verify|demonstrate|establish|justify|deduce)\s+(?:that|why|algebraically that)\b",
        re.IGNORECASE,
    ),
    "give a proof": re.compile(
        r"\b(?:give|write|provide|complete|construct)\s+(?:an?|the|your)?\s*(?:[\w-]+\s+){0,2}proof\b",
        re.IGNORECASE,
    ),
    "求证": re.compile(r"求证"),
    "证明": re.compile(r"(?:(?<=[，。；：、,.;:!?？！）)\s并请试来再且须要])|\A)证明(?![书了过人力文])"),
    "说明理由": re.compile(r"(?:请|并|试|，)\s*说明(?:理由|.{0,20}成立)"),
}


class DropProofs(Options):
    """Proof problems leave."""

    judge: Endpoint | None = None
    """A model that is asked whether a problem asks for a proof. Only an exact yes or no counts; else the patterns decide."""
    ask: Literal["found", "all"] = "found"
    """`found`: the model is asked about the problems that the patterns find, and its no keeps them. `all`: it is asked
    about all."""
    tasks: list[str] | None = None
    """Rows of other tasks pass unchanged. Not given: all tasks."""

    @model_validator(mode="after")
    def _check(self) -> DropProofs:
        if self.ask == "all" and self.judge is None:
            raise ValueError("ask: all: expected a 'judge' to ask, got none")
        return self


def proof_pattern(text: str) -> str | None:
    """Name of the first pattern that finds an order to prove in a text, or None."""
    return next((name for name, pattern in PATTERNS.items() if pattern.search(text)), None)


def _apply(rows: Iterator[Row], options: DropProofs, context: Context) -> Iterator[Row | Removed]:
    def applies(row: Row) -> bool:
        return options.tasks is None or row["task"] in options.tasks

    if options.judge is None:
        for row in rows:
            found = proof_pattern(question_of(row)) if applies(row) else None
            yield row if found is None else Removed(row, "proof", f"asks for a proof (pattern '{found}')")
        return
    client = Client(options.judge, context.folder / "judge", context.counts, "judge")

    async def decide(row: Row) -> Row | Removed:
        if not applies(row):
            return row
        question = question_of(row)
        found = proof_pattern(question)
        if found is None and options.ask == "found":
            return row
        said = await judge.asks_for_proof(client, question)
        if said is None:
            context.counts["unclear"] += 1
            said = found is not None
        elif said != (found is not None):
            context.counts["judge_against_pattern"] += 1
        by = "by the judge" if found is None else f"pattern '{found}'"
        return Removed(row, "proof", f"asks for a proof ({by})") if said else row

    yield from in_order(rows, decide, ahead=options.judge.ahead, close=client.close)


OPERATIONS: dict[str, Any] = {"drop_proofs": RowOperation(_apply, DropProofs)}

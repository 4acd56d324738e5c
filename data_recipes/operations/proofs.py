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
from rewards.functions.choice import options_of

# An order begins a sentence, a clause or a numbered part, or follows one of these words; "to prove" alone is no order:
# "Which statement is needed to prove that …?", "Ann wants to show that …" have an answer that can be compared.
_BEGIN = (
    r"(?:\A\s*|[.;:!?,\n)\]*]\s*|\d[.)]\s*"
    r"|\b(?:and|then|please|hence|also|or otherwise|can you|could you|you must|if so|now|first|finally|thus|next)\s+"
    r"|\b(?:you|we)\s(?:are\s(?:asked|required|to)|have|need|want|wish|should)\s(?:to\s)?"
    r"|\b(?:task|goal|aim|objective|job|exercise)\s(?:here\s)?is\sto\s"
    r"|(?:\A|[.;:\n])\s*(?:use|using|apply|by)\b[^.;:?!\n]{1,80}?\bto\s)"
)
_SHOW = r"(?:show|verify|demonstrate|establish|justify|deduce|confirm|argue)"
PATTERNS: dict[str, re.Pattern[str]] = {
    "prove": re.compile(
        _BEGIN
        + r"(?:formally\s|carefully\s|rigorously\s)?(?:dis)?prove\b(?!\s+(?:useful|helpful|difficult|hard|to be)\b)",
        re.IGNORECASE,
    ),
    "show that": re.compile(
        _BEGIN
        + _SHOW
        + r"(?:\s*:|\s+(?:[^\s.;:?!]{1,30}\s+){0,6}?that\b|\s+why\b|\s+(?:the\s|following\s){0,2}(?:in)?(?:identit|equalit)(?:y|ies)\b)",
        re.IGNORECASE,
    ),
    "show a relation": re.compile(
        _BEGIN
        + r"(?:show|verify)\s+(?:[^.;:?!\n]{1,60}?(?:∥|⊥|≅|\\parallel|\\perp|\\cong)|[^.;:?!\n]{1,80}?[=<>≤≥][^.;:?!\n]{1,80}?\bfor\s(?:all|every|any|each)\b)",
        re.IGNORECASE,
    ),
    "explain why": re.compile(
        r"(?:\A\s*|[.;:!?\n)]\s*|\b(?:and|please)\s+)explain\s+why\s+(?!or\b|not\b|you\b)\w*[^.?!\n]{12}",
        re.IGNORECASE,
    ),
    "give a proof": re.compile(
        r"\b(?:give|write|provide|complete|construct|supply|present)\s+(?:an?|the|your)?\s*(?:[\w-]+\s+){0,2}proof\b",
        re.IGNORECASE,
    ),
    "求证": re.compile(r"求证"),
    "证明": re.compile(
        r"(?:(?<=[，。；：、,.;:!?？！）)\s并请试来再且须])|(?<=要求)|(?<=[^不只需想]需要)|\A)证明(?!过程|方法|步骤|思路|题|了|书|人|文|力|[^，。；]{0,12}的(?:是|条件))"
    ),
    "试说明": re.compile(r"试说明(?!书)|(?:请|并|试|，)\s*说明(?:理由|.{0,20}成立)"),
}
# A question that is answered by naming one of several things, whatever is proved in it.
_SELECTS = re.compile(
    r"\bwhich\s(?:one\s)?of\s(?:the\sfollowing|these|the\s(?:statements|options|choices))\b"
    r"|\b(?:which|what)\s(?:[\w-]+\s){0,2}(?:statement|reason|theorem|postulate|property|justification|criterion|option|choice"
    r"|answer|information|step|axiom|definition|congruence)s?\b(?=[^.!?\n]{0,300}\?)|\bwhich\s(?:equation|expression|pair|condition|fact)s?\b(?=[^.!?\n]{0,300}\?)"
    r"|\bfill\sin\s(?:the|each)|(?:\A|[.:\n]\s*)(?:choose|select)\s(?:the|all|one)\b"
    r"|(?<!证明)(?<!求证)(?<![:：])(?:下列|以下)(?!各?[不恒]?等式)|哪[个一些项种条]|选项|[（(]\s*[）)]\s*[.。]?\s*(?:\Z|\n|A)|填空|____",
    re.IGNORECASE,
)


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
    """Name of the first pattern that finds an order to prove in a text, or None; also None where it asks for a choice."""
    if _SELECTS.search(text):
        return None
    return next((name for name, pattern in PATTERNS.items() if pattern.search(text)), None)


def _pattern_of(row: Row) -> str | None:
    """The pattern in a row's question; None for multiple choice, whose answer can be compared."""
    if options_of(row.get("answer"), row) or (row.get("answer") or {}).get("letter") is not None:
        return None
    return proof_pattern(question_of(row))


def _apply(rows: Iterator[Row], options: DropProofs, context: Context) -> Iterator[Row | Removed]:
    def applies(row: Row) -> bool:
        return options.tasks is None or row["task"] in options.tasks

    if options.judge is None:
        for row in rows:
            found = _pattern_of(row) if applies(row) else None
            yield row if found is None else Removed(row, "proof", f"asks for a proof (pattern '{found}')")
        return
    client = Client(options.judge, context.folder / "judge", context.counts, "judge")

    async def decide(row: Row) -> Row | Removed:
        if not applies(row):
            return row
        question = question_of(row)
        found = _pattern_of(row)
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

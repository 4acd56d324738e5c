"""Captions rewritten by a teacher that sees the image, kept only in the wanted language and without repetition.

The caption is the row's single plain answer (`trace` of one assistant message), or a column of its own. MiMo-VL recaptions
image-text pairs and filters them for language consistency and repetition (arXiv 2506.03569, section 2.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from core.rows import Row
from data_recipes.operations.languages import group, language
from data_recipes.operations.slips import tells_given_caption
from data_recipes.records import Context, Options, Removed, RowOperation
from data_recipes.teacher.attempts import Verdict, attempt, describe
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import Message, media_fields, media_parts, plain_answer, text_part
from data_recipes.teacher.ordered import in_order
from data_recipes.teacher.reply_text import language_fault, repetition_fault, token_fault, unseen_fault

INSTRUCTION = """Write a new caption for what you see: every object that matters, its look and place, how things relate, and \
any text, as it is written. Describe only what can be seen. {existing}Write {language}one paragraph of plain text and \
nothing else."""

EXISTING = """The present caption is below; keep what is right in it, correct what is wrong. """


class Recaption(Options):
    """Captions by a teacher."""

    teacher: Endpoint
    """Who writes."""
    tasks: list[str] = ["caption", "chat"]
    """Rows of other tasks pass unchanged, and so do rows of these tasks without a caption."""
    column: str | None = None
    """Column of the caption. Not given: the row's plain answer, a trace of one assistant message."""
    show_caption: bool = True
    """Show the present caption to the teacher."""
    language: str | None = None
    """Language of the new caption, as a code of two letters. Not given: that of the present caption."""
    min_confidence: float = Field(default=0.8, ge=0.0, le=1.0)
    """Probability below which the language of a text counts as unknown; unknown ones pass."""
    repetition: bool = True
    """Refuse captions that loop or say passages again, as the operation `text_filter` measures it."""
    repetition_min_words: int = Field(default=30, ge=1)
    """Shorter captions are not judged for repetition."""
    min_chars: int = Field(default=40, ge=1)
    """Shorter captions are refused."""
    max_chars: int = Field(default=4000, ge=1)
    """Longer captions are refused."""
    max_tries: int = Field(default=2, ge=1, le=100)
    """Replies asked for."""
    otherwise: Literal["keep", "drop"] = "drop"
    """What becomes of a row whose new captions are all refused: it keeps its present caption, or leaves."""
    instruction: str | None = None
    """Replaces the instruction."""

    @model_validator(mode="after")
    def _check(self) -> Recaption:
        if self.min_chars > self.max_chars:
            raise ValueError(f"expected min_chars <= max_chars, got {self.min_chars} and {self.max_chars}")
        return self


class _Captioner:
    """What one pass over rows needs."""

    def __init__(self, options: Recaption, context: Context) -> None:
        self.options, self.counts = options, context.counts
        self.client = Client(options.teacher, context.folder / "teacher", context.counts, "teacher")

    async def rewrite(self, row: Row) -> Row | Removed:
        options = self.options
        caption = self._caption(row)
        if row["task"] not in options.tasks or caption is None:
            self.counts["passed"] += 1
            return row
        self.counts["asked"] += 1
        wanted = group(options.language) if options.language else self._language(caption)
        messages = await asyncio.to_thread(self._messages, row, caption)
        fields = await asyncio.to_thread(media_fields, row, options.teacher)

        async def check(text: str) -> Verdict[str]:
            return self._check(text.strip(), wanted)

        made = await attempt(self.client, messages, check, max_tries=options.max_tries, fields=fields)
        self.counts["replies"] += made.tries
        self.counts.update(f"replies_refused/{rule}" for rule in made.broken)
        if made.value is None:
            self.counts[f"refused/{made.rule}"] += 1
            if options.otherwise == "keep":
                return row
            return Removed(row, f"caption_{made.rule}", f"after {made.tries} tries: {made.reason}")
        self.counts["accepted"] += 1
        new = row | {
            "caption_before": caption,
            "teacher": {"model": options.teacher.model, "tries": made.tries},
        }
        if options.column is not None:
            return new | {options.column: made.value}
        return new | {"trace": [{"role": "assistant", "content": made.value}]}

    def _caption(self, row: Row) -> str | None:
        if self.options.column is None:
            return plain_answer(row)
        value = row.get(self.options.column)
        return value if isinstance(value, str) and value.strip() else None

    def _messages(self, row: Row, caption: str) -> list[Message]:
        options = self.options
        language = f"in the language with the code '{options.language}', " if options.language else ""
        existing = EXISTING if options.show_caption else ""
        instruction = options.instruction or INSTRUCTION.format(existing=existing, language=language)
        media = media_parts(row, options.teacher)
        text = f"{instruction}\n\nPresent caption:\n{caption}" if options.show_caption else instruction
        return [{"role": "user", "content": [*media, text_part(text)]}]

    def _language(self, text: str) -> str | None:
        return language(text).named(self.options.min_confidence) or None

    def _check(self, text: str, wanted: str | None) -> Verdict[str]:
        options = self.options
        if not options.min_chars <= len(text) <= options.max_chars:
            return Verdict(
                rule="length",
                reason=f"expected {options.min_chars} to {options.max_chars} characters, got {len(text)}",
                feedback=f"The caption must have {options.min_chars} to {options.max_chars} characters.",
            )
        fault = token_fault(text) or unseen_fault(text)
        if fault is not None:
            return fault
        said = tells_given_caption(text) if options.show_caption else None
        if said:
            return Verdict(
                rule="given_caption",
                reason=f"the caption speaks of the one before it: {describe(said)}",
                feedback="The caption must stand alone: do not mention the present caption or what was changed in it.",
            )
        fault = repetition_fault(text, options.repetition_min_words) if options.repetition else None
        fault = fault or language_fault(text, wanted, options.min_confidence)
        if fault is not None:
            return fault
        return Verdict(text)


def _apply(rows: Iterator[Row], options: Recaption, context: Context) -> Iterator[Row | Removed]:
    captioner = _Captioner(options, context)
    yield from in_order(rows, captioner.rewrite, ahead=options.teacher.ahead, close=captioner.client.close)


OPERATIONS: dict[str, Any] = {"recaption": RowOperation(_apply, Recaption)}

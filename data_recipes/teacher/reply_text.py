"""What is wrong with a text that a teacher wrote: control tokens, refusals, repetition, another language."""

from __future__ import annotations

import re
from typing import Any

from data_recipes.operations.languages import language
from data_recipes.operations.repetition import repetition
from data_recipes.operations.slips import denies_media
from data_recipes.operations.text_hashes import words
from data_recipes.teacher.attempts import Verdict, control_token, describe
from rewards.stages import STAGES

JUDGED_SENTENCE_CHARS = 40
_SENTENCE_END = re.compile(r"[.!?]\s+|[。！？\n]")


def token_fault(text: str) -> Verdict[Any] | None:
    """The verdict on a text that holds a control token or a tag of the stage grammar."""
    token = control_token(text) or next((f"<{s}>" for s in STAGES if f"<{s}>" in text), None)
    if token is None:
        return None
    return Verdict(
        rule="control_token",
        reason=f"the caption holds {token}",
        feedback="The caption must be plain text without tags.",
    )


def unseen_fault(text: str, kind: str = "image") -> Verdict[Any] | None:
    """The verdict on a text that says that no medium was seen, or that refuses."""
    said = denies_media(text)
    if said is None:
        return None
    return Verdict(
        rule="unseen_media",
        reason=f"the caption says that no {kind} was seen or refuses: {describe(said)}",
        feedback=f"Your caption says {describe(said)}. The {kind} is part of this conversation: describe what it shows.",
    )


def repetition_fault(text: str, min_words: int, what: str = "caption") -> Verdict[Any] | None:
    """The verdict on a text that loops or says passages again; texts of fewer words are not judged. what: it is called."""
    repeated = repetition(text) if len(words(text)) >= min_words else None
    if repeated is None:
        return None
    rule, share, limit = repeated
    return Verdict(
        rule="repetition",
        reason=f"{share:.0%} of it is repetition ({rule}), at most {limit:.0%} allowed: {describe(text)}",
        feedback=f"The {what} repeats itself. Write it again, and say everything once.",
    )


def language_fault(text: str, wanted: str | None, min_confidence: float) -> Verdict[Any] | None:
    """The verdict on a text that is, or of which a long sentence is, surely in another language than the wanted one."""
    if wanted is None:
        return None
    sentences = [part for part in _SENTENCE_END.split(text) if len(part) >= JUDGED_SENTENCE_CHARS]
    found = (language(part).named(min_confidence) for part in [text, *sentences])
    other = next((code for code in found if code and code != wanted), None)
    if other is None:
        return None
    return Verdict(
        rule="language",
        reason=f"expected language '{wanted}', got '{other}': {describe(text)}",
        feedback=f"The caption must be written in the language with the code '{wanted}' throughout.",
    )

"""The form of a teacher's reply: four stages, or a thought and an answer, in plain text that does not give away how the teacher was asked.

Whether the conclusion is right is judged elsewhere (`data_recipes.teacher.traces`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.rows import Row
from data_recipes.operations.slips import denies_media, tells_given_answer
from data_recipes.operations.text_hashes import words
from data_recipes.teacher.attempts import Verdict, control_token, describe
from data_recipes.teacher.messages import has_media, question_of
from rewards.stages import STAGES, THINK, parse


def read_trace(text: str, row: Row, names: Sequence[str] = STAGES) -> dict[str, str] | Verdict[Any]:
    """The blocks of a reply, keys as in a row's trace; or the verdict on the first fault of its form. Never raises.

    names: of the grammar's blocks. Under THINK the answer's tags may be missing, and so may the first one of the thought, which some
    chat templates put into the prompt.
    """
    parsed = parse(_with_tags(text) if tuple(names) == THINK else text, names)
    if parsed.stages is None:
        broken = parsed.broken or ""
        return Verdict(
            rule="grammar",
            reason=f"the reply breaks the grammar ({broken}): {describe(text)}",
            feedback=f"Your reply breaks the form: {_explained(broken, names)} Write the whole solution again.",
        )
    empty = next((name for name in names if not parsed.stages[name]), None)
    if empty:
        return Verdict(
            rule="grammar",
            reason=f"the reply's part {empty} is empty",
            feedback=f"The part <{empty}> is empty. Write the whole solution again.",
        )
    token = control_token(text)
    if token:
        return Verdict(
            rule="control_token",
            reason=f"the reply holds the token {token}",
            feedback="Your reply holds a control token. Write the whole solution again, in plain text.",
        )
    said = tells_given_answer(text, question_of(row))
    if said:
        return Verdict(
            rule="given_answer",
            reason=f"the reply says that its answer was given: {describe(said)}",
            feedback=f"Your reply speaks of an answer that was given to you ({describe(said)}). Write the whole solution again as"
            " if you did not know the answer: derive it, and never mention that it was given.",
        )
    said = denies_media(text) if has_media(row) else None
    if said:
        return Verdict(
            rule="unseen_media",
            reason=f"the reply says that it saw no image or refuses: {describe(said)}",
            feedback=f"Your reply says {describe(said)}. What the question shows is part of this conversation. Look at it, and"
            " write the whole solution again.",
        )
    return {name.lower(): parsed.stages[name] for name in names}


def _with_tags(text: str) -> str:
    """A thought and the answer behind it, with the tags that are missing."""
    thought, end, answer = text.partition("</think>")
    if not end:
        return text
    if "<think>" not in thought:
        thought = f"<think>{thought}"
    return f"{thought}{end}{answer}" if "<answer>" in answer else f"{thought}{end}<answer>{answer}</answer>"


def reasoning_fault(trace: dict[str, str], min_words: int) -> Verdict[Any] | None:
    """The verdict on a trace whose reasoning, the block before the last, has fewer words."""
    count = len(words(list(trace.values())[-2]))
    if count >= min_words:
        return None
    return Verdict(
        rule="short_reasoning",
        reason=f"expected at least {min_words} words of reasoning, got {count}",
        feedback=f"The reasoning must have at least {min_words} words: show every step and check it. Write the whole solution again.",
    )


def _explained(broken: str, names: Sequence[str]) -> str:
    """The grammar's broken rule as a sentence."""
    rule, _, place = broken.partition(":")
    return {
        "empty": "there is no text.",
        "missing": f"the part <{place}> is missing.",
        "repeated": f"the part <{place}> stands there more than once.",
        "order": f"the part <{place}> is not in its place; the order is {', '.join(names)}.",
        "unclosed": f"the tag </{place}> is missing.",
        "nested": f"the tags of <{place}> overlap with others.",
        "outside": f"there is text outside the parts ({place}).",
    }.get(rule, broken)

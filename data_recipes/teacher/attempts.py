"""A question put to a teacher until the reply passes a check: each refused reply is answered by what was wrong with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from data_recipes.teacher.client import Client
from data_recipes.teacher.messages import Message
from vlm.families import FAMILIES

Value = TypeVar("Value")

CONTROL_TOKENS = (
    "<|endoftext|>",
    *sorted({t for f in FAMILIES.values() for t in f.media_tokens + f.turn_tokens}),
)
SHOWN_CHARS = 8_000
"""Of a refused reply so much is shown to the teacher again."""


@dataclass(frozen=True)
class Verdict(Generic[Value]):
    """What a check says of a reply: a value, or the rule it breaks, a sentence with the figures for the report, and one
    for the teacher."""

    value: Value | None = None
    rule: str = ""
    reason: str = ""
    feedback: str = ""
    final: bool = False  # asking again would not help


@dataclass(frozen=True)
class Attempt(Generic[Value]):
    """How it ended: the accepted value, or the last rule broken and why. tries: replies asked for. broken: the rule that each
    refused reply broke, in order."""

    value: Value | None
    tries: int
    rule: str = ""
    reason: str = ""
    broken: tuple[str, ...] = ()


async def attempt(
    client: Client,
    messages: Sequence[Message],
    check: Callable[[str], Awaitable[Verdict[Value]]],
    *,
    max_tries: int,
    candidate: int = 0,
    fields: Mapping[str, Any] | None = None,
) -> Attempt[Value]:
    """Ask, check, and ask again with feedback, at most `max_tries` times. candidate: number of this line of attempts.

    A retry shows the teacher the question, its last reply and the feedback on that alone.
    """
    verdict: Verdict[Value] = Verdict(rule="failed", reason="nothing was asked")
    conversation = list(messages)
    broken: tuple[str, ...] = ()
    for number in range(1, max_tries + 1):
        # every try has its own sample number, or a retry after a refusal would find that refusal in the cache
        (reply,) = await client.ask(conversation, [candidate + 1000 * (number - 1)], fields)
        if reply.problem is not None:
            return Attempt(None, number, "failed", reply.problem, (*broken, "failed"))
        if reply.text is None or not reply.text.strip():
            verdict = Verdict(
                rule="refused",
                reason=f"the teacher gave no text (finish: {reply.finish})",
                feedback="Your last reply was empty. Please carry out the task.",
            )
        else:
            verdict = await check(reply.text)
            if verdict.value is not None:
                return Attempt(verdict.value, number, broken=broken)
        broken = (*broken, verdict.rule)
        if verdict.final:
            break
        cut = " It was also cut off at the length limit: be briefer." if reply.finish == "length" else ""
        shown = (reply.text or "").strip()[:SHOWN_CHARS]
        conversation = [
            *messages,
            *([{"role": "assistant", "content": shown}] if shown else []),
            {"role": "user", "content": verdict.feedback + cut},
        ]
    return Attempt(None, len(broken), verdict.rule, verdict.reason, broken)


def control_token(text: str) -> str | None:
    """The first of the model's control tokens in a text: as text they would end a turn or be taken for a medium."""
    return next((token for token in CONTROL_TOKENS if token in text), None)


def describe(text: Any, limit: int = 120) -> str:
    """A text in a reason: quoted, on one line, cut."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")

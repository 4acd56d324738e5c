"""Questions that a teacher writes from a video's dense captions, read without trust: what no rule allows is named by a word for counting."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from data_recipes.readers.llava_cot import MAX_WORDS
from data_recipes.teacher.attempts import control_token
from data_recipes.teacher.moment_rules import Question, Video

INSTRUCTION = """Below are the events of a video. Write {count} questions about the video that can only be answered by someone who has seen \
two or more of its events: how something changed, how often something happened, what came between, what caused what. A question \
speaks of the video, never of this list, and has one short answer of at most five words, or a number.

Events:
{events}

Reply with a JSON array and nothing else, one object for each question:
[{"question": "…", "answer": "…", "moments": [2, 5]}, …]
moments: the numbers of all events that one must have seen."""

CHARS = 400


@dataclass(frozen=True)
class Written:
    """text: the question as the teacher wrote it."""

    text: str
    question: Question


def read_written(reply: str, video: Video, most: int) -> list[Written | str]:
    """The questions of a reply, at most `most`; in place of one that is out of form, the name of its fault. Never raises."""
    try:
        found: Any = json.loads(reply.strip().removeprefix("```json").removesuffix("```"))
    except (ValueError, RecursionError):
        return ["form"]
    return [_one(item, video) for item in found[:most]] if isinstance(found, list) and found else ["form"]


def _one(item: Any, video: Video) -> Written | str:
    if not isinstance(item, dict):
        return "form"
    text, answer, moments = (item.get(key) for key in ("question", "answer", "moments"))
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < 10**6:
        answer = str(answer)
    if not isinstance(text, str) or not 8 <= len(text.strip()) <= CHARS or not isinstance(answer, str):
        return "form"
    if not isinstance(moments, list) or not all(
        type(n) is int and 1 <= n <= len(video.events) for n in moments
    ):
        return "moments"
    numbers = tuple(sorted({n - 1 for n in moments}))
    if len(numbers) < 2:
        return "one_moment"
    answer = answer.strip().rstrip(".").strip()
    if not answer or len(answer.split()) > MAX_WORDS or len(answer) > CHARS // 4 or "\n" in answer:
        return "long_answer"
    if control_token(text + answer):
        return "control_token"
    counts = answer.isascii() and answer.isdigit() and len(answer) <= 3
    task, gold = ("counting", {"value": int(answer)}) if counts else ("text", {"value": answer})
    return Written(text.strip(), Question("written", "", task, numbers, gold))

"""Questions about a video that need more than one of its moments, with answers verified against its dense captions.

By rule, from `dense_captions`: what comes first or last, how many times something happens, what happens between two events. A
`teacher` may write further ones, in its own words, naming the moments that each needs. Every answer is found again:

- by rule, from labels and times;
- by the `judge`, where one is given (always for a teacher's questions): it reads the captions and the question, not the answer, and
  its own answer must earn the row's reward, or be judged to mean the same. For a teacher's questions it must also fail when it sees
  only one of the moments.

A row with dense captions of its whole video becomes one row per question.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from pydantic import Field, model_validator

from core.rows import Row
from data_recipes.readers.places import ask
from data_recipes.records import Context, Options, Removed, RowOperation, Several
from data_recipes.teacher import judge
from data_recipes.teacher.client import Client
from data_recipes.teacher.dense_events import Event, times_fault
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.moment_rules import MAKERS, PROMPTS, Kind, Question, Video, holds, video_of
from data_recipes.teacher.ordered import in_order
from data_recipes.teacher.written_questions import INSTRUCTION, Written, read_written
from rewards.functions.choice import choice_reward
from rewards.functions.counting import counting_reward

WHOLE_S = 0.05  # by which what was captioned may miss the video's ends


class MomentQuestions(Options):
    """Questions about several moments of videos with dense captions."""

    kinds: tuple[Kind, ...] = ("order", "count", "between")
    """Made by rule: which event is first or last, how often one happens, what happens between two; also `when` (all spans of an event)
    and `describe` (the captions with their times as the trace, no gold), which may need one moment alone."""
    per_kind: int = Field(default=1, ge=1, le=100)
    """Different questions of each kind that are tried for each video."""
    column: str = "dense_captions"
    """Column of the events; rows without it pass unchanged."""
    min_coverage: float = Field(default=0.7, ge=0.0, le=1.0)
    """Share of the video that its events must cover."""
    max_overlap_s: float = Field(default=0.5, ge=0.0, allow_inf_nan=False)
    """Seconds by which an event may begin before those before it end."""
    min_gap_s: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Seconds between the end of one event and the start of another that are asked about as one after the other."""
    max_likeness: float = Field(default=0.75, gt=0.0, le=1.0)
    """Labels with so large a share of common content words are too much alike to be asked about."""
    prompts: dict[str, str] = {}
    """Questions in other words, by name: first, last, count ({label}), between ({before}, {after}), when ({label}), describe."""
    teacher: Endpoint | None = None
    """Who writes further questions from the captions; needs a judge. null: rules alone."""
    written: int = Field(default=3, ge=1, le=20)
    """Questions that the teacher is asked for, per video."""
    judge: Endpoint | None = None
    """Who answers every question from the captions, without seeing the answer. null: answers are verified by rule alone."""

    @model_validator(mode="after")
    def _check(self) -> MomentQuestions:
        if self.teacher is not None and self.judge is None:
            raise ValueError(
                "teacher: expected a 'judge' beside it, since no rule can verify its questions, got none"
            )
        unknown = sorted(set(self.prompts) - set(PROMPTS))
        if unknown:
            raise ValueError(f"prompts: expected names among {', '.join(PROMPTS)}, got {', '.join(unknown)}")
        return self


class _Asker:
    """What one pass over rows needs."""

    def __init__(self, options: MomentQuestions, context: Context) -> None:
        self.options, self.counts, self.seed = options, context.counts, context.seed
        self.teacher, self.judge = (
            Client(endpoint, context.folder / name, context.counts, name) if endpoint else None
            for name, endpoint in (("teacher", options.teacher), ("judge", options.judge))
        )

    async def close(self) -> None:
        for client in (self.teacher, self.judge):
            if client is not None:
                await client.close()

    async def ask(self, row: Row) -> Row | Removed | Several:
        if row.get(self.options.column) is None:
            self.counts["passed"] += 1
            return row
        self.counts["asked"] += 1
        try:
            video = self._video(row)
        except ValueError as error:
            return Removed(row, "moment_captions", str(error))
        rows = [made async for made in self._rows(row, video)]
        if not rows:
            return Removed(
                row, "no_question", f"no question about its {len(video.events)} events could be verified"
            )
        self.counts["accepted"] += 1
        return Several(tuple(rows))

    def _video(self, row: Row) -> Video:
        """The row's events, checked. Raises ValueError where questions about them would have no sure answer."""
        options = self.options
        video = video_of(row, options.column, gap_s=options.min_gap_s, likeness=options.max_likeness)
        if len(row.get("videos") or ()) != 1:
            raise ValueError(
                f"videos: expected the one that was captioned, got {len(row.get('videos') or ())}"
            )
        shown = row.get("captioned")
        if shown is not None and not _is_whole(shown, video.length):
            raise ValueError(
                f"captioned: expected all of [0, {video.length:g}] s, got {shown}: other events may lie between"
            )
        fault = times_fault(
            video.events,
            video.length,
            tolerance_s=WHOLE_S,
            max_overlap_s=options.max_overlap_s,
            min_coverage=options.min_coverage,
        )
        if fault is not None:
            raise ValueError(f"{options.column}: {fault.reason}")
        return video

    async def _rows(self, row: Row, video: Video) -> AsyncIterator[Row]:
        """The rows of all questions whose answers are verified."""
        for kind in self.options.kinds:
            made: set[tuple[Any, ...]] = set()
            for number in range(self.options.per_kind):
                question = MAKERS[kind](video, random.Random(f"{self.seed}/{row['id']}/{kind}/{number}"))
                if question is None:
                    self.counts[f"none/{kind}"] += 1
                    continue
                if (question.asked, question.moments) in made:
                    continue
                made.add((question.asked, question.moments))
                verified = await self._verified(question, video)
                if verified:
                    yield _row(
                        row,
                        f"{kind}-{number + 1}",
                        question,
                        question.text(self.options.prompts),
                        video,
                        verified,
                    )
        if self.teacher is not None:
            async for name, written in self._written(video):
                yield _row(row, name, written.question, written.text, video, "judge")

    async def _verified(self, question: Question, video: Video) -> str:
        """Who verified the answer; "" where it does not hold."""
        if not holds(question, video):
            return self._refused(question.kind, "rule")
        if self.judge is None or question.answer is None or question.kind == "when":
            self._made(question.kind)
            return "rule"
        said = await judge.answer_from(self.judge, listed(video.events), question.text(self.options.prompts))
        reward = choice_reward if question.task == "choice" else counting_reward
        if reward(said, question.answer) != 1.0:
            return self._refused(question.kind, "judge")
        self._made(question.kind)
        return "rule, judge"

    async def _written(self, video: Video) -> AsyncIterator[tuple[str, Written]]:
        """(name, question) of the teacher's questions whose answers are verified."""
        assert self.teacher is not None
        prompt = INSTRUCTION.replace("{count}", str(self.options.written)).replace(
            "{events}", listed(video.events)
        )
        (reply,) = await self.teacher.ask([{"role": "user", "content": prompt}])
        if reply.problem is not None:
            self._refused("written", "failed")
            return
        for number, found in enumerate(read_written(reply.text or "", video, self.options.written), 1):
            if isinstance(found, str):
                self._refused("written", found)
            elif fault := await self._doubt(found, video):
                self._refused("written", fault)
            else:
                self._made("written")
                yield f"written-{number}", found

    async def _doubt(self, written: Written, video: Video) -> str:
        """What speaks against a teacher's question: the judge finds another answer, or finds the same in one moment. "" for none."""
        assert self.judge is not None
        if not await self._answers(written, video.events):
            return "judge"
        alone = await asyncio.gather(
            *(self._answers(written, [video.events[i]]) for i in written.question.moments)
        )
        return "one_moment" if any(alone) else ""

    async def _answers(self, written: Written, events: Sequence[Event]) -> bool:
        """Whether the judge finds the question's answer in these events."""
        assert self.judge is not None
        said = await judge.answer_from(self.judge, listed(events), written.text)
        if not said or said.lower().strip(" .") == judge.UNKNOWN:
            return False
        answer = written.question.answer or {}
        if written.question.task == "counting":
            return counting_reward(said, answer) == 1.0
        return await judge.is_valid(self.judge, written.text, answer["value"], said)

    def _made(self, kind: str) -> None:
        self.counts[f"made/{kind}"] += 1

    def _refused(self, kind: str, why: str) -> str:
        self.counts[f"refused/{kind}/{why}"] += 1
        return ""


def listed(events: Sequence[Event]) -> str:
    """Events as a judge or teacher is told them, numbered from 1."""
    return "\n".join(
        f"{i}. {e.start:g} s to {e.end:g} s: {e.label}. {e.caption}" for i, e in enumerate(events, 1)
    )


def _is_whole(shown: Any, length: float) -> bool:
    """Whether the parts shown are the video from end to end, without a gap."""
    try:
        (start, end), *more = shown
        return not more and abs(start) <= WHOLE_S and abs(end - length) <= WHOLE_S
    except (TypeError, ValueError):
        return False


def _row(row: Row, name: str, question: Question, text: str, video: Video, verified: str) -> Row:
    trace = None if question.trace is None else [{"role": "assistant", "content": question.trace}]
    return row | {
        "id": f"{row['id']}/{name}",
        "task": question.task,
        "prompt": ask(text, "video"),
        "images": [],
        "answer": None if question.answer is None else dict(question.answer),
        "trace": trace,
        "kind": question.kind,
        "moments": [[video.events[i].start, video.events[i].end] for i in question.moments],
        "verified_by": verified,
    }


def _apply(
    rows: Iterator[Row], options: MomentQuestions, context: Context
) -> Iterator[Row | Removed | Several]:
    asker = _Asker(options, context)
    ahead = max((e.ahead for e in (options.teacher, options.judge) if e is not None), default=1)
    yield from in_order(rows, asker.ask, ahead=ahead, close=asker.close)


OPERATIONS: dict[str, Any] = {"moment_questions": RowOperation(_apply, MomentQuestions, splits=True)}

"""Preference rows from questions: several models answer each, a judge compares the answers, and sure preferences become pairs.

    operations:
      - screen_queries: {judge: …}
      - diversify: {clusters: 2000, per_cluster: 20}
      - balance: {by: [language, kind], temperature: 4}
      - preferences:
          models: [{base_url: …, model: policy}, {base_url: …, model: other, samples: 2}]
          judge: {base_url: …, model: large}

as MiMo-VL makes them (arXiv 2506.03569, section 3.2). A checkpoint answers through a server that loads it (`vllm serve`). The rows
are read by `reward_model.py`; those of one question follow each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from pydantic import Field, model_validator

from core.media.tokens import MEDIA_TOKENS
from core.pairs import check_responses
from core.rows import BrokenRow, Row
from data_recipes.records import Context, Options, Removed, RowOperation, Several
from data_recipes.teacher.attempts import control_token
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint, Reply
from data_recipes.teacher.messages import media_fields, prompt_messages, prompt_parts, text_part
from data_recipes.teacher.ordered import in_order
from data_recipes.teacher.pairwise import (
    CRITERIA,
    Comparison,
    Ranking,
    Verdict,
    question,
    rank,
    read_verdict,
    shown,
)
from rewards.stages import STAGES, THINK, parse


class Answerer(Endpoint):
    """A model whose answers are compared."""

    name: str = ""
    """What rows and counts call it. Not given: its `model`."""
    samples: int = Field(default=1, ge=1)
    """Answers of it to each question; with several set a temperature."""
    grammar: Literal["none", "stages", "think"] = "none"
    """What it writes, as `rewards.grammar` of a run names it. Of a grammar the conclusion alone is compared and stored, which is all
    that a reward model is shown; answers that break it are left out."""

    @property
    def label(self) -> str:
        return self.name or self.model


class Preferences(Options):
    """Pairs of answers of several models, as a judge prefers them."""

    models: list[Answerer] = Field(min_length=1)
    """Who answers; at least two answers per question in all."""
    judge: Endpoint
    """Who compares. It should be stronger than the models, and none of them: a judge favours its own answers."""
    criteria: str = CRITERIA
    """What makes an answer better, as the judge is told."""
    pairs: Literal["all", "best_worst"] = "all"
    """all: a row for every sure preference between two answers. best_worst: one row per question, of the sure preference between
    the answers that are furthest apart in win rate."""
    tasks: list[str] | None = None
    """Rows of other tasks are left out. Not given: all tasks."""
    cut_off: Literal["drop", "keep"] = "drop"
    """Answers that end at the length limit: the judge would learn to dislike the limit rather than the answer."""
    max_chars: int = Field(default=20_000, ge=1)
    """Longer answers are not compared."""
    judge_tries: int = Field(default=2, ge=1, le=100)
    """Replies asked for until one has a readable verdict."""

    @model_validator(mode="after")
    def _check(self) -> Preferences:
        if sum(model.samples for model in self.models) < 2:
            raise ValueError(
                "models: expected two answers per question or more, got one model with samples: 1"
            )
        labels = [model.label for model in self.models]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"models: expected different names, got {twice[0]!r} again (set `name`)")
        keys = [(model.model, model.revision) for model in self.models]
        if twice_key := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(
                f"models: two are served as {twice_key[0]!r}: give each its own `revision`, by which cached answers are told apart"
            )
        return self


@dataclass(frozen=True)
class _Answer:
    model: str
    text: str


class _Maker:
    """What one pass over rows needs."""

    def __init__(self, options: Preferences, context: Context) -> None:
        self.options, self.counts = options, context.counts
        folder = context.folder / "teacher"
        self.models = [Client(m, folder, context.counts, f"model/{m.label}") for m in options.models]
        self.judge = Client(options.judge, folder, context.counts, "judge")

    async def close(self) -> None:
        for client in (*self.models, self.judge):
            await client.close()

    async def make(self, row: Row) -> Row | Removed | Several:
        options = self.options
        if options.tasks is not None and row["task"] not in options.tasks:
            return Removed(
                row,
                "other_task",
                f"its task is {row['task']!r}; pairs are made of {', '.join(options.tasks)}",
            )
        if row["prompt"][-1]["role"] == "assistant":
            return Removed(row, "no_question", "its prompt ends with an assistant's message")
        self.counts["asked"] += 1
        answers = await self._answers(row)
        if len(answers) < 2:
            return Removed(
                row, "few_answers", f"expected two different usable answers or more, got {len(answers)}"
            )
        comparisons = await self._compared(row, answers)
        ranking = rank(len(answers), comparisons)
        self.counts["contradicted"] += ranking.contradicted
        rows = self._rows(row, answers, ranking)
        if not rows:
            outcomes = ", ".join(sorted({one.outcome for one in comparisons}))
            return Removed(
                row,
                "no_preference",
                f"no sure preference among {len(answers)} answers ({outcomes}; {ranking.contradicted} contradicted)",
            )
        self.counts["accepted"] += 1
        self.counts["pairs"] += len(rows)
        return Several(rows)

    async def _answers(self, row: Row) -> list[_Answer]:
        """Usable answers of all models, equal ones once."""
        replies = await asyncio.gather(*(self._replies(client, row) for client in self.models))
        answers: dict[str, _Answer] = {}
        for model, given in zip(self.options.models, replies, strict=True):
            for reply in given:
                text = _conclusion(reply.text, model.grammar).strip()
                fault = self._fault(reply, text)
                if fault is None and text in answers:
                    fault = "equal"
                self.counts[f"answers/{model.label}/{fault or 'used'}"] += 1
                if fault is None:
                    answers[text] = _Answer(model.label, text)
        return list(answers.values())

    async def _replies(self, client: Client, row: Row) -> list[Reply]:
        messages = await asyncio.to_thread(prompt_messages, row, client.endpoint)
        fields = await asyncio.to_thread(media_fields, row, client.endpoint)
        samples: int = client.endpoint.samples  # type: ignore[attr-defined]  # an Answerer
        return await client.ask(messages, range(samples), fields)

    def _fault(self, reply: Reply, text: str) -> str | None:
        """What is wrong with an answer whose conclusion is `text`."""
        if reply.problem is not None:
            return "failed"
        if not (reply.text or "").strip():
            return "empty"
        if reply.finish == "length" and self.options.cut_off == "drop":
            return "cut_off"
        if not text:
            return "grammar"
        if len(text) > self.options.max_chars:
            return "too_long"
        if control_token(text) or any(token in text for token in MEDIA_TOKENS):
            return "control_token"
        return None

    async def _compared(self, row: Row, answers: list[_Answer]) -> list[Comparison]:
        judge = self.options.judge
        start = [
            text_part(question(self.options.criteria)),
            *await asyncio.to_thread(prompt_parts, row, judge),
        ]
        fields = await asyncio.to_thread(media_fields, row, judge)

        async def verdict(a: int, b: int) -> Verdict | None:
            both = text_part(shown(answers[a].text, answers[b].text))
            for sample in range(self.options.judge_tries):
                (reply,) = await self.judge.ask(
                    [{"role": "user", "content": [*start, both]}], [sample], fields
                )
                found = read_verdict(reply.text)
                if found is not None:
                    return found
            return None

        pairs = list(combinations(range(len(answers)), 2))
        both_orders = [order for a, b in pairs for order in ((a, b), (b, a))]
        verdicts = await asyncio.gather(*(verdict(a, b) for a, b in both_orders))
        found = [Comparison(a, b, verdicts[2 * i], verdicts[2 * i + 1]) for i, (a, b) in enumerate(pairs)]
        for one in found:
            outcome = one.outcome
            self.counts[f"compared/{'agreed' if outcome in ('first', 'second') else outcome}"] += 1
        return found

    def _rows(self, row: Row, answers: list[_Answer], ranking: Ranking) -> tuple[Row, ...]:
        rates = ranking.win_rates
        preferred = list(ranking.preferred)
        if self.options.pairs == "best_worst" and preferred:
            preferred = [max(preferred, key=lambda pair: rates[pair[0]] - rates[pair[1]])]
        rows = []
        for number, (better, worse) in enumerate(preferred, 1):
            chosen, rejected = answers[better], answers[worse]
            made = row | {
                "id": f"{row['id']}/{number}",
                "chosen": chosen.text,
                "rejected": rejected.text,
                "margin": round(max(0.0, rates[better] - rates[worse]), 6),
                "models": {
                    "chosen": chosen.model,
                    "rejected": rejected.model,
                    "judge": self.options.judge.model,
                },
            }
            try:
                rows.append(check_responses(made))
            except BrokenRow as error:  # every answer was looked at before
                raise RuntimeError(f"row {row['id']!r}: made a pair that is none: {error}") from None
        return tuple(rows)


def _conclusion(text: str | None, grammar: str) -> str:
    """What an answer says in the end; "" if it breaks the grammar."""
    if grammar == "none":
        return text or ""
    return parse(text or "", THINK if grammar == "think" else STAGES).conclusion or ""


def _apply(rows: Iterator[Row], options: Preferences, context: Context) -> Iterator[Row | Removed | Several]:
    maker = _Maker(options, context)
    yield from in_order(rows, maker.make, ahead=options.judge.ahead, close=maker.close)


OPERATIONS: dict[str, Any] = {"preferences": RowOperation(_apply, Preferences, splits=True)}

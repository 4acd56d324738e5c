"""Four-stage traces written by a teacher, as for LLaVA-CoT (arXiv 2411.10440): kept only if their conclusion verifies.

The teacher gets the question, the media and, if wanted, the true answer. Its reply must parse under the stage grammar
(`rewards.stages`), and the conclusion is judged by the row's own reward. Only where no reward applies may a judge endpoint
decide, by LLaVA-CoT's valid or invalid. A refused reply goes back with what was wrong, `max_tries` times.

With `candidates` above 1, several solutions of a question are kept by their answer, then rated by another model for clarity,
redundancy and format, and the best ones stay: the rejection sampling of MiMo-VL's long thoughts (arXiv 2506.03569, section 2.3). The
card says what each filter took: `replies` = all `replies_refused/RULE` + `solutions`; `solutions` = all `solutions_removed/RULE` +
`solutions_kept`.

Differences from the published script (dataset_generation/generate.py): it looks for the CONCLUSION alone, so that a trace
without SUMMARY passes; it always asks the judge; and a retry is told nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from core.rows import Row
from data_recipes.records import Context, Options, Removed, RowOperation, Several
from data_recipes.teacher import judge
from data_recipes.teacher.attempts import Verdict, attempt, describe
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import gold_text, media_fields, plain_answer, question_of
from data_recipes.teacher.ordered import in_order
from data_recipes.teacher.reply_text import repetition_fault
from data_recipes.teacher.solutions import (
    Accepted,
    Solution,
    best_of,
    different,
    filtered,
    rated,
    text_of,
    why_none,
)
from data_recipes.teacher.trace_form import read_trace, reasoning_fault
from data_recipes.teacher.trace_prompt import trace_messages
from rewards.config import RewardsConfig
from rewards.errors import RewardDataError
from rewards.stages import STAGES, THINK, parse


class Traces(Options):
    """Traces by a teacher."""

    teacher: Endpoint
    """Who writes."""
    rewards: RewardsConfig | None = None
    """Rewards by task, as in the config of an RL run; a conclusion must satisfy those of its row's task."""
    threshold: float = Field(default=1.0, gt=0.0)
    """Smallest reward of an accepted conclusion; below 1 for rewards such as GIoU."""
    judge: Endpoint | None = None
    """Judges conclusions where no reward applies (the task has none, or the true answer is free text), and rates candidates.
    null: such rows are removed."""
    show_answer: bool = True
    """Show the true answer to the teacher, as LLaVA-CoT does."""
    max_tries: int = Field(default=3, ge=1, le=100)
    """Replies asked for, per candidate, before the row leaves."""
    thought: Literal["short", "long"] = "short"
    """How the teacher is asked to reason."""
    grammar: Literal["stages", "think"] = "stages"
    """`think`: <think>…</think><answer>…</answer> in place of the four stages, as one message. With `thoughts: keep` of the teacher these are
    a reasoning model's own thoughts; `show_answer: false` then, or most speak of the answer that was shown."""
    candidates: int = Field(default=1, ge=1, le=100)
    """Solutions to choose from; above 1 the judge rates the right ones, and the best is kept."""
    keep: int = Field(default=1, ge=1, le=100)
    """Solutions of a question that are kept at most, the best ones; above 1, each is a row of its own, ID/solution-1 and so on."""
    min_quality: float = Field(default=1.0, ge=1.0, le=5.0)
    """Mean of the three ratings (1 to 5) below which a solution leaves."""
    min_scores: dict[Literal["clarity", "redundancy", "format"], Annotated[int, Field(ge=1, le=5)]] = {}
    """Ratings below which a solution leaves, as {clarity: 4, redundancy: 3}; the judge then rates single ones, too."""
    repetition: bool = True
    """Refuse solutions that loop or say passages again, as the operation `text_filter` measures it."""
    repetition_min_words: int = Field(default=50, ge=1)
    """Shorter solutions are not judged for repetition."""
    min_reasoning_words: int = Field(default=0, ge=0)
    """Refuse solutions with fewer words of reasoning."""
    hints: dict[str, str] = {}
    """Form of the conclusion by task; replaces or extends the built-in ones (choice, math, counting, grounding, pointing,
    temporal)."""
    instruction: str | None = None
    """Replaces the whole instruction; it must ask for the grammar's tags."""
    tasks: list[str] | None = None
    """Rows of other tasks pass unchanged. Not given: all tasks."""
    replace: bool = False
    """Write a new trace for rows that have one in the grammar already; else they pass unchanged. Any other single plain answer in
    place of a trace is always replaced, and counts as the truth where the row has no other; conversations of several
    turns always pass unchanged."""

    @model_validator(mode="after")
    def _check(self) -> Traces:
        if self.rates and self.judge is None:
            what = "candidates above 1" if self.candidates > 1 else "min_scores"
            raise ValueError(f"{what}: expected a 'judge' that rates them, got none")
        if self.keep > self.candidates:
            raise ValueError(f"keep: expected at most candidates = {self.candidates}, got {self.keep}")
        if self.candidates > 1 and self.teacher.temperature == 0:
            raise ValueError("candidates above 1: expected a teacher with a temperature above 0, got 0")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of the grammar's blocks."""
        return STAGES if self.grammar == "stages" else THINK

    @property
    def rates(self) -> bool:
        """Whether solutions are rated."""
        return self.candidates > 1 or bool(self.min_scores)


class _Writer:
    """What one pass over rows needs: teacher, judge and rewards."""

    def __init__(self, options: Traces, context: Context) -> None:
        from rewards.router import Router

        self.options, self.counts = options, context.counts
        self.teacher = Client(options.teacher, context.folder / "teacher", context.counts, "teacher")
        self.judge = (
            Client(options.judge, context.folder / "judge", context.counts, "judge")
            if options.judge
            else None
        )
        rewards = options.rewards
        # a trace is judged as a completion of its own grammar, whatever grammar the policy will be trained on
        self.router = Router(rewards.model_copy(update={"grammar": options.grammar})) if rewards else None

    async def close(self) -> None:
        await self.teacher.close()
        if self.judge:
            await self.judge.close()
        if self.router:
            await asyncio.to_thread(self.router.close)

    async def write(self, row: Row) -> Row | Removed | Several:
        options = self.options
        if self._passes(row):
            self.counts["passed"] += 1
            return row
        self.counts["asked"] += 1
        by_reward = (
            self.router is not None and row["task"] in self.router.config.tasks and bool(row["answer"])
        )
        if by_reward:
            try:
                await asyncio.to_thread(self.router.check_rows, [row])  # type: ignore[union-attr]
            except RewardDataError as error:  # found before anything is paid
                return self._removed(row, "gold", f"the row's answer cannot be judged: {error}")
        elif self.judge is None or gold_text(row) is None:
            why = "no judge is configured" if self.judge is None else "it has no answer to compare with"
            return self._removed(
                row, "unverifiable", f"no reward applies to the row (task '{row['task']}'), and {why}"
            )
        messages = await asyncio.to_thread(
            trace_messages,
            row,
            options.teacher,
            grammar=options.grammar,
            thought=options.thought,
            instruction=options.instruction,
            hints=options.hints,
            show_answer=options.show_answer,
        )
        fields = await asyncio.to_thread(media_fields, row, options.teacher)

        async def check(text: str) -> Verdict[Accepted]:
            return await self._check(text, row, by_reward)

        attempts = await asyncio.gather(
            *(
                attempt(
                    self.teacher,
                    messages,
                    check,
                    max_tries=options.max_tries,
                    candidate=candidate,
                    fields=fields,
                )
                for candidate in range(options.candidates)
            )
        )
        self.counts["replies"] += sum(made.tries for made in attempts)
        for made in attempts:
            self.counts.update(f"replies_refused/{rule}" for rule in made.broken)
        solutions = different(attempts, self.counts)
        if not solutions:
            last = attempts[-1]
            return self._removed(row, last.rule, f"after {last.tries} tries: {last.reason}")
        right = len(solutions)
        if options.rates:
            assert self.judge is not None
            all_rated = await rated(self.judge, row, solutions)
            limits: Mapping[str, int] = {str(aspect): least for aspect, least in options.min_scores.items()}
            solutions = filtered(all_rated, limits, options.min_quality, self.counts)
            if not solutions:
                return self._removed(row, *why_none(all_rated, limits, options.min_quality))
        self.counts["accepted"] += 1
        kept = best_of(solutions, options.keep, self.counts)
        self.counts.update(f"accepted/try_{solution.tries}" for solution in kept)
        rows = [row | self._columns(solution, right) for solution in kept]
        if options.keep == 1:
            return rows[0]
        return Several(tuple(made | {"id": f"{row['id']}/solution-{i}"} for i, made in enumerate(rows, 1)))

    def _columns(self, solution: Solution, right: int) -> Row:
        """The row's new columns. right: solutions that this one was chosen from."""
        teacher = {
            "model": self.options.teacher.model,
            "tries": solution.tries,
            "verified_by": solution.found.verified_by,
            "candidates": right,
            "quality": solution.quality,
        }
        scores = {"scores": dict(solution.scores)} if solution.scores else {}
        found = solution.found
        staged = self.options.grammar == "stages"
        trace = found.trace if staged else [{"role": "assistant", "content": found.text}]
        return {"trace": trace, "teacher": teacher | scores}

    def _passes(self, row: Row) -> bool:
        if self.options.tasks is not None and row["task"] not in self.options.tasks:
            return True
        trace = row.get("trace")
        if isinstance(trace, dict):
            return not self.options.replace
        plain = plain_answer(row)
        if plain is not None and self.options.grammar == "think" and parse(plain, THINK).stages:
            return not self.options.replace
        return trace is not None and plain is None

    def _removed(self, row: Row, rule: str, reason: str) -> Removed:
        self.counts[f"refused/{rule}"] += 1
        return Removed(row, f"trace_{rule}", reason)

    async def _check(self, text: str, row: Row, by_reward: bool) -> Verdict[Accepted]:
        trace = read_trace(text, row, self.options.names)
        if isinstance(trace, Verdict):
            return trace
        options = self.options
        fault = reasoning_fault(trace, options.min_reasoning_words)
        if fault is None and options.repetition:
            fault = repetition_fault(text_of(trace), options.repetition_min_words, "solution")
        if fault is not None:
            return fault
        conclusion = list(trace.values())[-1]
        if by_reward:
            right, verified_by, why = await asyncio.to_thread(self._reward, row, text_of(trace))
        else:
            right, verified_by, why = None, "", "no reward applies"
        if right is None:
            if self.judge is None or gold_text(row) is None:
                return Verdict(rule="unverifiable", reason=f"{why}, and no judge can decide", final=True)
            right, verified_by, why = await self._judged(row, conclusion)
        if right:
            return Verdict(Accepted(trace, verified_by))
        gold = gold_text(row) if self.options.show_answer else None
        told = f" The standard answer is: {gold}" if gold is not None else ""
        return Verdict(
            rule="wrong",
            reason=f"the conclusion {describe(conclusion)} does not verify: {why}",
            feedback=f"The conclusion of your solution was judged wrong.{told} Look again, and write the whole solution"
            " again in the same form.",
        )

    def _reward(self, row: Row, text: str) -> tuple[bool | None, str, str]:
        """(right, verified by, why not) by the row's reward; right is None where no function applies."""
        assert self.router is not None
        (score,) = self.router.score([row], [text], group_ids=[row["id"]])
        if score.reward is None:
            # a function that failed has not said that none applies: such a trace is not passed on to the judge
            applies = any(value is not None for value in score.components.values())
            failed = applies or score.reason != "no reward function applies"
            return (False if failed else None), "", score.reason or ""
        return score.reward >= self.options.threshold, "reward", f"reward {score.reward:g}"

    async def _judged(self, row: Row, conclusion: str) -> tuple[bool, str, str]:
        gold = gold_text(row)
        assert self.judge is not None and gold is not None
        valid = await judge.is_valid(self.judge, question_of(row), gold, conclusion)
        return valid, "judge", "the judge did not say valid"


def _apply(rows: Iterator[Row], options: Traces, context: Context) -> Iterator[Row | Removed | Several]:
    writer = _Writer(options, context)
    yield from in_order(rows, writer.write, ahead=options.teacher.ahead, close=writer.close)


OPERATIONS: dict[str, Any] = {"traces": RowOperation(_apply, Traces, splits=True)}

"""Rows by what a model makes of them: rows it solves without the image leave, and rows that are too easy or too hard.

The model answers behind an OpenAI-compatible endpoint, as a rule the policy itself on a vLLM server. Its completions are
scored by the same rewards and the same code as in the RL run. Source: MiMo-VL (arXiv 2506.03569, section 3.1) drops rows
with a pass rate above 0.9 and rows solvable without the image; MiMo-7B takes 16 rollouts.

A server that parses thoughts away (vLLM's `--reasoning-parser`) hides them from the rewards: serve without it. The server
needs the processor's pixel limits of the training run (`--mm-processor-kwargs`), or the model sees other images.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from pydantic import Field, model_validator

from core.rows import Row
from data_recipes.records import Context, Options, Removed, RowOperation
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import has_media, media_fields, prompt_messages
from data_recipes.teacher.ordered import in_order
from rewards.config import RewardsConfig
from rewards.errors import RewardDataError
from rewards.router import Router


class Rollouts(Options):
    """Rollouts of a model, and what judges them."""

    model: Endpoint
    """The model; give it the temperature of the RL run."""
    rewards: RewardsConfig
    """As in the config of the RL run: rewards by task, and the grammar of the completions."""
    n: int = Field(default=16, ge=1, le=1000)
    """Rollouts per row."""
    pass_threshold: float = Field(default=1.0, gt=0.0)
    """Smallest reward of a rollout that passes; below 1 for rewards such as GIoU."""
    tasks: list[str] | None = None
    """Rows of other tasks pass unchanged. Not given: all tasks."""

    @model_validator(mode="after")
    def _differ(self) -> Rollouts:
        if self.n > 1 and self.model.temperature == 0:
            raise ValueError(f"n = {self.n} rollouts: expected a model with a temperature above 0, got 0")
        return self


class PassRate(Rollouts):
    """Rows by difficulty: kept if low < pass rate <= high. Adds the columns `pass_rate` and `mean_reward`."""

    low: float = Field(default=0.0, ge=-1.0, le=1.0)
    """Rows with this pass rate or a lower one leave; below 0 none does."""
    high: float = Field(default=0.9, ge=0.0, le=1.0)
    """Rows with a higher pass rate leave."""


class NeedsImage(Rollouts):
    """Rows that the model solves without their images and videos leave. Adds the column `blind_rate`."""

    n: int = Field(default=8, ge=1, le=1000)
    """Rollouts per row."""
    threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """Rows with this pass rate or a higher one leave. Mind guessing: among four options a quarter is right by chance."""


class _Measure:
    """Pass rates of rows, with or without their media."""

    def __init__(self, options: Rollouts, context: Context, *, with_media: bool) -> None:
        self.options, self.counts, self.with_media = options, context.counts, with_media
        self.client = Client(options.model, context.folder / "model", context.counts, "model")
        self.router = Router(options.rewards)

    async def close(self) -> None:
        await self.client.close()
        await asyncio.to_thread(self.router.close)

    def applies(self, row: Row) -> bool:
        return self.options.tasks is None or row["task"] in self.options.tasks

    async def __call__(self, row: Row) -> tuple[float, float] | Removed:
        """(share of rollouts that pass, mean reward); or the row taken out because they cannot be had."""
        options = self.options
        if row["task"] not in options.rewards.tasks:
            known = ", ".join(sorted(options.rewards.tasks))
            raise ValueError(
                f"row '{row['id']}': expected a task with rewards ({known}), got '{row['task']}'; give it rewards, or name"
                " the tasks to measure in 'tasks'"
            )
        try:
            await asyncio.to_thread(self.router.check_rows, [row])  # before anything is generated
        except RewardDataError as error:
            return self._unmeasured(row, "gold", str(error))
        messages = await asyncio.to_thread(prompt_messages, row, options.model, with_media=self.with_media)
        fields = await asyncio.to_thread(media_fields, row, options.model) if self.with_media else {}
        replies = await self.client.ask(messages, range(options.n), fields)
        texts = [reply.text or "" for reply in replies if reply.problem is None]
        if not texts:
            return self._unmeasured(row, "unanswered", str(replies[0].problem))
        scores = await asyncio.to_thread(
            self.router.score, [row] * len(texts), texts, group_ids=[row["id"]] * len(texts)
        )
        rewards = [score.reward for score in scores if score.reward is not None]
        if not rewards:
            return self._unmeasured(row, "unscored", f"no rollout has a reward: {scores[0].reason}")
        self.counts["rollouts"] += len(rewards)
        self.counts["rollouts_without_reward"] += options.n - len(rewards)
        passed = sum(reward >= options.pass_threshold for reward in rewards)
        return passed / len(rewards), sum(rewards) / len(rewards)

    def _unmeasured(self, row: Row, rule: str, reason: str) -> Removed:
        self.counts[f"unmeasured/{rule}"] += 1
        return Removed(row, f"rollouts_{rule}", reason)


def _pass_rate(rows: Iterator[Row], options: PassRate, context: Context) -> Iterator[Row | Removed]:
    measure = _Measure(options, context, with_media=True)

    async def decide(row: Row) -> Row | Removed:
        if not measure.applies(row):
            return row
        measured = await measure(row)
        if isinstance(measured, Removed):
            return measured
        rate, mean = measured
        context.counts[f"pass_rate/{tenth(rate)}"] += 1
        row = row | {"pass_rate": rate, "mean_reward": mean}
        if rate <= options.low:
            return Removed(row, "too_hard", f"pass rate {rate:.3f}, not above {options.low:g}")
        if rate > options.high:
            return Removed(row, "too_easy", f"pass rate {rate:.3f}, above {options.high:g}")
        return row

    yield from in_order(rows, decide, ahead=options.model.ahead, close=measure.close)


def _needs_image(rows: Iterator[Row], options: NeedsImage, context: Context) -> Iterator[Row | Removed]:
    measure = _Measure(options, context, with_media=False)

    async def decide(row: Row) -> Row | Removed:
        if not measure.applies(row) or not has_media(row):
            return row
        measured = await measure(row)
        if isinstance(measured, Removed):
            return measured
        rate, _ = measured
        context.counts[f"blind_rate/{tenth(rate)}"] += 1
        row = row | {"blind_rate": rate}
        if rate >= options.threshold:
            return Removed(
                row,
                "image_not_needed",
                f"pass rate {rate:.3f} without the image, {options.threshold:g} or more",
            )
        return row

    yield from in_order(rows, decide, ahead=options.model.ahead, close=measure.close)


def tenth(rate: float) -> str:
    """The bin of a rate in [0, 1]: "0.0" for [0, 0.1), …, "1.0" for 1 alone."""
    return f"{int(rate * 10 + 1e-9) / 10:.1f}"


OPERATIONS: dict[str, Any] = {
    "pass_rate": RowOperation(_pass_rate, PassRate),
    "needs_image": RowOperation(_needs_image, NeedsImage),
}

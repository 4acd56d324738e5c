"""Dialogues of several turns collected from a teacher, as Mini-o3's cold start (arXiv 2509.07969): kept only if their answer is right.

The teacher is shown a few dialogues as examples and then the row's question. Each call that it writes is carried out by the
environment in which the policy will be trained (`environments`): a crop comes from the full-resolution image, and what comes
back is worded as in rollouts. So it goes on until the teacher answers or a budget is spent. The last answer is judged by the
row's own reward, as that of a rollout is. The teacher needs no tool support of its own.

The dialogue becomes the row's trace, the images of its observations join the row's.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field, model_validator

from core.rows import Row, read_rows
from data_recipes.files.media_store import store_bytes
from data_recipes.records import Context, Options, Removed, RowOperation
from data_recipes.teacher.attempts import CONTROL_TOKENS, control_token, describe
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint, Reply
from data_recipes.teacher.messages import Message, conversation, message_of
from data_recipes.teacher.ordered import in_order
from environments.config import EnvironmentConfig, ToolConfig
from environments.dialogue import SYSTEM, as_message, images_of
from environments.types import Content, Done
from rewards.config import RewardsConfig
from rewards.errors import RewardDataError

ANSWERED = "</answer>"


class Trajectories(Options):
    """Dialogues with tool calls by a teacher, kept if their answer is right."""

    teacher: Endpoint
    """Who writes. `max_pixels` limits what it is sent; crops are taken from the full-resolution images all the same."""
    rewards: RewardsConfig
    """Rewards by task, as in the config of an RL run; the answer must satisfy those of its row's task."""
    threshold: float = Field(default=1.0, gt=0.0)
    """Smallest reward of a right answer."""
    environment: EnvironmentConfig = EnvironmentConfig(tools=[ToolConfig(tool="zoom")], describe_tools=False)
    """Tools and budgets, as in the config of the RL run: boxes in its `frame` (not `resized`, since the teacher is not the model)."""
    examples: Path | None = None
    """Rows with dialogues as traces that the teacher is shown, for example six written by hand. null: none."""
    shots: int = Field(default=6, ge=1)
    """The first so many of `examples` are shown, each to every row."""
    system: str | None = None
    """System message of rows that have none: how to think, call and answer. null: that of visual search in Mini-o3's format, or with
    `environment.describe_tools` the tools' description, which is added to rows' own system messages too."""
    max_tries: int = Field(default=1, ge=1, le=100)
    """Dialogues begun anew for a row whose last one was not kept. What was wrong is not told: it would be told the answer."""
    max_failed_calls: int = Field(default=0, ge=0)
    """Calls of a dialogue that may fail; a policy would learn to write them."""
    send_stop: bool = True
    """Ask the endpoint to stop behind a call (`stop`); false for models that do not take it. Text behind a call is cut off anyway."""
    tasks: list[str] | None = None
    """Rows of other tasks pass unchanged. null: all tasks."""
    replace: bool = False
    """Collect a new dialogue for rows that have a trace already; else they pass unchanged."""

    @model_validator(mode="after")
    def _check(self) -> Trajectories:
        if self.environment.frame == "resized":
            raise ValueError("environment.frame: expected norm1, norm1000 or pixel, got resized")
        if self.environment.frame == "pixel" and self.teacher.max_pixels is not None:
            raise ValueError(
                "environment.frame: pixel: expected teacher.max_pixels null, or boxes would be of another image"
            )
        if self.max_tries > 1 and self.teacher.temperature == 0:
            raise ValueError("max_tries above 1: expected a teacher with a temperature above 0, got 0")
        return self


@dataclass
class Played:
    """A dialogue as far as it went. turns: assistant's and user's in turn. images: of its observations. rule, reason: why it is not
    kept; "" if it is. final: trying again would not help."""

    turns: list[dict[str, Any]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    failed_calls: int = 0
    rule: str = ""
    reason: str = ""
    final: bool = False

    def refused(self, rule: str, reason: str, *, final: bool = False) -> Played:
        self.rule, self.reason, self.final = rule, reason, final
        return self

    @property
    def text(self) -> str:
        """What a reward reads of an episode: all that the assistant wrote."""
        return "\n".join(turn["content"] for turn in self.turns if turn["role"] == "assistant")


class _Collector:
    """What one pass over rows needs: teacher, environment and rewards."""

    def __init__(self, options: Trajectories, context: Context) -> None:
        from environments.build import environment_of
        from rewards.router import Router

        self.options, self.counts = options, context.counts
        self.media = context.media or context.folder / "media"
        self.teacher = Client(options.teacher, context.folder / "teacher", context.counts, "teacher")
        self.environment = environment_of(options.environment, CONTROL_TOKENS)
        # as a rollout of an episode: its answer is in <answer>, whatever else it says
        self.router = Router(options.rewards.model_copy(update={"grammar": "none"}))

    @cached_property
    def examples(self) -> list[Message]:
        """The example dialogues as messages, without their system messages."""
        if self.options.examples is None:
            return []
        rows = read_rows(self.options.examples, limit=self.options.shots)
        without = [row["id"] for row in rows if not isinstance(row["trace"], list)]
        if without:
            raise ValueError(
                f"{self.options.examples}: expected rows with dialogues as traces, got row {without[0]!r} without one"
            )
        messages = [message for row in rows for message in conversation(row, self.options.teacher)]
        return [message for message in messages if message["role"] != "system"]

    async def close(self) -> None:
        await self.teacher.close()
        await asyncio.to_thread(self.environment.close)
        await asyncio.to_thread(self.router.close)

    async def collect(self, row: Row) -> Row | Removed:
        options = self.options
        if self._passes(row):
            self.counts["passed"] += 1
            return row
        self.counts["asked"] += 1
        if row["task"] not in self.router.config.tasks or not row["answer"]:
            why = "it has no answer" if not row["answer"] else f"task '{row['task']}' has no reward"
            return self._removed(row, "unverifiable", f"nothing can judge a dialogue: {why}")
        try:
            await asyncio.to_thread(self.router.check_rows, [row])
        except RewardDataError as error:  # found before anything is paid
            return self._removed(row, "gold", f"the row's answer cannot be judged: {error}")
        asked = self._asked(row)
        start = await asyncio.to_thread(self._start, asked)
        for number in range(options.max_tries):
            played = await self._play(asked, start, number)
            self.counts["dialogues"] += 1
            if not played.rule:
                return await asyncio.to_thread(self._kept, asked, played, number + 1)
            if played.final:
                break
        return self._removed(row, played.rule, f"after {number + 1} dialogues: {played.reason}")

    def _passes(self, row: Row) -> bool:
        if self.options.tasks is not None and row["task"] not in self.options.tasks:
            return True
        return row.get("trace") is not None and not self.options.replace

    def _removed(self, row: Row, rule: str, reason: str) -> Removed:
        self.counts[f"refused/{rule}"] += 1
        return Removed(row, f"trajectory_{rule}", reason)

    def _asked(self, row: Row) -> Row:
        """The row as the policy will be asked: with the system message, without a former trace and its images."""
        from core.rows import count_placeholders
        from environments.build import with_tools

        own = {kind: count_placeholders(row["prompt"], kind) for kind in ("image", "video")}
        row = {**row, "trace": None} | {f"{kind}s": row[f"{kind}s"][:count] for kind, count in own.items()}
        if self.options.environment.describe_tools:
            return with_tools([row], self.options.environment)[0]
        system = self.options.system or (SYSTEM if self.options.environment.tools else "")
        if system and row["prompt"][0]["role"] != "system":
            row["prompt"] = [{"role": "system", "content": system}, *row["prompt"]]
        return row

    def _start(self, row: Row) -> list[Message]:
        """System message, examples, question."""
        own = conversation(row, self.options.teacher)
        system = [message for message in own if message["role"] == "system"]
        return [*system, *self.examples, *own[len(system) :]]

    async def _play(self, row: Row, start: Sequence[Message], sample: int) -> Played:
        """One dialogue. sample: number of it; the same number gives the same dialogue for ever, from the cache."""
        options, budget = self.options, self.options.environment
        state = await asyncio.to_thread(self.environment.reset, row)
        said, played = list(start), Played()
        stop = self.environment.stop
        fields = {"stop": list(stop)} if options.send_stop and stop else {}
        for number in range(1, budget.max_turns + 1):
            (reply,) = await self.teacher.ask(said, [sample], fields)
            text = turn_of(reply, stop)
            if problem := _unusable(reply, text, stop):
                return played.refused(*problem, final=reply.problem is not None)
            played.turns.append({"role": "assistant", "content": text})
            answer = await asyncio.to_thread(self.environment.respond, state, text)
            if isinstance(answer, Done):
                return await asyncio.to_thread(self._judged, row, played)
            if answer.error:
                played.failed_calls += 1
                if played.failed_calls > options.max_failed_calls:
                    return played.refused("call", f"turn {number}: the call failed: {answer.error}")
            if number == budget.max_turns:
                break
            message = self._observed(played, answer.content)
            if budget.max_images and len(row["images"]) + len(played.images) > budget.max_images:
                return played.refused("over_turn", f"more than {budget.max_images} images")
            said += [
                {"role": "assistant", "content": text},
                await asyncio.to_thread(message_of, *message, options.teacher),
            ]
        return played.refused("over_turn", f"no answer in {budget.max_turns} turns")

    def _observed(self, played: Played, content: Content) -> tuple[dict[str, Any], list[Image.Image]]:
        message, images = as_message(content), list(images_of(content))
        played.turns.append(message)
        played.images += images
        return message, images

    def _judged(self, row: Row, played: Played) -> Played:
        """The dialogue, refused unless the row's reward finds its answer right."""
        last = played.turns[-1]["content"]
        if "<answer>" not in last or not last.endswith(ANSWERED):
            return played.refused(
                "no_answer", f"expected a call or <answer>…</answer>, got {describe(last[-120:])}"
            )
        (score,) = self.router.score([row], [played.text], group_ids=[row["id"]])
        if score.reward is None:
            return played.refused("unverifiable", score.reason or "no reward applies", final=True)
        if score.reward < self.options.threshold:
            answer = last.rpartition("<answer>")[2].removesuffix(ANSWERED)
            return played.refused("wrong", f"the answer {describe(answer)} has reward {score.reward:g}")
        return played

    def _kept(self, row: Row, played: Played, tries: int) -> Row:
        turns = sum(turn["role"] == "assistant" for turn in played.turns)
        self.counts["accepted"] += 1
        self.counts[f"accepted/turns_{turns}"] += 1
        new = {
            **row,
            "trace": played.turns,
            "images": [*row["images"], *({"bytes": _png(image)} for image in played.images)],
            "turns": turns,
            "teacher": {"model": self.options.teacher.model, "tries": tries, "verified_by": "reward"},
        }
        return store_bytes(new, self.media)


def turn_of(reply: Reply, stop: Sequence[str]) -> str:
    """The teacher's turn: up to the end of its first call or answer, since a teacher may go on to imagine what it is shown; with the
    closing tag that an endpoint takes away. stop: texts that end a turn, such as "</grounding>"."""
    text = (reply.text or "").strip()
    ends = [at + len(end) for end in (*stop, ANSWERED) if (at := text.find(end)) >= 0]
    if ends:
        return text[: min(ends)]
    opened = [end for end in stop if end.startswith("</") and end.replace("/", "", 1) in text]
    return text + opened[0] if opened and reply.finish == "stop" else text


def _unusable(reply: Reply, text: str, stop: Sequence[str]) -> tuple[str, str] | None:
    """(rule, reason) for a turn that cannot be part of a dialogue."""
    if reply.problem is not None:
        return "failed", reply.problem
    if not text:
        return "refused", f"the teacher gave no text (finish: {reply.finish})"
    if reply.finish == "length" and not text.endswith((*stop, ANSWERED)):
        return "cut", "a turn was cut off at the length limit"
    if token := control_token(text):
        return "token", f"a turn holds the control token {token}"
    return None


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _apply(rows: Iterator[Row], options: Trajectories, context: Context) -> Iterator[Row | Removed]:
    collector = _Collector(options, context)
    yield from in_order(rows, collector.collect, ahead=options.teacher.ahead, close=collector.close)


OPERATIONS: dict[str, Any] = {"trajectories": RowOperation(_apply, Trajectories)}

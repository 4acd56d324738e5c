"""Runs any number of searches together on one engine: their calls are gathered and made in one batch, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.engine import Engine
from inference.generating import Pieces, advance
from inference.types import Answer, Calls, Generate, Question, Rate, Search


@dataclass
class _Running:
    """A search that waits for the replies to its calls. pieces: of the calls to the engine, by their place among the calls."""

    question: Question
    search: Search
    calls: Calls = ()
    pieces: dict[int, Pieces] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        return any(not pieces.complete for pieces in self.pieces.values())


class Rounds:
    """The searches that are running. `start` adds one, `stop` drops one, `round` makes the next calls of all of them.

    slice_tokens: most tokens of a completion in one round; longer ones are continued in the next, so that a search can join, or
        be dropped, before they are finished. None: completions are generated in one piece, which costs least.
    """

    def __init__(self, engine: Engine, slice_tokens: int | None = None) -> None:
        self._engine = engine
        self._slice = slice_tokens
        self._running: dict[int, _Running] = {}
        self._ended: list[tuple[int, Answer | Exception]] = []
        self._started = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._ended)

    def start(self, question: Question, search: Search) -> int:
        """Add a search; returns its number. Calls are made by `round`."""
        number, self._started = self._started, self._started + 1
        self._running[number] = _Running(question, search)
        self._continue(number, None)
        return number

    def stop(self, number: int) -> None:
        """Drop a search that nobody waits for any longer."""
        if number in self._running:
            self._running.pop(number).search.close()

    def close(self) -> None:
        """Drop all searches."""
        for number in list(self._running):
            self.stop(number)

    def round(self) -> list[tuple[int, Answer | Exception]]:
        """Make the pending calls of all searches; returns those that ended, with their answers or the error that ended them.

        An error of a reward function ends the searches that asked for scores in this round. An error of the engine is raised.
        """
        advance(
            self._engine,
            [piece for running in self._running.values() for piece in running.pieces.values()],
            self._slice,
        )
        ready = {number: running for number, running in self._running.items() if not running.waits}
        try:
            scores = _rated([call for r in ready.values() for call in r.calls if isinstance(call, Rate)])
        except Exception as error:  # noqa: BLE001  whatever functions raise; searches that are not scored go on
            for number in [n for n, r in ready.items() if any(isinstance(call, Rate) for call in r.calls)]:
                ready.pop(number)
                self.stop(number)
                self._ended.append((number, error))
        for number, running in ready.items():
            replies = [
                next(scores) if isinstance(call, Rate) else running.pieces[i].rollouts()
                for i, call in enumerate(running.calls)
            ]
            _account(running, replies)
            self._continue(number, replies)
        ended, self._ended = self._ended, []
        return ended

    def _continue(self, number: int, replies: Sequence[list[Any]] | None) -> None:
        running = self._running[number]
        try:
            running.calls = next(running.search) if replies is None else running.search.send(replies)
        except StopIteration as end:
            self._ended.append((number, end.value))
        except Exception as error:  # noqa: BLE001  of this search alone: the others go on
            self._ended.append((number, error))
        else:
            tokenizer = running.question.processor and running.question.tokenizer
            running.pieces = {
                i: Pieces(call, tokenizer, running.question.partial)
                for i, call in enumerate(running.calls)
                if isinstance(call, Generate)
            }
            return
        del self._running[number]


def run_searches(engine: Engine, searches: Sequence[tuple[Question, Search]]) -> list[Answer]:
    """The answers of all searches, which run together. The first error of a search ends all of them."""
    rounds, answers = Rounds(engine), {}
    places = {rounds.start(question, search): place for place, (question, search) in enumerate(searches)}
    try:
        while len(rounds):
            for number, answer in rounds.round():
                if isinstance(answer, Exception):
                    raise answer
                answers[places[number]] = answer
    finally:
        rounds.close()
    return [answers[place] for place in range(len(searches))]


def _rated(calls: Sequence[Rate]) -> Any:
    """An iterator of the replies. Calls to the same function are made as one, whichever searches they are of."""
    scores: dict[Any, Any] = {}
    for function in dict.fromkeys(call.score for call in calls):
        parts = [
            (call.row, text, ids, call.row["id"])
            for call in calls
            if call.score == function
            for text, ids in zip(call.texts, call.ids, strict=True)
        ]
        scores[function] = iter(function(*map(list, zip(*parts, strict=True))) if parts else [])
    return iter([[next(scores[call.score]) for _ in call.texts] for call in calls])


def _account(running: _Running, replies: Sequence[list[Any]]) -> None:
    """Add what a search's calls used to its account."""
    spent = running.question.spent
    spent.engine_calls += any(isinstance(call, Generate) for call in running.calls)
    for call, reply in zip(running.calls, replies, strict=True):
        if isinstance(call, Rate):
            spent.tokens_judged += sum(map(len, call.ids))
        else:
            sampled = sum(len(rollout.completion_ids) for rollout in reply)
            if call.judge:
                spent.tokens_judged += sampled + len(call.request.prompt)
            else:
                spent.tokens_generated += sampled

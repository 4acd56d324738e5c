"""Calls to the engine on behalf of many searches, in one piece or in slices that are continued.

A continued completion is the sampled one: the tokens so far are part of the prompt, which the engine's prefix cache holds, and
the stop rule is applied to the whole text, so that a stop text may lie across two slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from engines.engine import Engine
from engines.rollout import Request, Rollout, Sampling, by_request
from engines.tokens import stop_length
from inference.types import Generate
from vlm.inputs import extend


class Pieces:
    """The completions of one call while they grow. partial: told the text so far of a lone one."""

    def __init__(self, call: Generate, tokenizer: Any, partial: Callable[[str], None]) -> None:
        self.call = call
        self.found: list[Rollout | None] = [None] * call.request.n
        self.slices = 0
        self._tokenizer, self._partial = tokenizer, partial

    @property
    def complete(self) -> bool:
        return all(rollout is not None and self._ended(rollout) for rollout in self.found)

    def rollouts(self) -> list[Rollout]:
        return [rollout for rollout in self.found if rollout is not None]

    def growing(self) -> list[int]:
        """Places of the completions that are not finished."""
        return [i for i, r in enumerate(self.found) if r is None or not self._ended(r)]

    def requests(self) -> list[Request]:
        """For the next slice: one for all n at first, then one for each that is not finished."""
        request = self.call.request
        if not self.slices:
            return [request]
        begun = [self.found[place] for place in self.growing()]
        return [
            replace(request, n=1, prompt=extend(request.prompt, r.completion_ids))
            for r in begun
            if r is not None
        ]

    def left(self) -> int:
        """Most tokens that one of them may still get."""
        done = [len(r.completion_ids) if (r := self.found[place]) else 0 for place in self.growing()]
        return self.call.sampling.max_tokens - min(done)

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """The next slice of each completion that is not finished."""
        for place, rollout in zip(self.growing(), rollouts, strict=True):
            before = self.found[place]
            self.found[place] = self._limited(rollout if before is None else self._joined(before, rollout))
        self.slices += 1
        if len(self.found) == 1 and not self.call.judge and (only := self.found[0]):
            self._partial(only.text)

    def _ended(self, rollout: Rollout) -> bool:
        return rollout.finish != "length" or len(rollout.completion_ids) >= self.call.sampling.max_tokens

    def _joined(self, before: Rollout, after: Rollout) -> Rollout:
        ids = before.completion_ids + after.completion_ids
        stop = self.call.sampling.stop
        end = stop_length(self._tokenizer, ids, stop) if stop else None
        return replace(
            before,
            completion_ids=ids[:end],
            loss_mask=(before.loss_mask + after.loss_mask)[:end],
            logprobs=(before.logprobs + after.logprobs)[:end],
            text=self._tokenizer.decode(list(ids[:end]), skip_special_tokens=True),
            finish="stop" if end is not None else after.finish,
        )

    def _limited(self, rollout: Rollout) -> Rollout:
        """As it would be with this call's limit; others in the same batch may have a larger one."""
        most = self.call.sampling.max_tokens
        if len(rollout.completion_ids) <= most:
            return rollout
        ids = rollout.completion_ids[:most]
        return replace(
            rollout,
            completion_ids=ids,
            loss_mask=rollout.loss_mask[:most],
            logprobs=rollout.logprobs[:most],
            text=self._tokenizer.decode(list(ids), skip_special_tokens=True),
            finish="length",
        )


def advance(engine: Engine, calls: Sequence[Pieces], slice_tokens: int | None) -> None:
    """Generate the next slice of all calls that are not complete; those that are sampled alike in one batch."""
    batches: dict[Sampling, list[Pieces]] = {}
    for pieces in calls:
        if not pieces.complete:
            batches.setdefault(_alike(pieces), []).append(pieces)
    for alike, batch in batches.items():
        most = max(pieces.left() for pieces in batch)
        sampling = replace(alike, max_tokens=min(most, slice_tokens or most))
        requests = [request for pieces in batch for request in pieces.requests()]
        rest = iter(by_request(requests, engine.generate(requests, sampling)))
        for pieces in batch:
            mine = [next(rest) for _ in pieces.requests()]
            pieces.add([rollout for some in mine for rollout in some])


def _alike(pieces: Pieces) -> Sampling:
    """What calls of one batch have in common; the limit is not: completions with a smaller one are cut."""
    sampling = pieces.call.sampling
    seed = None if sampling.seed is None or sampling.temperature == 0 else sampling.seed + pieces.slices
    return replace(sampling, max_tokens=1, seed=seed)

"""Pairs as packed micro-batches: a prompt and its media are computed once for all its responses, equal responses once.

A pair is a group of two completions, so the shared-prefix forward of the RL update (`vlm/packed`) serves here too; pairs that
compare several responses to one prompt share them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reward_models.encoding import EncodedPair
from vlm.inputs import Encoded
from vlm.packed.filling import largest_first
from vlm.packed.layout import DummyMedia
from vlm.packed.packing import Packed, PrefixTree, Segment, pack


@dataclass(frozen=True)
class PairBatch:
    """packed: what the model is given; its continuations have the scores 0 to N - 1. chosen, rejected: (P,) int64, the scores
    of each pair; margins: (P,) float32; rows: number of each pair's row."""

    packed: Packed
    chosen: Tensor
    rejected: Tensor
    margins: Tensor
    rows: tuple[int, ...]


@dataclass
class _Group:
    """A prompt, its different responses, and the pairs as (chosen, rejected, pair) by the responses' numbers."""

    prompt: Encoded
    responses: dict[tuple[int, ...], int] = field(default_factory=dict)
    pairs: list[tuple[int, int, EncodedPair]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))

    def tokens_with(self, pair: EncodedPair) -> int:
        return self.tokens + sum(len(ids) for ids in {pair.chosen, pair.rejected} - self.responses.keys())

    def add(self, pair: EncodedPair) -> None:
        first, second = (
            self.responses.setdefault(ids, len(self.responses)) for ids in (pair.chosen, pair.rejected)
        )
        self.pairs.append((first, second, pair))


def pair_batches(
    pairs: Sequence[EncodedPair], max_tokens: int, dummy: DummyMedia | None = None
) -> list[PairBatch]:
    """Micro-batches of at most `max_tokens` tokens, what is shared counted once; the largest first.

    A pair is never divided; one longer than that is a micro-batch by itself. dummy: the media that every micro-batch must hold.
    """
    groups: list[_Group] = []
    open_groups: dict[Hashable, _Group] = {}
    for pair in pairs:
        group = open_groups.get(pair.key)
        if group is None or group.tokens_with(pair) > max_tokens:
            group = open_groups[pair.key] = _Group(pair.prompt)
            groups.append(group)
        group.add(pair)
    bins = largest_first([group.tokens for group in groups], max_tokens)
    return [_batch([groups[i] for i in members], dummy) for members in bins]


def empty_batch(dummy: DummyMedia | None = None) -> PairBatch:
    """A micro-batch without pairs, for a process that has fewer than the others."""
    return _batch([], dummy)


def response_tree(prompt: Encoded, responses: Sequence[Sequence[int]]) -> PrefixTree:
    """A prompt and its responses (token ids), each with the positions it has behind the prompt alone."""
    continuations = []
    for ids in responses:
        positions = (torch.arange(len(ids)) + prompt.next_position).expand(3, -1)
        continuations.append(Segment.untrained(Encoded(torch.tensor(ids), positions, engine_ids=())))
    return PrefixTree(Segment.untrained(prompt), tuple(continuations))


def _batch(groups: Sequence[_Group], dummy: DummyMedia | None) -> PairBatch:
    chosen, rejected, pairs, before = [], [], [], 0
    for group in groups:
        for first, second, pair in group.pairs:
            chosen.append(before + first)
            rejected.append(before + second)
            pairs.append(pair)
        before += len(group.responses)
    return PairBatch(
        packed=pack([response_tree(group.prompt, list(group.responses)) for group in groups], dummy),
        chosen=torch.tensor(chosen, dtype=torch.long),
        rejected=torch.tensor(rejected, dtype=torch.long),
        margins=torch.tensor([pair.margin for pair in pairs]),
        rows=tuple(pair.row for pair in pairs),
    )

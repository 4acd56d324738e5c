"""Sequences that share a prefix, as one packed sequence without padding: each prefix and its media in it once.

    [prefix 1][prefix 2]…[continuations of prefix 1][continuations of prefix 2]…

Every continuation attends to its own prefix and to itself only (`vlm/packed/attention.py`), and has the positions it
would have behind the prefix alone. Prefixes come first so that "all prefix tokens" and "all tokens of continuations"
are two contiguous stretches. A sequence that shares nothing is a prefix without continuations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm.inputs import Encoded, collate_media
from vlm.packed.layout import DummyMedia, Layout


@dataclass(frozen=True)
class Segment:
    """A prefix or a continuation.

    sequence: its ids, positions and media; those of a continuation go on from its prefix's.
    trained: (tokens,) bool, tokens with a loss. coefficients: (tokens,) float32, their factors in the loss
        -sum_j coefficient_j log p(token_j); those of other tokens are not read.
    """

    sequence: Encoded
    trained: Tensor
    coefficients: Tensor

    @classmethod
    def untrained(cls, sequence: Encoded) -> Segment:
        return cls(sequence, torch.zeros(len(sequence), dtype=torch.bool), torch.zeros(len(sequence)))

    def __len__(self) -> int:
        return len(self.sequence)


@dataclass(frozen=True)
class PrefixTree:
    """A prefix and the continuations that share it."""

    prefix: Segment
    continuations: tuple[Segment, ...] = ()

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.continuations))


@dataclass(frozen=True)
class Packed:
    """What the model and the loss are given, on the CPU.

    inputs: keyword arguments of the model: input_ids (1, T), position_ids (3, 1, T), media fields where there are any.
    predictors: (N,) index in 0..T-1 of the token whose output predicts a trained one.
    targets: (N,) the trained tokens: tree by tree, its prefix's first, then those of its continuations.
    coefficients: (N,) float32, in the same order.
    """

    inputs: dict[str, Tensor]
    layout: Layout
    predictors: Tensor
    targets: Tensor
    coefficients: Tensor


def pack(trees: Sequence[PrefixTree], dummy: DummyMedia | None = None) -> Packed:
    """One micro-batch; an empty one is a single token that nothing is trained on.

    dummy: the media that every micro-batch must hold; those that are missing are put behind everything else.

    Raises ValueError if the first token of a prefix is trained: nothing predicts it.
    """
    prefixes = [tree.prefix for tree in trees]
    continuations = [segment for tree in trees for segment in tree.continuations]
    sequences = [segment.sequence for segment in prefixes + continuations]
    media = collate_media(sequences)
    tail = None
    if dummy is not None:
        tail = dummy.sequence([k for k in ("image", "video") if f"{k}_grid_thw" in media])
    if tail is None and not sequences:
        tail = Encoded(torch.zeros(1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long), engine_ids=(0,))
    if tail is not None:
        sequences.append(tail)
        media = collate_media(sequences)
    layout = Layout(
        prefixes=tuple(map(len, prefixes)),
        continuations=tuple(tuple(map(len, tree.continuations)) for tree in trees),
        tail=0 if tail is None else len(tail),
    )

    # the output at a token predicts the next one; a continuation's first is predicted by the prefix's last
    predictors, targets, coefficients = [], [], []
    start, prefix_start = layout.prefix_tokens, 0
    for tree in trees:
        if len(tree.prefix) and tree.prefix.trained[0]:
            raise ValueError("the first token of a sequence cannot be trained: nothing predicts it")
        # (segment, its first token, the one before that)
        places = [(tree.prefix, prefix_start, prefix_start)]
        prefix_start += len(tree.prefix)
        for segment in tree.continuations:
            places.append((segment, start, prefix_start - 1))
            start += len(segment)
        for segment, first, before in places:
            trained = segment.trained.nonzero()[:, 0]
            predictors.append(torch.where(trained == 0, before, first + trained - 1))
            targets.append(segment.sequence.input_ids[trained])
            coefficients.append(segment.coefficients[trained])
    empty = torch.zeros(0, dtype=torch.long)
    return Packed(
        inputs={
            "input_ids": torch.cat([s.input_ids for s in sequences])[None],
            "position_ids": torch.cat([s.position_ids for s in sequences], dim=1)[:, None],
            **media,
        },
        layout=layout,
        predictors=torch.cat([empty, *predictors]),
        targets=torch.cat([empty, *targets]),
        coefficients=torch.cat([empty.float(), *coefficients]),
    )

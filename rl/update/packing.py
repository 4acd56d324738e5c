"""Packing: a prompt and its completions become one sequence, the prompt and its media in it once.

A micro-batch is one sequence of tokens without padding,

    [prompt 1][prompt 2]…[completions of prompt 1][completions of prompt 2]…

in which every completion attends to its own prompt and to itself only (`vlm/packed/attention.py`), and has the positions
it would have behind the prompt alone. Prompts come first so that "all completion tokens" and "all prompt tokens" are
two contiguous stretches.

Micro-batches are filled up to a budget of tokens, largest first. A group that exceeds the budget is split: each part
repeats the prompt. Nothing of the result depends on how the groups are split, ordered or distributed, because the loss
is a plain sum over tokens divided by one global number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engines.rollout import Rollout
from rl.advantages import Group
from vlm.inputs import Encoded, collate_media
from vlm.packed.layout import DummyMedia, Layout


@dataclass(frozen=True)
class Part:
    """A prompt with some completions of its group; advantages one per rollout."""

    rollouts: tuple[Rollout, ...]
    advantages: tuple[float, ...]

    @property
    def prompt(self) -> Encoded:
        return self.rollouts[0].prompt

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(len(r.completion_ids) for r in self.rollouts)


@dataclass(frozen=True)
class PackedBatch:
    """One micro-batch: parts that are computed as one sequence. Without parts it is a filler for equal counts."""

    parts: tuple[Part, ...] = ()

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """In the order of `UpdateOutput.logprobs`."""
        return tuple(r for part in self.parts for r in part.rollouts)

    @property
    def tokens(self) -> int:
        """Tokens that go through the language model."""
        return sum(part.tokens for part in self.parts)

    @property
    def trained_tokens(self) -> int:
        return sum(sum(r.loss_mask) for r in self.rollouts)


@dataclass(frozen=True)
class PackedTensors:
    """What the model and the loss are given.

    inputs: keyword arguments of the model: input_ids (1, T), position_ids (3, 1, T), media fields where there are any.
    predictors: (N,) index in 0..T-1 of the position whose output predicts a trained token.
    targets: (N,) the trained tokens. advantages: (N,) float32, that of the token's rollout.
    engine_logprobs: (N,) float32, with which the engine sampled them.
    counts: trained tokens per rollout; they sum to N.
    """

    inputs: dict[str, Tensor]
    layout: Layout
    predictors: Tensor
    targets: Tensor
    advantages: Tensor
    engine_logprobs: Tensor
    counts: tuple[int, ...]


def pack(groups: Sequence[Group], *, max_tokens: int, count: int | None = None) -> list[PackedBatch]:
    """Micro-batches of at most `max_tokens` tokens (prompts and completions), the largest first.

    Rollouts whose advantage is exactly zero, or that have no trained token, add nothing to the gradient and are left
    out. A single sequence longer than the budget is a micro-batch by itself: it cannot be split.
    count: fill up with empty batches to this number (the largest over all processes).
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be positive, got {max_tokens}")
    parts = [part for group in groups for part in _split(group, max_tokens)]
    batches: list[list[Part]] = []
    free: list[int] = []
    for part in sorted(parts, key=lambda p: -p.tokens):
        place = next((i for i, room in enumerate(free) if part.tokens <= room), None)
        if place is None:
            batches.append([part])
            free.append(max_tokens - part.tokens)
        else:
            batches[place].append(part)
            free[place] -= part.tokens
    packed = [PackedBatch(tuple(batch)) for batch in batches]
    return packed if count is None else fill(packed, count)


def fill(batches: Sequence[PackedBatch], count: int) -> list[PackedBatch]:
    """`batches` and as many empty ones as make `count`, so that all processes run the same number."""
    if count < len(batches):
        raise ValueError(f"cannot fill {len(batches)} micro-batches up to {count}")
    return [*batches, *[PackedBatch()] * (count - len(batches))]


def _split(group: Group, max_tokens: int) -> list[Part]:
    """Parts of a group that each fit the budget, as few as largest-first filling finds."""
    members = [
        (rollout, advantage)
        for rollout, advantage in zip(group.rollouts, group.advantages, strict=True)
        if advantage != 0 and any(rollout.loss_mask)
    ]
    for rollout, _ in members:
        _check_same_prompt(members[0][0], rollout)
    bins: list[list[tuple[Rollout, float]]] = []
    free: list[int] = []
    for member in sorted(members, key=lambda m: -len(m[0].completion_ids)):
        length = len(member[0].completion_ids)
        place = next((i for i, room in enumerate(free) if length <= room), None)
        if place is None:
            bins.append([member])
            free.append(max_tokens - len(member[0].prompt) - length)
        else:
            bins[place].append(member)
            free[place] -= length
    return [Part(tuple(r for r, _ in members), tuple(a for _, a in members)) for members in bins]


def _check_same_prompt(first: Rollout, other: Rollout) -> None:
    a, b = first.prompt, other.prompt
    if a is b:
        return
    same = torch.equal(a.input_ids, b.input_ids)
    for name in ("pixel_values", "pixel_values_videos"):
        x, y = getattr(a, name), getattr(b, name)
        same = same and (x is y or (x is not None and y is not None and torch.equal(x, y)))
    if not same:
        raise ValueError(f"row {first.row_id!r}: rollouts of one group must have the same prompt and media")


def completion(rollout: Rollout) -> Encoded:
    """What follows the prompt: ids, positions that go on from the prompt's last, media that came on the way.

    Raises ValueError if `rollout.sequence` is not its prompt followed by its completion.
    """
    prompt, sequence = rollout.prompt, rollout.sequence
    ids = torch.tensor(rollout.completion_ids, dtype=torch.long)
    if sequence is None:
        positions = torch.arange(len(ids)) + prompt.next_position
        return Encoded(ids, positions.expand(3, -1), engine_ids=rollout.completion_ids)
    if not torch.equal(sequence.input_ids, torch.cat([prompt.input_ids, ids])):
        raise ValueError(
            f"rollout of row {rollout.row_id!r}: sequence has {len(sequence)} ids, which are not the prompt's"
            f" {len(prompt)} followed by the completion's {len(ids)}"
        )
    fields: dict[str, Any] = {}
    for name in ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"):
        whole, before = getattr(sequence, name), getattr(prompt, name)
        rest = whole if whole is None or before is None else whole[len(before) :]
        fields[name] = rest if rest is not None and len(rest) else None
    return Encoded(ids, sequence.position_ids[:, len(prompt) :], engine_ids=(), **fields)


def tensors(batch: PackedBatch, dummy: DummyMedia | None = None) -> PackedTensors:
    """The micro-batch as tensors, on the CPU; an empty one is a single token that nothing is trained on."""
    prompts = [part.prompt for part in batch.parts]
    completions = [completion(rollout) for rollout in batch.rollouts]
    sequences = prompts + completions
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
        prompts=tuple(map(len, prompts)),
        completions=tuple(tuple(len(r.completion_ids) for r in part.rollouts) for part in batch.parts),
        tail=0 if tail is None else len(tail),
    )
    predictors, targets, advantages, logprobs, counts = [], [], [], [], []
    start = layout.prompt_tokens
    prompt_end = 0
    for part in batch.parts:
        prompt_end += len(part.prompt)
        for rollout, advantage in zip(part.rollouts, part.advantages, strict=True):
            trained = torch.tensor(rollout.loss_mask).nonzero()[:, 0]
            # the output at a token predicts the next one; the first is predicted by the prompt's last
            predictors.append(torch.where(trained == 0, prompt_end - 1, start + trained - 1))
            targets.append(torch.tensor(rollout.completion_ids)[trained])
            advantages.append(torch.full((len(trained),), advantage, dtype=torch.float32))
            logprobs.append(torch.tensor(rollout.logprobs)[trained])
            counts.append(len(trained))
            start += len(rollout.completion_ids)
    empty = torch.zeros(0, dtype=torch.long)
    return PackedTensors(
        inputs={
            "input_ids": torch.cat([s.input_ids for s in sequences])[None],
            "position_ids": torch.cat([s.position_ids for s in sequences], dim=1)[:, None],
            **media,
        },
        layout=layout,
        predictors=torch.cat([empty, *predictors]),
        targets=torch.cat([empty, *targets]),
        advantages=torch.cat([empty.float(), *advantages]),
        engine_logprobs=torch.cat([empty.float(), *logprobs]),
        counts=tuple(counts),
    )

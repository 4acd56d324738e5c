"""Groups of rollouts as micro-batches: prefix trees of a prompt and its completions (`vlm/packed/packing.py`).

Nothing of the result depends on how groups are split, ordered or distributed over micro-batches and processes, because
the loss is a plain sum over tokens divided by one global number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engines.rollout import Rollout
from engines.samples import Group
from vlm.inputs import Encoded, behind
from vlm.packed import filling
from vlm.packed.packing import PrefixTree, Segment


@dataclass(frozen=True)
class Part:
    """A prompt with some completions of its group.

    coefficients: one per rollout, of all its tokens or (completion tokens,) one for each (`Group`). task: of the row.
    """

    rollouts: tuple[Rollout, ...]
    coefficients: tuple[float | Tensor, ...]
    task: str = ""

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
    def tasks(self) -> tuple[str, ...]:
        """Of each of the rollouts."""
        return tuple(part.task for part in self.parts for _ in part.rollouts)

    @property
    def tokens(self) -> int:
        """Tokens that go through the language model."""
        return sum(part.tokens for part in self.parts)

    @property
    def trained_tokens(self) -> int:
        return sum(sum(r.loss_mask) for r in self.rollouts)


def pack(groups: Sequence[Group], *, max_tokens: int, count: int | None = None) -> list[PackedBatch]:
    """Micro-batches of at most `max_tokens` tokens (prompts and completions), the largest first.

    Rollouts whose coefficients are None or exactly zero, or that have no trained token, add nothing to the gradient and are
    left out. A single sequence longer than the budget is a micro-batch by itself: it cannot be split.
    count: fill up with empty batches to this number (the largest over all processes).
    """
    trained = [part for group in groups if (part := _with_signal(group)).rollouts]
    lengths = [(len(part.prompt), [len(r.completion_ids) for r in part.rollouts]) for part in trained]
    packed = [
        PackedBatch(tuple(_some(trained[g], chosen) for g, chosen in batch))
        for batch in filling.fill(lengths, max_tokens)
    ]
    return packed if count is None else fill(packed, count)


def fill(batches: Sequence[PackedBatch], count: int) -> list[PackedBatch]:
    """`batches` and as many empty ones as make `count`, so that all processes run the same number."""
    if count < len(batches):
        raise ValueError(f"cannot fill {len(batches)} micro-batches up to {count}")
    return [*batches, *[PackedBatch()] * (count - len(batches))]


def _with_signal(group: Group) -> Part:
    """The rollouts that add to the gradient, with their coefficients."""
    given: Sequence[float | Tensor | None] = group.coefficients or group.advantages
    members = [
        (rollout, coefficients)
        for rollout, coefficients in zip(group.rollouts, given, strict=True)
        if coefficients is not None and _adds(rollout, coefficients)
    ]
    for rollout, _ in members:
        _check_same_prompt(members[0][0], rollout)
    return Part(tuple(r for r, _ in members), tuple(c for _, c in members), group.row["task"])


def _adds(rollout: Rollout, coefficients: float | Tensor) -> bool:
    """Whether a trained token has a coefficient that is not zero."""
    if isinstance(coefficients, Tensor):
        return bool(coefficients[torch.tensor(rollout.loss_mask, dtype=torch.bool)].any())
    return bool(coefficients) and any(rollout.loss_mask)


def _some(part: Part, chosen: Sequence[int]) -> Part:
    return replace(
        part,
        rollouts=tuple(part.rollouts[i] for i in chosen),
        coefficients=tuple(part.coefficients[i] for i in chosen),
    )


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
    return behind(sequence, prompt, len(prompt))


def trees(batch: PackedBatch) -> list[PrefixTree]:
    """The micro-batch for `vlm.packed.packing.pack`."""
    return [
        PrefixTree(
            Segment.untrained(part.prompt),
            tuple(
                Segment(
                    completion(rollout),
                    trained=torch.tensor(rollout.loss_mask, dtype=torch.bool),
                    coefficients=torch.as_tensor(coefficients, dtype=torch.float32).expand(
                        len(rollout.loss_mask)
                    ),
                )
                for rollout, coefficients in zip(part.rollouts, part.coefficients, strict=True)
            ),
        )
        for part in batch.parts
    ]


def engine_logprobs(batch: PackedBatch) -> Tensor:
    """(N,) float32: with which the engine sampled the trained tokens, in the order of `batch.rollouts`."""
    values = [p for r in batch.rollouts for p, m in zip(r.logprobs, r.loss_mask, strict=True) if m]
    return torch.tensor(values, dtype=torch.float32)

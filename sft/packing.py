"""The rows of a step as packed micro-batches: what rows about the same media have in common is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sft.data import Example
from vlm.inputs import Encoded
from vlm.packed.filling import fill
from vlm.packed.layout import DummyMedia
from vlm.packed.packing import Packed, PrefixTree, Segment, pack


@dataclass(frozen=True)
class MicroBatch:
    """packed: what the model is given. stages: (N,) int64, the stage of each of its N targets (into STAGE_NAMES)."""

    packed: Packed
    stages: Tensor


@dataclass(frozen=True)
class Shared:
    """Examples whose first `prefix` tokens are the same, media included; none of these is a target. A single example
    shares nothing: prefix 0."""

    prefix: int
    examples: tuple[Example, ...]

    @property
    def lengths(self) -> tuple[int, list[int]]:
        """Tokens of the prefix, and of what follows it in each example; a single example is a prefix alone."""
        if len(self.examples) == 1:
            return len(self.examples[0]), []
        return self.prefix, [len(example) - self.prefix for example in self.examples]


def micro_batches(
    examples: Sequence[Example], max_tokens: int, dummy: DummyMedia | None = None
) -> list[MicroBatch]:
    """Micro-batches of at most `max_tokens` tokens, what is shared counted once; the largest first.

    A single example longer than that is a micro-batch by itself. dummy: the media that every micro-batch must hold.
    """
    groups = shared(examples)
    batches = []
    for parts in fill([group.lengths for group in groups], max_tokens):
        chosen = [
            Shared(groups[g].prefix, tuple(groups[g].examples[i] for i in members) or groups[g].examples)
            for g, members in parts
        ]
        batches.append(_micro_batch(chosen, dummy))
    return batches


def empty_batch(dummy: DummyMedia | None = None) -> MicroBatch:
    """A micro-batch without rows, for a process that has fewer than the others."""
    return _micro_batch([], dummy)


def shared(examples: Sequence[Example]) -> list[Shared]:
    """The examples in groups that have the media of their prompts in common, and all tokens up to the last of these.

    The common prefix of a group goes on from there as far as its tokens are the same, at most to the first target.
    Examples without media in their prompts stand alone.
    """
    groups: dict[Hashable, list[Example]] = {}
    for number, example in enumerate(examples):
        end = example.media_end
        key = (example.media, example.sequence.input_ids[:end].numpy().tobytes()) if end else number
        groups.setdefault(key, []).append(example)
    return [Shared(_common_prefix(group) if len(group) > 1 else 0, tuple(group)) for group in groups.values()]


def _first_target(example: Example) -> int:
    return int(example.stage_ids.ne(0).int().argmax())


def _common_prefix(group: Sequence[Example]) -> int:
    """Length of the longest prefix that all have in common and that holds no target."""
    first = group[0].sequence.input_ids
    length = min(_first_target(example) for example in group)
    for example in group[1:]:
        differs = first[:length] != example.sequence.input_ids[:length]
        if differs.any():
            length = int(differs.int().argmax())
    return length


def _micro_batch(groups: Sequence[Shared], dummy: DummyMedia | None) -> MicroBatch:
    trees, stages = [], [torch.zeros(0, dtype=torch.long)]
    for group in groups:
        cut = group.prefix if len(group.examples) > 1 else 0
        rests = [_segment(example, cut) for example in group.examples]
        if cut:
            prefix = Segment.untrained(_part(group.examples[0], cut, rest=False))
            trees.append(PrefixTree(prefix, tuple(rests)))
        else:
            trees.append(PrefixTree(rests[0]))
        stages += [example.stage_ids[example.stage_ids > 0] for example in group.examples]
    return MicroBatch(pack(trees, dummy), torch.cat(stages))


def _segment(example: Example, start: int) -> Segment:
    """The example from token `start` on: 0, or behind the media of its prompt."""
    sequence = example.sequence if start == 0 else _part(example, start, rest=True)
    trained = example.stage_ids[start:] > 0
    return Segment(sequence, trained, trained.float())


def _part(example: Example, cut: int, *, rest: bool) -> Encoded:
    """The first `cut` tokens of an example with the media of its prompt, or (rest) what follows both."""
    sequence = example.sequence
    fields: dict[str, Tensor] = {}
    for kind, suffix in (("image", ""), ("video", "_videos")):
        pixels, grids = getattr(sequence, f"pixel_values{suffix}"), getattr(sequence, f"{kind}_grid_thw")
        if grids is None:
            continue
        media = sum(medium[0] == kind for medium in example.media)
        patches = int(grids[:media].prod(-1).sum())
        own = (grids[media:], pixels[patches:]) if rest else (grids[:media], pixels[:patches])
        if len(own[0]):
            fields |= {f"{kind}_grid_thw": own[0], f"pixel_values{suffix}": own[1]}
    tokens = slice(cut, None) if rest else slice(cut)
    return Encoded(sequence.input_ids[tokens], sequence.position_ids[:, tokens], engine_ids=(), **fields)

"""Where prefixes and continuations lie in a packed sequence, and the media that every micro-batch must hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.rows import Row
from vlm.families import FAMILIES, family_of_model
from vlm.families.patches import Grid
from vlm.inputs import Encoded
from vlm.parts import part_of


@dataclass(frozen=True)
class Layout:
    """Where prefixes and continuations lie in the packed sequence (lengths in tokens).

    prefixes: (groups); continuations: lengths of each group's continuations, group by group.
    tail: length of a last stretch that attends to itself only (`dummy media`), 0 if there is none.
    """

    prefixes: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    tail: int = 0

    @property
    def prefix_tokens(self) -> int:
        return sum(self.prefixes)

    @property
    def continuation_tokens(self) -> int:
        return sum(map(sum, self.continuations))

    @property
    def total(self) -> int:
        return self.prefix_tokens + self.continuation_tokens + self.tail

    @property
    def segments(self) -> tuple[int, ...]:
        """Lengths of the stretches that attend causally to themselves, in order."""
        continuations = tuple(length for group in self.continuations for length in group)
        return self.prefixes + continuations + ((self.tail,) if self.tail else ())


@dataclass(frozen=True)
class DummyMedia:
    """The smallest image or video that the vision tower accepts.

    Where parameters are distributed (DDP, ZeRO-3), every process must run the same modules in every micro-batch;
    batches without images or videos carry a dummy that nothing attends to. Its gradient is exactly zero.

    media: by kind ("image", "video") that every batch must hold: token ids, patches (patches, patch dim), grid (t, h, w).
    """

    media: Mapping[str, tuple[list[int], Tensor, Grid]]

    @classmethod
    def of_model(cls, config: Any, kinds: Sequence[str]) -> DummyMedia:
        """For a model's config, of any family."""
        family = FAMILIES[config.model_type]
        return cls({kind: family.smallest(config, kind) for kind in kinds})

    def sequence(self, present: Sequence[str]) -> Encoded | None:
        """The dummies of the kinds that are not `present`, as one short sequence; None if nothing is missing."""
        missing = [kind for kind in self.media if kind not in present]
        if not missing:
            return None
        ids: list[int] = []
        fields: dict[str, Any] = {}
        for kind in missing:
            tokens, pixels, grid = self.media[kind]
            ids += tokens
            fields["pixel_values" if kind == "image" else "pixel_values_videos"] = pixels
            fields[f"{kind}_grid_thw"] = torch.tensor([grid])
        positions = torch.arange(len(ids)).expand(3, -1)
        return Encoded(torch.tensor(ids), positions, engine_ids=(), **fields)


def media_kinds(
    rows: Iterable[Row], model: nn.Module, distributed: bool, *, also: Sequence[str] = ()
) -> tuple[str, ...]:
    """Kinds of media ("image", "video") that every micro-batch of a run on `rows` must hold, dummies included. also: kinds that
    come up though no row has them.

    None where a process trains alone. Under DDP and DeepSpeed: those that any row has, because every process must run
    the same modules; and one at least if the vision tower trains, because its gradients are waited for in every step.
    """
    if not distributed:
        return ()
    rows = list(rows)
    kinds = tuple(
        kind for kind in ("image", "video") if kind in also or any(row.get(f"{kind}s") for row in rows)
    )
    family = family_of_model(model)
    trains_vision = any(
        p.requires_grad and part_of(family, name) != "language" for name, p in model.named_parameters()
    )
    return kinds or (("image",) if trains_vision else ())

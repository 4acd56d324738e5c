"""Where prefixes and continuations lie in a packed sequence, and the media that every micro-batch must hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from core.rows import Row
from vlm.families import family_of_model
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
    """The smallest image or video that the vision tower accepts: one visual token.

    Where parameters are distributed (DDP, ZeRO-3), every process must run the same modules in every micro-batch;
    batches without images or videos carry a dummy that nothing attends to. Its gradient is exactly zero.

    kinds: "image", "video": what every batch must hold. The other fields describe the model (`of_model`).
    """

    kinds: tuple[str, ...]
    vision_start_id: int
    image_id: int
    video_id: int
    merge_size: int
    patch_dim: int

    @classmethod
    def of_model(cls, config, kinds: Sequence[str]) -> DummyMedia:
        """For the config of a Qwen-VL model (2.5, 3)."""
        vision = config.vision_config
        return cls(
            kinds=tuple(kinds),
            vision_start_id=config.vision_start_token_id,
            image_id=config.image_token_id,
            video_id=config.video_token_id,
            merge_size=vision.spatial_merge_size,
            patch_dim=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        )

    def sequence(self, present: Sequence[str]) -> Encoded | None:
        """The dummies of the kinds that are not `present`, as one short sequence; None if nothing is missing."""
        missing = [kind for kind in self.kinds if kind not in present]
        if not missing:
            return None
        ids: list[int] = []
        fields: dict[str, Any] = {}
        for kind in missing:
            ids += [self.vision_start_id, self.image_id if kind == "image" else self.video_id]
            suffix = "" if kind == "image" else "_videos"
            fields[f"pixel_values{suffix}"] = torch.zeros(self.merge_size**2, self.patch_dim)
            fields[f"{kind}_grid_thw"] = torch.tensor([[1, self.merge_size, self.merge_size]])
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

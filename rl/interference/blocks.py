"""Blocks of the model whose gradients are compared: vision tower, projector, groups of layers of the language model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vlm.families.family import Family
from vlm.parts import part_of

LAYER_GROUPS = 4
"""Groups of the language model's layers, from the first to the last."""
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def blocks_of(family: Family, names: Sequence[str]) -> dict[str, list[int]]:
    """Places in `names` by block, in the order of the model: vision, projector, embedding (with the head and the last norm),
    layers_<first>_<last>, …

    names: of the trained parameters. Every one is in exactly one block.
    """
    parts = [part_of(family, name) for name in names]
    numbers = [
        int(found[1]) if part == "language" and (found := _LAYER.search(name)) else None
        for name, part in zip(names, parts, strict=True)
    ]
    layers = sorted({number for number in numbers if number is not None})
    size = -(-len(layers) // LAYER_GROUPS) if layers else 1
    groups = [layers[start : start + size] for start in range(0, len(layers), size)]
    labels = {number: f"layers_{group[0]}_{group[-1]}" for group in groups for number in group}
    order = ["vision", "projector", "embedding", *dict.fromkeys(labels.values())]
    blocks: dict[str, list[int]] = {name: [] for name in order}
    for place, (part, number) in enumerate(zip(parts, numbers, strict=True)):
        block = part if part != "language" else "embedding" if number is None else labels[number]
        blocks[block].append(place)
    return {name: places for name, places in blocks.items() if places}

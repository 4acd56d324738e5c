"""Named presets of which parts of the model to train, from published recipes.

| preset | trains | source |
|---|---|---|
| `projector` | the MLP projector | MiMo-VL stage 1 (projector warm-up) |
| `vision+projector` | ViT and projector | MiMo-VL stage 2 (vision-language alignment) |
| `language` | the language model | Mini-o3's SFT (vision tower and projector frozen) |
| `all` | everything | MiMo-VL stages 3, 4 and RL |

The embedding and the LM head, tied or not, belong to the language model.

With LoRA (a PEFT-wrapped model), a part that has adapters trains **only** the adapters and its own weights stay frozen;
a part without adapters is trained in full if the preset includes it. `get_peft_model` freezes all base weights, so call
`set_trainable` again after wrapping.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from vlm.families import family_of_model
from vlm.families.family import Family, Part

Preset = Literal["projector", "vision+projector", "language", "all"]

PARTS: tuple[Part, ...] = get_args(Part)
PRESETS: dict[str, tuple[Part, ...]] = {
    "projector": ("projector",),
    "vision+projector": ("vision", "projector"),
    "language": ("language",),
    "all": PARTS,
}


@dataclass(frozen=True)
class PartCount:
    """Number of parameters of one part of the model (scalars; a tied matrix counts once)."""

    trained: int
    frozen: int


def part_of(family: Family, name: str) -> Part:
    """The part a parameter belongs to, by its name in the family's model (PEFT-wrapped or not); a reward model's head belongs to
    the language model."""
    if f".{name}".endswith(".score.weight"):
        return "language"
    for part, beginnings in family.parts.items():
        if any(f".{beginning}" in f".{name}" for beginning in beginnings):
            return part
    known = ", ".join(beginning for beginnings in family.parts.values() for beginning in beginnings)
    raise ValueError(f"parameter {name!r} is in no known part of {family.name}, whose names contain {known}")


def is_adapter(name: str) -> bool:
    """True for weights added by PEFT's LoRA."""
    return ".lora_" in name


def set_trainable(model: nn.Module, preset: str, *, quiet: bool = False) -> dict[Part, PartCount]:
    """Set `requires_grad` of every parameter by `preset`, print a small table (first process only), return the counts.

    Raises ValueError for an unknown preset, or for a model with parameters outside the known parts.
    """
    if preset not in PRESETS:
        raise ValueError(
            f"unknown preset of trainable parts {preset!r}; the presets are {', '.join(PRESETS)}"
        )
    family, named = family_of_model(model), list(model.named_parameters())
    adapted = {part_of(family, name) for name, _ in named if is_adapter(name)}
    for name, parameter in named:
        part = part_of(family, name)
        parameter.requires_grad_(part in PRESETS[preset] and (part not in adapted or is_adapter(name)))
    counts = count_parameters(model)
    if not quiet and os.environ.get("RANK", "0") == "0":
        print(f"Trainable parts: {preset}\n{format_counts(counts)}", flush=True)
    return counts


def count_parameters(model: nn.Module) -> dict[Part, PartCount]:
    """Numbers of trained and frozen parameters of each part, in the order of PARTS."""
    family = family_of_model(model)
    trained = dict.fromkeys(PARTS, 0)
    frozen = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        # under ZeRO-3 the tensor is empty and ds_numel is its full size
        size = getattr(parameter, "ds_numel", parameter.numel())
        (trained if parameter.requires_grad else frozen)[part_of(family, name)] += size
    return {part: PartCount(trained[part], frozen[part]) for part in PARTS}


def format_counts(counts: dict[Part, PartCount]) -> str:
    """Table of `count_parameters`, one line per part and a total."""
    rows = [(part, count.trained, count.frozen) for part, count in counts.items()]
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))  # type: ignore[arg-type]
    lines = [f"  {'part':<10}{'trained':>16}{'frozen':>16}"]
    lines += [f"  {part:<10}{trained:>16,}{frozen:>16,}" for part, trained, frozen in rows]
    return "\n".join(lines)

"""Maps each weight of an assembled model to its source, checked from configs and headers before weights are read."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vlm.assemble_config import Tower
from vlm.checkpoint import CheckpointError, weight_files
from vlm.safetensors_stream import DTYPES, PlannedTensor, describe, read_tensor
from vlm.vocabulary import extend_rows

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_QKV_BIAS = re.compile(r"\.self_attn\.[qkv]_proj\.bias$")
_MTP = re.compile(r"\.mtp_layers\.")  # MiMo's multi-token prediction layers: not part of the policy
_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$")  # stored in old checkpoints, but determined by the config


@dataclass(frozen=True)
class Source:
    """The tensors of one source checkpoint, keyed by their names in the assembled model."""

    folder: Path
    tensors: dict[str, tuple[Path, str]]  # name in the result -> (file, name in the file)


def take_sources(
    vision: Path, language: Path, raw: dict[str, Any], config: Any
) -> tuple[Source, Source, dict[str, int]]:
    """The tensors used from each checkpoint, and counts of those left out on purpose, by reason."""
    dropped = {"the vision checkpoint's own projector": 0, "multi-token prediction": 0, "tied LM head": 0}
    visual: dict[str, tuple[Path, str]] = {}
    for name, file in weight_files(vision).items():
        short = name.removeprefix("model.")  # transformers 5 in memory: model.visual.*; on disk: visual.*
        if _is_projector(short):
            dropped["the vision checkpoint's own projector"] += 1
        elif short.startswith("visual."):
            visual[short] = (file, name)
    text: dict[str, tuple[Path, str]] = {}
    for name, file in weight_files(language).items():
        if raw["model_type"] == "mimo" and _MTP.search(name):
            dropped["multi-token prediction"] += 1
        elif not _DERIVED.search(name):
            text[name] = (file, name)
    if config.tie_word_embeddings and text.keys() >= {_HEAD, _EMBEDDING}:
        head, embedding = (read_tensor(*text[name]) for name in (_HEAD, _EMBEDDING))
        if not torch.equal(head, embedding):
            raise CheckpointError(
                f"{language}: tie_word_embeddings is true, but {_HEAD} differs from {_EMBEDDING}; set it to false to"
                " keep both"
            )
        del text[_HEAD]
        dropped["tied LM head"] += 1
    return Source(vision, visual), Source(language, text), dropped


def plan_tensors(
    tower: Tower,
    config: PretrainedConfig,
    vision: Source,
    language: Source,
    family: str,
    seed: int,
    dtype: torch.dtype | None,
) -> list[PlannedTensor]:
    """Every tensor of the assembled model with its source; checks all names, shapes and dtypes.

    family: the language model's model_type.
    """
    expected = _expected_shapes(tower, config)
    biasless = family == "llama" and not any(_QKV_BIAS.search(name) for name in language.tensors)
    new = {n for n in expected if _is_projector(n) or (biasless and _QKV_BIAS.search(n))}
    _check_names(tower, expected, new, vision, language)
    plan = []
    for name, shape in expected.items():
        if name in new:
            made = dtype or config.dtype
            read = partial(_initial, name, shape, made, config.vision_config.initializer_range, seed)
            plan.append(PlannedTensor(name, shape, made, read))
        elif name.startswith("visual."):
            plan.append(_plan_copy(name, shape, vision, None, dtype, seed))
        else:
            rows = _rows(language) if name in (_EMBEDDING, _HEAD) else None
            plan.append(_plan_copy(name, shape, language, rows, dtype, seed))
    return plan


def _is_projector(name: str) -> bool:
    """Whether a tensor `visual.…` is the projector's, DeepStack's included: they lead to the language model's width."""
    return name.startswith(("visual.merger.", "visual.deepstack_merger_list."))


def _expected_shapes(tower: Tower, config: PretrainedConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the assembled model's tensors by their short names (`visual.…`, `model.…`), without a tied LM head."""
    with torch.device("meta"):
        skeleton = tower.family.model_class()(config)
    shapes = {_short_name(name): tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop(_HEAD, None)
    return shapes


def _check_names(
    tower: Tower, expected: Collection[str], new: set[str], vision: Source, language: Source
) -> None:
    """Raise CheckpointError for source tensors the model does not have, or missing ones that are not in `new`."""
    for source, kind in ((vision, "vision"), (language, "language")):
        unexpected = sorted(source.tensors.keys() - set(expected))
        if unexpected:
            raise CheckpointError(
                f"{source.folder}: {len(unexpected)} tensors of the {kind} model do not exist in {tower.family.name}:"
                f" {_some(unexpected)}"
            )
    for source, kind in ((vision, "vision"), (language, "language")):
        missing = sorted(
            name
            for name in set(expected) - new - source.tensors.keys()
            if name.startswith("visual.") == (kind == "vision")
        )
        if missing:
            raise CheckpointError(
                f"{source.folder}: {len(missing)} weights of the {kind} model are missing: {_some(missing)}"
            )


def _plan_copy(
    name: str, shape: tuple[int, ...], source: Source, rows: int | None, dtype: torch.dtype | None, seed: int
) -> PlannedTensor:
    """A tensor copied from a source. rows: of an embedding or LM head in the source, extended to those of `shape`."""
    file, stored_name = source.tensors[name]
    stored_shape, code = describe(file, stored_name)
    if code not in DTYPES:
        raise CheckpointError(
            f"{file}: {stored_name}: expected weights of type {', '.join(DTYPES)}, got {code}"
        )
    wanted = shape if rows is None else (rows, *shape[1:])
    if stored_shape != wanted or stored_shape[0] > shape[0]:
        raise CheckpointError(f"{file}: {stored_name}: expected shape {wanted}, got {stored_shape}")
    final = dtype or DTYPES[code]
    size = shape[0] if rows is not None and rows < shape[0] else None
    return PlannedTensor(name, shape, final, partial(_copy, file, stored_name, final, size, name, seed))


def _rows(language: Source) -> int:
    """Number of rows of the source's embedding; its LM head must have as many."""
    return describe(*language.tensors[_EMBEDDING])[0][0]


def _copy(
    file: Path, stored: str, dtype: torch.dtype, rows: int | None, name: str, seed: int
) -> torch.Tensor:
    tensor = read_tensor(file, stored).to(dtype)
    return tensor if rows is None else extend_rows(tensor, rows, name=name, seed=seed)


def _initial(name: str, shape: tuple[int, ...], dtype: torch.dtype, std: float, seed: int) -> torch.Tensor:
    """Initial projector weights, as in transformers (norm 1, biases 0, matrices N(0, std²)); q/k/v biases are 0.

    Each tensor is drawn from its own generator, seeded by `seed` and its name, so values do not depend on the order of
    writing.
    """
    if name.endswith(".bias"):
        return torch.zeros(shape, dtype=dtype)
    if name.endswith((".ln_q.weight", ".norm.weight")):
        return torch.ones(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
    return (torch.randn(shape, generator=generator) * std).to(dtype)


def _short_name(name: str) -> str:
    """Name of a model parameter as the language models and Qwen2.5-VL write it to files: `visual.…`, `model.…`."""
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.", 1)


def is_missing_bias(name: str, language: Source) -> bool:
    return bool(_QKV_BIAS.search(name)) and name not in language.tensors


def stored_dtype(language: Source) -> torch.dtype:
    """Dtype of the language model's embedding; used for the projector and named in the assembled config."""
    if _EMBEDDING not in language.tensors:
        raise CheckpointError(
            f"{language.folder}: {_EMBEDDING} is missing; found {len(language.tensors)} tensors, for example"
            f" {_some(sorted(language.tensors))}"
        )
    code = describe(*language.tensors[_EMBEDDING])[1]
    if code not in DTYPES:
        raise CheckpointError(f"{language.folder}: expected weights of type {', '.join(DTYPES)}, got {code}")
    return DTYPES[code]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

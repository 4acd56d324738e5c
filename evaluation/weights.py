"""Reads the weights of a checkpoint one tensor at a time, under the names engines expect, without building the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vlm.checkpoint import read_config, weight_files
from vlm.families import family_of_checkpoint
from vlm.families.family import renamed
from vlm.safetensors_stream import read_tensor

_EMBEDDING, _HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
# Config fields that may differ between checkpoints of the same model.
_NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}


def named_weights(folder: Path, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """All weights as `dtype`. A tied LM head is also yielded under its own name, since engines may hold a copy of it."""
    prefixes, names = family_of_checkpoint(folder).stored_names, set()
    for stored, file in weight_files(folder).items():
        name = renamed(stored, prefixes)
        names.add(name)
        yield name, read_tensor(file, stored).to(dtype)
    if _HEAD not in names:
        stored, file = next(
            (s, f) for s, f in weight_files(folder).items() if renamed(s, prefixes) == _EMBEDDING
        )
        yield _HEAD, read_tensor(file, stored).to(dtype)


def same_architecture(one: Path, other: Path) -> bool:
    """True if the configs and tokenizers are equal, so that an engine started on one can load the other's weights."""
    return _architecture(one) == _architecture(other) and all(
        _content(one, name) == _content(other, name)
        for name in ("tokenizer.json", "vocab.json", "merges.txt", "chat_template.jinja")
    )


def _architecture(folder: Path) -> str:
    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if k not in _NOT_ARCHITECTURE and v is not None}
        return value

    return json.dumps(clean(read_config(folder)), sort_keys=True)


def _content(folder: Path, name: str) -> object:
    """Content of a tokenizer file, without the padding and truncation settings of its last use."""
    file = folder / name
    if not file.is_file():
        return None
    if name != "tokenizer.json":
        return file.read_bytes()
    return {k: v for k, v in json.loads(file.read_text()).items() if k not in ("padding", "truncation")}

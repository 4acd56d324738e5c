"""Finding checkpoint folders, and checking them before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path

from core.errors import UserError
from core.files.hub.ids import HubError
from core.files.hub.paths import folder_with_config, model_folder

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class CheckpointError(UserError, ValueError):
    """An unusable model folder; the message names the folder, what was expected and what was found."""


def resolve_checkpoint(path: str | Path) -> Path:
    """Folder of a checkpoint: `path` itself, or a Hub id's in the local cache, downloaded if it is not there yet."""
    try:
        folder = model_folder(path)
    except HubError as error:
        raise CheckpointError(str(error)) from None
    if not folder.is_dir():
        raise CheckpointError(f"{path}: expected a checkpoint folder, got a file")
    return folder


def read_config(folder: Path) -> dict:
    """The checkpoint's `config.json` as a dict."""
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{folder}: not a checkpoint, config.json is missing")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # JSON or UTF-8
        raise CheckpointError(f"{file}: not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got {type(config).__name__}")
    return config


def check_tokenizer(folder: Path) -> None:
    """Raise CheckpointError if the folder has no tokenizer: transformers 5 would silently create an empty one."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        raise CheckpointError(
            f"{folder}: no tokenizer (expected tokenizer.json, vocab.json with merges.txt, or tokenizer.model)"
        )


def weight_files(folder: Path) -> dict[str, Path]:
    """Which safetensors file holds each tensor: `{tensor name: file}`, from the index or the single file's header.

    Raises CheckpointError if there are no weights, or if a file that the index names is missing.
    """
    from safetensors import SafetensorError, safe_open

    index = folder / INDEX_FILE
    if index.is_file():
        weight_map = json.loads(index.read_text())["weight_map"]
        absent = sorted({name for name in weight_map.values() if not (folder / name).is_file()})
        if absent:
            raise CheckpointError(f"{folder}: {INDEX_FILE} names files that are missing: {', '.join(absent)}")
        return {tensor: folder / name for tensor, name in weight_map.items()}
    single = folder / SINGLE_FILE
    if not single.is_file():
        others = sorted(
            file.name for pattern in ("*.safetensors", "*.bin", "*.gguf") for file in folder.glob(pattern)
        )
        found = f"; found only {', '.join(others[:5])}" if others else ""
        raise CheckpointError(f"{folder}: no weights (expected {SINGLE_FILE} or {INDEX_FILE}{found})")
    try:
        with safe_open(single, framework="pt") as tensors:
            return dict.fromkeys(tensors.keys(), single)
    except SafetensorError as error:
        raise CheckpointError(f"{single}: not a readable safetensors file ({error})") from None


def hidden_size(path: str) -> int:
    """Width of the language model of a checkpoint. Raises CheckpointError if there is none."""
    try:
        config = read_config(folder_with_config(path))
    except HubError as error:
        raise CheckpointError(str(error)) from None
    return int(config.get("text_config", config)["hidden_size"])

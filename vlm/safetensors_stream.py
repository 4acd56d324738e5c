"""Writing a sharded safetensors checkpoint with at most one tensor in memory at a time.

`safetensors.torch.save_file` needs all tensors of a shard at once, and copies them. A file is eight bytes of header
length, a JSON header with dtype, shape and byte range of each tensor, then the data. Shapes are known before any weight
is read, so the header is written first and the tensors are streamed after it.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from vlm.checkpoint import INDEX_FILE, SINGLE_FILE

# supported dtypes of weights
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor to be written: its name, shape and dtype; the values are read only when it is written."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def describe(file: Path, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and safetensors dtype code (`F32`, `BF16`, …) of a stored tensor, from the header alone."""
    with safe_open(file, framework="pt") as tensors:
        part = tensors.get_slice(name)
        return tuple(part.get_shape()), part.get_dtype()


def read_tensor(file: Path, name: str) -> torch.Tensor:
    """One stored tensor. The file is opened for each tensor, so that its mapped pages are freed with the tensor."""
    with safe_open(file, framework="pt") as tensors:
        return tensors.get_tensor(name)


def split_shards(tensors: Sequence[PlannedTensor], max_shard_bytes: int) -> list[list[PlannedTensor]]:
    """Split into shards of consecutive tensors, as many as fit; a tensor larger than the limit gets its own shard."""
    shards: list[list[PlannedTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.nbytes > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.nbytes
    return shards


def write_sharded(
    folder: Path,
    tensors: Sequence[PlannedTensor],
    max_shard_bytes: int,
    progress: Callable[[int], object] = lambda n: None,
) -> list[Path]:
    """Write `model.safetensors`, or shards and their index; `progress` is called with the bytes of each tensor written.

    Raises ValueError if a tensor's shape or dtype differs from its plan.
    """
    shards = split_shards(tensors, max_shard_bytes)
    if len(shards) == 1:
        names = [SINGLE_FILE]
    else:
        names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write_shard(folder / name, shard, progress)
    if len(shards) > 1:
        weight_map = {
            tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard
        }
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors)}, "weight_map": weight_map}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")
    return [folder / name for name in names]


def _write_shard(file: Path, tensors: Sequence[PlannedTensor], progress: Callable[[int], object]) -> None:
    # Wider dtypes first: readers map the bytes in place, so each tensor must start at a multiple of its item size.
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[tensor.name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(encoded)))
        out.write(encoded)
        for tensor in ordered:
            value = tensor.read()
            if tuple(value.shape) != tensor.shape or value.dtype != tensor.dtype:
                raise ValueError(
                    f"{tensor.name}: planned {tensor.shape} {tensor.dtype}, read {tuple(value.shape)} {value.dtype}"
                )
            out.write(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            del value
            progress(tensor.nbytes)

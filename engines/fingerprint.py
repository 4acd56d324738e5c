"""Fingerprints of weights: whether the engine has the trainer's, bit for bit and each in its place.

The fingerprint of a weight w (rows r, columns c) is

    sum over r, c of  a_r (bits(w_rc) b_c mod 2^32)  mod 2^64

with fixed pseudo-random odd numbers a_r and b_c. It is exact and independent of order and device. One changed value
always changes it; any other difference (rows, columns or single values exchanged, changes that cancel in a plain sum)
is missed with a probability of about 2^-32 or less. Fingerprints of the parts of a weight add up, wherever the parts are:
`bit_sum` takes a rectangle and where it begins, `flat_bit_sum` a range of the flattened weight, as ZeRO-3 partitions it.
Matrices that an engine fuses (q, k and v; gate and up) are split first, so that exchanged parts are found.

Cost: the weights are read once, in pieces that stay in the processor's cache. 113 M parameters take 0.15 to 0.2 s on one
CPU thread in float32 and in bfloat16, about as long as a plain sum of their bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UserError
from vlm.families import family_of_model
from vlm.families.family import renamed

Fingerprint = dict[str, int]
"""`bit_sum` by the weight's name in transformers, in 0 .. 2^64 - 1."""

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CPU_PIECE, _GPU_PIECE = 2**17, 2**25
"""Values that are summed up at a time."""


class OffPolicyError(UserError, RuntimeError):
    """The rollouts are not samples of the policy that is being updated."""


def weights_fingerprint(
    named_weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None
) -> Fingerprint:
    """Fingerprint of whole weights under transformers' names, as the trainer has them.

    dtype: the engine's, if the trainer's weights have another. A tied LM head must be listed under both names, as for
    `Engine.sync`.
    """
    return {name: bit_sum(w if dtype is None else w.to(dtype)) for name, w in named_weights}


def add_fingerprints(parts: Iterable[Fingerprint]) -> Fingerprint:
    """Fingerprint of weights from those of their parts (`bit_sum`, `flat_bit_sum`), which different processes hold."""
    total: Fingerprint = {}
    for part in parts:
        for name, bits in part.items():
            total[name] = (total.get(name, 0) + bits) % 2**64
    return total


def bit_sum(weight: Tensor, *, row: int = 0, column: int = 0) -> int:
    """The sum above, -0.0 counted as 0.0, in 0 .. 2^64 - 1.

    weight: a whole one of any shape (rows are its first dimension; a vector is a column), or the rectangle of a matrix
    that begins at `row` and `column`.
    """
    values = weight.detach()
    if not values.numel():
        return 0
    values = values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(-1, 1)
    rows, columns = values.shape
    a = _odd_numbers(1, row, row + rows, values.device)
    b = _odd_numbers(2, column, column + columns, values.device)
    bits = _BITS[values.element_size()]
    if bits != torch.int64:
        b = b.to(torch.int32)
    size = max(1, (_CPU_PIECE if values.device.type == "cpu" else _GPU_PIECE) // columns)
    total = torch.zeros((), dtype=torch.int64, device=values.device)
    for start in range(0, rows, size):
        piece = (values[start : start + size] + 0.0).view(bits)
        products = piece.to(b.dtype).mul_(b)
        total += (products.sum(1, dtype=torch.int64) * a[start : start + size]).sum()
    return int(total) % 2**64


def flat_bit_sum(values: Tensor, columns: int, start: int) -> int:
    """`bit_sum` of a stretch of a flattened weight (its elements start, start + 1, …), whose rows have `columns` elements;
    a vector has 1."""
    values = values.reshape(-1)
    head = min(-start % columns, len(values))  # what is left of a row that began before
    whole = (len(values) - head) // columns * columns
    pieces = (
        (values[:head][None], start // columns, start % columns),
        (values[head : head + whole].view(-1, columns), (start + head) // columns, 0),
        (values[head + whole :][None], (start + head + whole) // columns, 0),
    )
    return sum(bit_sum(piece, row=row, column=column) for piece, row, column in pieces) % 2**64


def check_fingerprint(engine: Mapping[str, int], trainer: Mapping[str, int]) -> None:
    """Compare the engine's weights with the trainer's, bit for bit. Raises OffPolicyError naming those that differ."""
    missing = sorted(trainer.keys() ^ engine.keys())
    if missing:
        raise OffPolicyError(
            f"off-policy: {len(missing)} weight(s) are known to only one of engine and trainer: {_some(missing)}"
        )
    stale = sorted(name for name in trainer if engine[name] != trainer[name])
    if stale:
        raise OffPolicyError(
            f"off-policy: {len(stale)} of {len(trainer)} weights of the rollout engine are not the trainer's:"
            f" {_some(stale)}{_hint(stale, len(trainer))}"
        )


def vllm_fingerprint(model: nn.Module) -> Fingerprint:
    """Fingerprint of the weights a vLLM model computes with.

    On CPU vLLM packs linear weights and forgets the originals; there the weight is read back by sending the identity
    through the packed kernel, which is exact: every output is one weight times one, plus zeros.
    """
    names, sums = family_of_model(model).engine_names, Fingerprint()
    # the model's type; some weights are kept in float32 whatever it is (Qwen3.5's A_log)
    dtype = min((weight.dtype for weight in model.parameters()), key=lambda dtype: dtype.itemsize)
    for module_name, module in model.named_modules(remove_duplicate=False):
        for name, weight in module.named_parameters(recurse=False):
            if name == "weight" and hasattr(module, "cpu_linear"):
                weight = _read_packed(module)
            for part_name, part in _parts(model, module_name, module, weight):
                sums[renamed(f"{part_name}.{name}", names)] = bit_sum(part.to(dtype))
    return sums


def _parts(model: Any, module_name: str, module: Any, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The matrices that vLLM has fused in a module, under the module names that transformers knows them by."""
    parent, _, name = module_name.rpartition(".")
    # InternVL's own list is empty, that of the language model inside is not
    fused = model.packed_modules_mapping or model.language_model.packed_modules_mapping
    names = fused.get(name, [name])
    sizes = list(module.output_partition_sizes) if len(names) > 1 else [len(weight)]
    if more := len(sizes) - len(
        names
    ):  # Qwen3.5's in_proj_qkvz has four parts; the first three are one matrix
        sizes = [sum(sizes[: more + 1]), *sizes[more + 1 :]]
    for part, rows in zip(names, weight.split(sizes), strict=True):
        yield f"{parent}.{part}" if parent else part, rows


def _read_packed(module: Any) -> Tensor:
    columns = getattr(module, "input_size_per_partition", None) or module.embedding_dim
    return module.cpu_linear(torch.eye(columns, dtype=module.weight.dtype), module.weight, None).t()


def _odd_numbers(stream: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Those at start .. stop - 1 of an endless list of odd int64 numbers, one list per stream."""
    return _odd_table(stream, max(4096, 1 << (stop - 1).bit_length()), device)[start:stop]


@lru_cache(maxsize=32)
def _odd_table(stream: int, count: int, device: torch.device) -> Tensor:
    """splitmix64 (Steele et al., OOPSLA 2014) of 0 .. count - 1, made odd."""
    with torch.inference_mode(False):  # the table outlives the caller's mode
        x = torch.arange(1, count + 1, device=device) * _signed(0x9E3779B97F4A7C15) + _signed(
            stream * 0xD1B54A32D192ED03
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ _shifted(x, shift)) * _signed(factor)
        return (x ^ _shifted(x, 31)) | 1


def _shifted(x: Tensor, by: int) -> Tensor:
    """x >> by with zeros coming in."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The int64 with these 64 bits."""
    number %= 2**64
    return number - 2**64 if number >= 2**63 else number


def _hint(stale: list[str], total: int) -> str:
    if stale == ["lm_head.weight"]:
        return ". Only the LM head is old: a tied head must be sent under its own name too"
    if not any(name.startswith(("model.language_model.", "lm_head.")) for name in stale):
        return ". Only the vision tower is old: it was left out of the sync"
    return ". The last sync did not reach the engine" if len(stale) > total // 2 else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

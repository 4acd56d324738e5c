"""Are the engine's weights the trainer's, bit for bit?

The fingerprint of a weight is the sum of its values' bit patterns as integers. Such a sum is exact, does not depend on
order or device, and adds up: over the parts of a fused matrix (vLLM keeps q, k and v as one), and over the shards of a
partitioned one. Two different weights have the same sum by chance about once in 2^32 or rarer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

Fingerprint = dict[str, int]
"""Sum of bit patterns by weight; fused projections under one name (`….qkv_proj.weight`, `….gate_up_proj.weight`)."""

_FUSED = {
    ".q_proj.": ".qkv_proj.",
    ".k_proj.": ".qkv_proj.",
    ".v_proj.": ".qkv_proj.",
    ".gate_proj.": ".gate_up_proj.",
    ".up_proj.": ".gate_up_proj.",
}
_VLLM_PREFIXES = {
    "language_model.lm_head.": "lm_head.",
    "language_model.model.": "model.language_model.",
    "visual.": "model.visual.",
}
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_fingerprint(
    named_weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None
) -> Fingerprint:
    """Fingerprint of weights under transformers' names, as the trainer has them.

    dtype: the engine's, if the trainer's weights have another. A tied LM head must be listed under both names, as for
    `Engine.sync`. Of shards, add up the processes' fingerprints.
    """
    sums: Fingerprint = {}
    for name, weight in named_weights:
        for part, fused in _FUSED.items():
            name = name.replace(part, fused)
        sums[name] = sums.get(name, 0) + bit_sum(weight if dtype is None else weight.to(dtype))
    return sums


def bit_sum(weight: Tensor) -> int:
    """Sum of the values' bit patterns, -0.0 counted as 0.0."""
    values = (weight.detach() + 0.0).contiguous()
    return int(values.view(_BITS[values.element_size()]).sum(dtype=torch.int64))


def vllm_fingerprint(model: nn.Module) -> Fingerprint:
    """Fingerprint of the weights a vLLM model computes with.

    On CPU vLLM packs linear weights and forgets the originals; there the weight is read back by sending the identity
    through the packed kernel, which is exact: every output is one weight times one, plus zeros.
    """
    sums: Fingerprint = {}
    for module_name, module in model.named_modules(remove_duplicate=False):
        for name, weight in module.named_parameters(recurse=False):
            if name == "weight" and hasattr(module, "cpu_linear"):
                weight = _read_packed(module)
            sums[_transformers_name(f"{module_name}.{name}")] = bit_sum(weight)
    return sums


def _read_packed(module: Any) -> Tensor:
    columns = getattr(module, "input_size_per_partition", None) or module.embedding_dim
    return module.cpu_linear(torch.eye(columns, dtype=module.weight.dtype), module.weight, None)


def _transformers_name(name: str) -> str:
    for vllm_prefix, prefix in _VLLM_PREFIXES.items():
        if name.startswith(vllm_prefix):
            return prefix + name.removeprefix(vllm_prefix)
    return name

"""Which rollout engine, and how large: one config section of every program that generates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from engines.engine import Engine


class EngineConfig(BaseModel):
    """The rollout engine. Weights are in the trainer's dtype; sampling itself (temperature, length) is asked for by
    each call."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: Literal["vllm", "transformers"] = Field(
        "vllm",
        description="vllm: in this process, one engine per rank. transformers: the plain reference, for machines where"
        " vLLM cannot be installed; as fast for models of a few million parameters (benchmarks/generate.py), but without"
        " paged memory, CUDA graphs or prompts joining a running batch.",
    )
    max_model_len: int = Field(
        4096, ge=16, description="Longest prompt plus completion, in tokens (visual tokens included)."
    )
    max_num_seqs: int = Field(256, ge=1, description="Completions that are generated at the same time.")
    max_num_batched_tokens: int = Field(
        8192,
        ge=16,
        description="Tokens of one forward pass at most, prompts and completions together; also the most visual tokens"
        " that are encoded at once. Larger is faster until memory is short. At least max_num_seqs; on CPU also at least"
        " max_model_len, since prompts are not split there.",
    )
    gpu_memory_utilization: float = Field(
        0.5,
        gt=0,
        le=1,
        description="GPU only: share of the device's memory for vLLM's weights and KV cache; the rest is the"
        " trainer's. With `sleep`, the KV cache and vLLM's weights are given back during the update.",
    )
    cpu_kvcache_gb: float = Field(1.0, gt=0, description="CPU only: size of the KV cache in GiB.")
    block_size: int | None = Field(
        None,
        ge=8,
        description="Tokens per block of the KV cache; prompts are shared between the completions of a group in whole"
        " blocks. null: 32 on CPU (the smallest there; vLLM's own 128 leaves short prompts unshared), vLLM's choice on"
        " GPUs.",
    )
    enforce_eager: bool = Field(
        False,
        description="Skip torch.compile and CUDA graphs: starts sooner, decodes slower. Always so on CPU.",
    )
    tensor_parallel_size: Literal[1] = Field(
        1,
        description="GPUs per engine. Only 1: each rank has its own engine, so weights are never resharded.",
    )
    images_per_prompt: int = Field(8, ge=0, description="Most images in one prompt.")
    videos_per_prompt: int = Field(2, ge=0, description="Most videos in one prompt.")
    sleep: bool = Field(
        False,
        description="GPU only: during the update, give back the memory of KV cache and weights; the next sync refills"
        " the weights.",
    )
    threads: int = Field(
        1,
        ge=1,
        description="CPU only: threads that generate. Decoding a small model is a chain of small products: a second"
        " thread gains little, and where other processes share the cores it costs several times the run time (OpenMP"
        " threads wait for each other by spinning). Raise it for models of a few hundred million parameters on an idle"
        " machine. The trainer's own number of threads is left as it is.",
    )


def build_engine(
    config: EngineConfig,
    model_path: str | Path,
    processor: Any,
    dtype: torch.dtype = torch.float32,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Engine:
    """Start the engine on the weights at `model_path` (version 0).

    processor: the trainer's; the engine takes over its pixel limits, so both see the same visual tokens.
    dtype: of the trainer's weights. seed: of the engine's own random numbers; ranks must differ in it.
    device: transformers engine only; default is CUDA where there is one.
    """
    if config.kind == "vllm":
        from engines.vllm_engine import VLLMEngine

        return VLLMEngine(config, model_path, processor, dtype, seed=seed)
    from engines.transformers_engine import TransformersEngine

    return TransformersEngine(config, model_path, processor, dtype, seed=seed, device=device)

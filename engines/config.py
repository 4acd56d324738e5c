"""Which rollout engine, and how large: one config section of every program that generates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from core.config import Section

_KIND = (
    "vllm: in this process, one engine per rank. transformers: the plain reference, for machines where vLLM cannot be"
    " installed; as fast for models of a few million parameters (benchmarks/generate.py), but without paged memory, CUDA"
    " graphs or prompts joining a running batch."
)


class _Engine(Section):
    """What every engine has. Weights are in the trainer's dtype; temperature and length are arguments of each call."""

    kind: Literal["vllm", "transformers"]
    """Overridden by each kind; here it comes first."""
    max_model_len: int = Field(default=4096, ge=16)
    """Longest prompt plus completion, in tokens (visual tokens included)."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Completions that are generated at the same time."""
    images_per_prompt: int = Field(default=8, ge=0)
    """Most images in one prompt."""
    videos_per_prompt: int = Field(default=2, ge=0)
    """Most videos in one prompt."""
    sleep: bool = False
    """GPU only: during the update, give back the memory of weights and KV cache."""


class VLLMConfig(_Engine):
    """vLLM in the trainer's process, one engine per rank."""

    kind: Literal["vllm"] = Field(default="vllm", description=_KIND)
    max_num_batched_tokens: int = Field(default=8192, ge=16)
    """Tokens of one forward pass at most, prompts and completions together; also the most visual tokens that are encoded at
    once. Larger is faster until memory is short. At least max_num_seqs; on CPU also at least max_model_len, since prompts
    are not split there."""
    gpu_memory_utilization: float = Field(default=0.5, gt=0, le=1)
    """GPU only: share of the device's memory for vLLM's weights and KV cache; the rest is the trainer's. With `sleep`, both
    are given back during the update."""
    cpu_kvcache_gb: float = Field(default=1.0, gt=0)
    """CPU only: size of the KV cache in GiB."""
    block_size: int | None = Field(default=None, ge=8)
    """Tokens per block of the KV cache; prompts are shared between the completions of a group in whole blocks. null: 32 on
    CPU (the smallest there; vLLM's own 128 leaves short prompts unshared), vLLM's choice on GPUs."""
    enforce_eager: bool = False
    """Skip torch.compile and CUDA graphs: starts sooner, decodes slower. Always so on CPU."""
    tensor_parallel_size: Literal[1] = 1
    """GPUs per engine. Only 1: each rank has its own engine, so weights are never resharded."""
    threads: int = Field(default=1, ge=1)
    """CPU only: threads that generate. Decoding a small model is a chain of small products: a second thread gains little, and
    where other processes share the cores it costs several times the run time. Raise it for models of a few hundred million
    parameters on an idle machine. The trainer's own number of threads is left as it is."""


class TransformersConfig(_Engine):
    """The reference engine, plain transformers with a KV cache."""

    kind: Literal["transformers"] = Field(default="transformers", description=_KIND)


def _kind(value: Any) -> Any:
    return value.get("kind", "vllm") if isinstance(value, dict) else getattr(value, "kind", None)


EngineConfig = Annotated[
    Annotated[VLLMConfig, Tag("vllm")] | Annotated[TransformersConfig, Tag("transformers")],
    Discriminator(_kind),
]
"""The rollout engine; `kind` says which, vllm where it is left out. A setting of one kind is an error with another."""

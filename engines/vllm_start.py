"""Starting vLLM (0.31) so that it samples from exactly the distribution that the trainer differentiates."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from engines.config import VLLMConfig
from engines.tokens import suppressed_token_ids
from engines.vllm_groups import forget_dead_groups
from vlm.families import family_of_processor

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core in this process: weights are handed over, not sent
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # one runner on CPU and GPU; the logits processor below is for this one
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # pinned threads would pin the trainer's too
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def prepare_vllm() -> bool:
    """Settings of this process that vLLM reads while it is imported; returns whether it is the build for CPUs."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform

    forget_dead_groups()
    on_cpu = bool(current_platform.is_cpu())
    if on_cpu:
        # Two one-line kernels of the sampler; compiling them takes 15 s and gains nothing at these sizes.
        type(current_platform).simple_compile_backend = "eager"
    return on_cpu


def start_vllm(
    config: VLLMConfig, model_path: str | Path, processor: Any, dtype: torch.dtype, seed: int
) -> Any:
    """The `vllm.LLM` of a config. processor: the trainer's, for its pixel limits and tokens."""
    on_cpu = prepare_vllm()
    from vllm import LLM, ModelRegistry

    family = family_of_processor(processor)
    # vLLM would inspect the class in a child process, which takes seconds and does not import `core`.
    ModelRegistry.register_model(family.model, family.engine_class())
    _pass_sizes_once()
    return LLM(**_arguments(config, model_path, processor, dtype, seed, on_cpu))


def _arguments(
    config: VLLMConfig, model_path: str | Path, processor: Any, dtype: torch.dtype, seed: int, on_cpu: bool
) -> dict[str, Any]:
    from transformers import AutoConfig

    vocab_size = AutoConfig.from_pretrained(model_path).get_text_config().vocab_size
    arguments: dict[str, Any] = {
        "model": str(model_path),
        "dtype": str(dtype).removeprefix("torch."),
        "seed": seed,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": max(config.max_num_batched_tokens, config.max_num_seqs),  # vLLM's rule
        "limit_mm_per_prompt": {"image": config.images_per_prompt, "video": config.videos_per_prompt},
        "mm_processor_kwargs": family_of_processor(processor).engine_settings(processor),
        "mm_processor_cache_gb": 0,  # every step brings new images, and the completions of a group share one
        "use_tqdm_on_load": False,
        "generation_config": "vllm",  # nothing of the checkpoint's sampling habits (top-p, penalties)
        "logprobs_mode": "processed_logprobs",
        "logits_processors": [_suppressing(suppressed_token_ids(processor, vocab_size))],
        "enforce_eager": config.enforce_eager or on_cpu,
    }
    block_size = config.block_size or (32 if on_cpu else None)
    if block_size is not None:
        arguments["block_size"] = block_size
    if on_cpu:
        arguments |= {
            "kv_cache_memory_bytes": int(config.cpu_kvcache_gb * 2**30),
            "skip_mm_profiling": True,
            # A prompt that is split over two passes rewinds its random numbers, which CPU generators cannot do.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(arguments["max_num_batched_tokens"], config.max_model_len),
        }
    else:
        arguments |= {
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "enable_sleep_mode": config.sleep,
        }
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        arguments["distributed_executor_backend"] = "external_launcher"
    return arguments


def _pass_sizes_once() -> None:
    """Make vLLM's processor of Qwen3-VL accept `videos_kwargs`: it adds their size to the call itself, beside the nested
    ones, and transformers refuses a size that comes twice (vLLM 0.31). The nested sizes are then left out."""
    from vllm.multimodal.processing.context import InputProcessingContext

    merge = InputProcessingContext.get_merged_mm_kwargs
    if hasattr(merge, "__wrapped__"):
        return

    @functools.wraps(merge)
    def merge_once(self: Any, kwargs: Mapping[str, Any], *, modality: str | None = None) -> dict[str, Any]:
        merged = merge(self, kwargs, modality=modality)
        if "size" in kwargs and modality is None:
            for name in ("images_kwargs", "videos_kwargs"):
                if name in merged:
                    merged[name] = {key: value for key, value in merged[name].items() if key != "size"}
        return merged

    InputProcessingContext.get_merged_mm_kwargs = merge_once


def _suppressing(ids: Sequence[int]) -> type:
    """A vLLM logits processor that sets the logits of `ids` to -inf in every row of every batch."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    class Suppress(LogitsProcessor):
        def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
            self._ids = torch.tensor(ids, device=device)

        def apply(self, logits: Tensor) -> Tensor:
            return logits.index_fill_(-1, self._ids, -torch.inf)

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: Any) -> None:
            pass

    return Suppress

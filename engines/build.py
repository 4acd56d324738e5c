"""Starts the rollout engine that a config names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engines.config import EngineConfig, TransformersConfig
from engines.engine import Engine
from vlm.checkpoint import resolve_checkpoint


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
    model_path = resolve_checkpoint(model_path)
    if isinstance(config, TransformersConfig):
        from engines.transformers_engine import TransformersEngine

        return TransformersEngine(config, model_path, processor, dtype, seed=seed, device=device)
    from engines.vllm_engine import VLLMEngine  # vLLM loads only where it is used

    return VLLMEngine(config, model_path, processor, dtype, seed=seed)

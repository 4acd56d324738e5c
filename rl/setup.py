"""Policy and optimizer, placed on whatever `accelerate launch` was told: one process, DDP, DeepSpeed ZeRO."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import nn

from rl.checks import GapLimits
from rl.config import GRPOConfig, OptimizerConfig
from vlm.load import ModelConfig, load_model, load_processor
from vlm.lora import add_lora
from vlm.parts import set_trainable


def join_processes(config: GRPOConfig) -> Accelerator:
    """The accelerator of what `accelerate launch` or `torchrun` started; refuses processes that would train alone."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpus = launched > 1 and not torch.cuda.is_available()
    accelerator = Accelerator(
        log_with=config.report_to or None,
        project_dir=config.output_dir,
        kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")] if on_cpus else None,
    )
    if accelerator.num_processes != launched:
        raise RuntimeError(
            f"{launched} processes were launched, but accelerate joined {accelerator.num_processes}: each would train"
            " alone. On CPUs set ACCELERATE_USE_CPU=true (or use DeepSpeed)"
        )
    return accelerator


def build_policy(config: ModelConfig) -> tuple[nn.Module, Any]:
    """The model with the parts that train, LoRA applied if asked for, and its processor."""
    processor = load_processor(config)
    model: nn.Module = load_model(config)
    if config.lora is not None:
        model = add_lora(model, config.lora)
        set_trainable(model, config.trainable)
    _refuse_dropout(model)
    return model.train(), processor  # transformers checkpoints gradients in training mode only


def _refuse_dropout(model: nn.Module) -> None:
    """With dropout the policy that is trained would be another than the one that sampled."""
    active = [name for name, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p > 0]
    active += [n for n, m in model.named_modules() if getattr(m, "attention_dropout", 0.0) > 0]
    if active:
        raise ValueError(f"RL needs dropout 0 everywhere; it is not in {', '.join(active[:3])}")


def optimizer_for(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; matrices decay, vectors (norms, biases) do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("no parameter is trainable")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas)


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, config: GRPOConfig
) -> tuple[nn.Module, Any]:
    """Wrap both for the launch's kind of parallelism."""
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        # One configuration for both: what DeepSpeed's file leaves to "auto", and the optimizer, are this run's.
        settings = plugin.deepspeed_config
        settings.pop("optimizer", None)
        settings.pop("scheduler", None)
        settings["gradient_clipping"] = config.optimizer.max_grad_norm
        settings["gradient_accumulation_steps"] = (
            1  # micro-batches differ from step to step; rl/loop.py counts them
        )
        settings["train_micro_batch_size_per_gpu"] = 1
        settings["train_batch_size"] = accelerator.num_processes
        settings.setdefault("bf16", {})["enabled"] = config.model.dtype == "bfloat16"
    return accelerator.prepare(model, optimizer)


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Of a step (from 0): linear warm-up, then constant."""
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))


def gap_limits(config: GRPOConfig) -> GapLimits:
    """The configured limits of the log-prob gap, those of the dtype where none is given."""
    default = GapLimits.for_dtype(getattr(torch, config.model.dtype))
    return GapLimits(
        mean=default.mean if config.checks.max_mean_gap is None else config.checks.max_mean_gap,
        max=default.max if config.checks.max_gap is None else config.checks.max_gap,
    )

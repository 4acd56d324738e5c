"""Policy and optimizer, placed on whatever `accelerate launch` was told: one process, DDP, DeepSpeed ZeRO."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import nn

from core.processes.build_locks import remove_stale_locks
from core.processes.launch import refuse_fsdp
from core.processes.watchdog import operation
from core.training.precision import Launch, check_launch, deepspeed_plugin, training_precision
from rl.checks import GapLimits
from rl.config import GRPOConfig
from rl.update.correction import Correction
from vlm.load import ModelConfig, load_model, load_processor
from vlm.lora import add_lora
from vlm.parts import set_trainable


def join_processes(config: GRPOConfig) -> Accelerator:
    """The accelerator of what `accelerate launch` or `torchrun` started, in the precision of the config.

    Call it before the model is loaded: under ZeRO-3 the weights are split in that precision while they are loaded.
    Raises LaunchError where launch and config contradict each other; refuses processes that would train alone.
    """
    refuse_fsdp()
    remove_stale_locks()
    launch = Launch.of_environment()
    precision = training_precision(config.model.dtype)
    check_launch(launch, precision, config.PRECISION_SETTING)
    plugin = deepspeed_plugin(launch, config.zero_values(launch.processes)) if launch.deepspeed else None
    on_cpus = launch.processes > 1 and not torch.cuda.is_available()
    limit_s = config.timeouts.exchange_s
    group: dict[str, Any] = {"backend": "gloo"} if on_cpus else {}
    group["timeout"] = timedelta(seconds=limit_s + 60)  # the watchdog speaks first
    with operation("join the other processes", limit_s):
        accelerator = Accelerator(
            # Outside DeepSpeed it would mean autocast, in which some operations are more precise than in the engine.
            mixed_precision="bf16" if plugin is not None and precision == "bfloat16" else "no",
            deepspeed_plugin=plugin,
            log_with=config.report_to or None,
            project_dir=config.output_dir,
            kwargs_handlers=[InitProcessGroupKwargs(**group)] if launch.processes > 1 else None,
        )
    if accelerator.num_processes != launch.processes:
        raise RuntimeError(
            f"{launch.processes} processes were launched, but accelerate joined {accelerator.num_processes}: each would train"
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


def gap_limits(config: GRPOConfig) -> GapLimits:
    """The configured limits of the log-prob gap, those of the dtype where none is given."""
    checks = config.checks
    given = {
        "mean": checks.max_mean_gap,
        "max": checks.max_gap,
        "kl": checks.max_kl,
        "ess": checks.min_ess,
        "noise": checks.max_noise,
    }
    default = GapLimits.for_dtype(getattr(torch, config.model.dtype))
    return replace(default, **{name: value for name, value in given.items() if value is not None})


def correction(config: GRPOConfig) -> Correction | None:
    """The configured importance weights; "auto": by token, but none in float32."""
    kind = config.correction
    if kind == "auto":
        kind = "none" if config.model.dtype == "float32" else "token"
    return None if kind == "none" else Correction(kind, config.correction_limit)

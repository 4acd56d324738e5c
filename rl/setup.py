"""Policy and optimizer, placed on whatever `accelerate launch` was told: one process, DDP, DeepSpeed ZeRO."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import nn

from core.build_locks import remove_stale_locks
from core.launch import refuse_fsdp
from core.watchdog import operation
from rl.checks import GapLimits
from rl.config import ADAM_EPSILON, GRPOConfig, OptimizerConfig
from rl.correction import Correction
from rl.master_weights import MasterAdamW, needs_masters
from vlm.load import ModelConfig, load_model, load_processor
from vlm.lora import add_lora
from vlm.parts import set_trainable
from vlm.precision import Launch, check_launch, deepspeed_plugin, training_precision
from vlm.zero import LaunchError

_DATA_PARALLEL = (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


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


def optimizer_for(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; matrices decay, vectors (norms, biases) do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("no parameter is trainable")
    groups = [
        {"params": [p for p in trainable if _ndim(p) >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if _ndim(p) < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas, eps=ADAM_EPSILON
    )


def _ndim(parameter: nn.Parameter) -> int:
    """Of the whole parameter: under ZeRO-3 a process holds a flat part."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.AdamW
) -> tuple[nn.Module, Any]:
    """Wrap both for the launch's kind of parallelism; a bfloat16 policy gets float32 master weights.

    optimizer: fresh, without a step taken.
    """
    if accelerator.state.deepspeed_plugin is not None or not needs_masters(optimizer):
        return accelerator.prepare(model, optimizer)
    if accelerator.distributed_type not in (DistributedType.NO, *_DATA_PARALLEL):
        raise LaunchError(
            f"model.dtype: expected float32 under {accelerator.distributed_type.value}, where nothing keeps float32"
            " master weights, got bfloat16 (launch with DeepSpeed, or plain data parallel)"
        )
    # Not in DDP: it would add up gradients in bfloat16, which MasterAdamW does in float32.
    policy = accelerator.prepare_model(model, evaluation_mode=True)
    if accelerator.distributed_type in _DATA_PARALLEL:
        for parameter in policy.parameters():  # as DDP does: all start from the first process's weights
            torch.distributed.broadcast(parameter.data, src=0)
    return policy, accelerator.prepare_optimizer(MasterAdamW(optimizer.param_groups))


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Of a step (from 0): linear warm-up, then constant."""
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))


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

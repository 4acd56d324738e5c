"""From the config: accelerator, policy, limits of the log-prob gap, and importance weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from core.training import joining
from rl.checks import GapLimits
from rl.coefficients import Objective
from rl.config import GRPOConfig
from rl.update.correction import Correction
from vlm.load import ModelConfig, load_processor, load_trainable


def join_processes(config: GRPOConfig) -> Accelerator:
    """The accelerator of what was launched; call it before the model is loaded (core/training/joining.py)."""
    return joining.join_processes(
        dtype=config.model.dtype,
        precision_setting=config.PRECISION_SETTING,
        zero_values=config.zero_values,
        limit_s=config.timeouts.exchange_s,
        output_dir=config.output_dir,
        report_to=config.report_to,
    )


def build_policy(config: ModelConfig) -> tuple[nn.Module, Any]:
    """The model with the parts that train, LoRA applied if asked for, and its processor."""
    processor = load_processor(config)
    model = load_trainable(config)
    _refuse_dropout(model)
    return model, processor


def _refuse_dropout(model: nn.Module) -> None:
    """Raise ValueError if the model has dropout: the policy that is trained would not be the one that sampled."""
    active = [name for name, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p > 0]
    active += [n for n, m in model.named_modules() if getattr(m, "attention_dropout", 0.0) > 0]
    if active:
        raise ValueError(f"RL needs dropout 0 everywhere; it is not in {', '.join(active[:3])}")


def gap_limits(config: GRPOConfig) -> GapLimits:
    """The configured limits of the log-prob gap; where none is given, the default for the dtype."""
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


def objective(config: GRPOConfig) -> Objective:
    """The configured weights of tasks, rewards and teacher."""
    distillation = config.distillation
    return Objective(
        rewards=1.0 if distillation is None else distillation.reward_weight,
        teacher=0.0 if distillation is None else distillation.weight,
        weights=config.task_weights,
        per_task="task_tokens" in config.interference.remedies,
    )


def correction(config: GRPOConfig) -> Correction | None:
    """The configured importance weights. "auto": none in float32, else by token."""
    kind = config.correction
    if kind == "auto":
        kind = "none" if config.model.dtype == "float32" else "token"
    return None if kind == "none" else Correction(kind, config.correction_limit)

"""AdamW and its schedule, prepared for the kind of parallelism that was launched."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from pydantic import Field
from torch import nn

from core.config import Section
from core.errors import LaunchError
from core.training.master_weights import MasterAdamW, needs_masters
from core.training.zero import Precision, ZeroValues

_DATA_PARALLEL = (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate, at the end of the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Form of the decay after the warm-up, down to `min_lr_ratio` at the last step."""
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end, as a share of `learning_rate`; `constant` does not use it."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the two moving averages."""
    epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay, of matrices (not of norms and biases)."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0: no clipping."""
    max_skipped_steps: int = Field(default=3, ge=0)
    """A step whose learning rate, loss or gradient is not finite is skipped; more than this many in a row stop the run."""

    def zero_values(self, precision: Precision, processes: int, hidden_size: Callable[[], int]) -> ZeroValues:
        """Values for the "auto" entries of DeepSpeed's config. The number of micro-batches changes from step to step, so
        the loops count them themselves and DeepSpeed is told of one."""
        return ZeroValues(
            precision=precision,
            processes=processes,
            micro_batch=1,
            accumulation=1,
            learning_rate=self.learning_rate,
            betas=self.betas,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            hidden_size=hidden_size,
        )


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
        [g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas, eps=config.epsilon
    )


def _ndim(parameter: nn.Parameter) -> int:
    """Dimensions of the whole parameter; under ZeRO-3 a process holds only a flat part."""
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


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Of a step (from 0) in a run of `steps`: linear warm-up, then down to its lowest at the last step by the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = min(1.0, (step - config.warmup_steps) / max(1, steps - config.warmup_steps))
    if config.schedule == "constant":
        return config.learning_rate
    decay = 1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (config.min_lr_ratio + (1 - config.min_lr_ratio) * decay)

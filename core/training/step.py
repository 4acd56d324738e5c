"""One optimizer step: gradients are summed over micro-batches, then applied, or skipped if they are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from core.training.master_weights import MasterAdamW


@contextmanager
def accumulating(accelerator: Accelerator, model: nn.Module, last: bool) -> Iterator[None]:
    """Forward and backward pass of a micro-batch: the processes add their gradients up once, after the `last` of a step."""
    with nullcontext() if last else accelerator.no_sync(model):
        accelerator.sync_gradients = last
        yield


def loss_without_step(loss: Tensor) -> Tensor:
    """A loss whose gradient is not-a-number in every weight: whatever sums the gradients up, on whichever processes, finds
    a norm that is not finite, and leaves the step out."""
    return loss * math.nan


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def apply_gradient(accelerator: Accelerator, optimizer: Any, max_norm: float) -> float:
    """Take the step if the norm of its gradient is finite, on all processes or on none; returns the norm.

    max_norm: gradients are scaled down to it; 0: they are not. With DeepSpeed the last `accelerator.backward` has already
    taken the step: ZeRO leaves out steps whose norm is not finite. Raises FloatingPointError where it did not.
    """
    if isinstance(getattr(optimizer, "optimizer", None), MasterAdamW):
        optimizer.optimizer.average_gradients()
    stepped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fill_gradients(accelerator, stepped)
    norm = float(accelerator.clip_grad_norm_(stepped, max_norm or math.inf))
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        if not math.isfinite(norm) and not accelerator.optimizer_step_was_skipped:
            raise FloatingPointError(
                f"DeepSpeed took a step with a gradient norm of {norm}; use ZeRO stage 1, 2 or 3, and leave bf16's"
                " check_grad_overflow on"
            )
    elif math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad()
    return norm


def fill_gradients(accelerator: Accelerator, parameters: Sequence[Tensor]) -> None:
    """Zeros for trained parameters that nothing in the step has touched (the vision tower in a step of text alone).

    Their gradient is exactly zero, not absent: AdamW must decay its averages and count the step, as it does where
    several processes reduce gradients of every parameter. DeepSpeed, which keeps gradients elsewhere, does it itself.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return
    for parameter in parameters:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)

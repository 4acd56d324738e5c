"""The gradient of each task of a step, taken out where a backward pass leaves it, one task after another.

The objective is a sum over rollouts, so its gradient is the sum of the tasks' gradients, and computing them one by one costs no
more forward or backward passes than computing them together. What it costs: memory for all of them, one sum over processes for
each instead of one for all, and T (T + 1) / 2 inner products.

Under ZeRO-3 every process keeps its own part of each gradient, and the parts' inner products are added up. Otherwise gradients
are whole on every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from core.errors import RunError
from core.processes.exchange import timed
from core.training.master_weights import MasterAdamW
from rl.interference.blocks import blocks_of
from rl.interference.geometry import gram
from vlm.families import family_of_model

WHOLE = "all"
"""The block of all parameters."""
ZERO_STAGE = (
    "interference: expected ZeRO-3 or a launch without DeepSpeed; with ZeRO stage {} the gradients of single tasks, which `every`"
    " and pcgrad need, are out of reach"
)


def refuse_stage(stage: int) -> None:
    """Raise RunError for a stage of ZeRO (0: none) that hides gradients."""
    if stage not in (0, 3):
        raise RunError(ZERO_STAGE.format(stage))


def zero_stage(accelerator: Accelerator) -> int:
    """The stage of ZeRO; 0 without DeepSpeed."""
    plugin = accelerator.state.deepspeed_plugin
    return 0 if plugin is None else int(plugin.zero_stage)


class _Gradients(Protocol):
    """Where gradients lie. names: of the parameters, in the order of all lists."""

    names: list[str]

    def take(self) -> list[Tensor | None]:
        """What has been added up since the last call; None is zero."""
        ...

    def put(self, place: int, gradient: Tensor) -> None:
        """Leave a gradient for the optimizer."""
        ...

    def agreed(self, matrix: Tensor) -> Tensor:
        """A Gram matrix, the same on all processes."""
        ...


class _Whole:
    """In the parameters that the optimizer has: the model's, or float32 copies of them."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        inner = getattr(optimizer, "optimizer", optimizer)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        if isinstance(inner, MasterAdamW):
            names |= {id(master): names[id(parameter)] for parameter, master in inner.copies}
        self._parameters: list[Tensor] = [p for group in inner.param_groups for p in group["params"]]
        self.names = [names[id(parameter)] for parameter in self._parameters]

    def take(self) -> list[Tensor | None]:
        taken: list[Tensor | None] = []
        for parameter in self._parameters:
            gradient, parameter.grad = parameter.grad, None
            if dist.is_initialized() and dist.get_world_size() > 1:
                gradient = torch.zeros_like(parameter) if gradient is None else gradient
                dist.all_reduce(gradient)
                gradient.div_(dist.get_world_size())  # the mean, as DDP's
            taken.append(gradient)
        return taken

    def put(self, place: int, gradient: Tensor) -> None:
        self._parameters[place].grad = gradient

    def agreed(self, matrix: Tensor) -> Tensor:
        if not dist.is_initialized():
            return matrix
        # the first process's numbers: a projection must not hang on how another one rounds
        return broadcast(matrix.to(self._parameters[0].device)).cpu()


class _Partitioned:
    """In ZeRO-3's partitions, which add up over micro-batches: this process's parts."""

    def __init__(self, model: nn.Module) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names, self._parameters = list(trained), list(trained.values())
        self._sums: list[Tensor] = []

    def take(self) -> list[Tensor | None]:
        from deepspeed.utils import safe_get_local_grad

        before, self._sums = self._sums, [safe_get_local_grad(p).clone() for p in self._parameters]
        if not before:
            return [part.clone() for part in self._sums]
        return [now - then for now, then in zip(self._sums, before, strict=True)]

    def put(self, place: int, gradient: Tensor) -> None:
        from deepspeed.utils import safe_set_local_grad

        safe_set_local_grad(self._parameters[place], gradient)

    def agreed(self, matrix: Tensor) -> Tensor:
        mine = matrix.to(self._parameters[0].device)
        dist.all_reduce(mine)
        return mine.cpu()


class TaskGradients:
    """Gradients by task.

    model: whose parameters the optimizer has, without what wraps it. tasks: in the order of `take`. seconds: spent on sums over
    processes and inner products.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, optimizer: Any) -> None:
        self._source: _Gradients = (
            _Partitioned(model) if zero_stage(accelerator) else _Whole(model, optimizer)
        )
        self._blocks = blocks_of(family_of_model(model), self._source.names)
        self._gradients: list[list[Tensor | None]] = []
        self.tasks: list[str] = []
        self.seconds: dict[str, float] = {}

    def take(self, task: str) -> None:
        """Take what the backward passes since the last call have added up as the gradient of `task`. All processes must call
        it, for the same tasks in the same order."""
        self.tasks.append(task)
        with timed(self.seconds, "take"):
            self._gradients.append(self._source.take())

    def grams(self, *, by_block: bool) -> dict[str, Tensor]:
        """Inner products by block (rl/interference/geometry.py), and of the whole model as `all`."""
        if not by_block:
            return {WHOLE: self._source.agreed(gram(self._gradients))}
        blocks = {
            name: self._source.agreed(gram([[gradient[i] for i in places] for gradient in self._gradients]))
            for name, places in self._blocks.items()
        }
        return {WHOLE: sum(blocks.values(), torch.zeros(()))} | blocks

    def put_back(self, coefficients: Sequence[float]) -> None:
        """Leave sum_a c_a g_a as the step's gradient."""
        for place in range(len(self._source.names)):
            combined: Tensor | None = None
            for coefficient, gradient in zip(coefficients, self._gradients, strict=True):
                mine, gradient[place] = gradient[place], None  # memory is given back as it goes
                if mine is not None:
                    mine = mine if coefficient == 1 else mine.mul_(coefficient)
                    combined = mine if combined is None else combined.add_(mine)
            if combined is not None:
                self._source.put(place, combined)

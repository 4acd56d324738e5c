"""float32 master weights of a policy that computes in bfloat16, for launches without DeepSpeed.

At RL's learning rates nearly every step is smaller than half the distance between two bfloat16 numbers, so bfloat16
weights would not move. The optimizer therefore holds a float32 copy of each trainable weight (Micikevicius et al.,
arXiv 1710.03740, §3.1), and the policy the rounded weights, in which trainer and rollout engine compute alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

MASTERS = "masters"


class MasterAdamW(torch.optim.AdamW):
    """AdamW on float32 copies of the parameters it is given; a step rounds them into the parameters.

    Each backward pass adds its gradients up in the copies, in float32, and leaves none in the parameters: clip and read
    those of `param_groups`. Over several processes call `average_gradients` before. The state dict holds the copies,
    so that a resumed run goes on exactly. float32 parameters are their own copies.

    param_groups: as of a `torch.optim.AdamW`, on the device where the parameters stay.
    copies: each parameter that is not float32, with its float32 copy.
    """

    def __init__(self, param_groups: Iterable[Mapping[str, Any]]):
        self.copies: list[tuple[nn.Parameter, Tensor]] = []
        super().__init__([{**g, "params": [self._master(p) for p in g["params"]]} for g in param_groups])

    def _master(self, parameter: nn.Parameter) -> Tensor:
        if parameter.dtype == torch.float32:
            return parameter
        master = parameter.detach().float().requires_grad_()
        parameter.register_post_accumulate_grad_hook(_move_gradient_to(master))
        self.copies.append((parameter, master))
        return master

    def average_gradients(self) -> None:
        """Replace the gradients by their means over all processes, in float32; all processes must call it.

        A weight that some processes have no gradient for counts as zero there, as in DDP; one that no process has a
        gradient for keeps none.
        """
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return
        masters = [p for group in self.param_groups for p in group["params"]]
        anywhere = torch.tensor([float(p.grad is not None) for p in masters], device=masters[0].device)
        dist.all_reduce(anywhere)
        for master, count in zip(masters, anywhere.tolist(), strict=True):
            if count:
                master.grad = torch.zeros_like(master) if master.grad is None else master.grad
                dist.all_reduce(master.grad)
                master.grad /= dist.get_world_size()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = super().step(closure)
        self._round()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {MASTERS: [master.detach() for _, master in self.copies]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raises ValueError for the state of an optimizer without master weights, or of other weights."""
        saved = state_dict.get(MASTERS, [])
        shapes, expected = [tuple(m.shape) for m in saved], [tuple(m.shape) for _, m in self.copies]
        if shapes != expected:
            raise ValueError(
                f"expected an optimizer state with {len(expected)} float32 master weights, got {len(shapes)} of"
                f" {'other shapes' if len(shapes) == len(expected) else 'them'}; was model.dtype or trainable changed?"
            )
        super().load_state_dict({name: value for name, value in state_dict.items() if name != MASTERS})
        with torch.no_grad():
            for (_, master), value in zip(self.copies, saved, strict=True):
                master.copy_(value)
            self._round()

    def _round(self) -> None:
        for parameter, master in self.copies:
            parameter.copy_(master)


def needs_masters(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a parameter of the optimizer is less precise than float32 and needs a master copy."""
    return any(p.dtype != torch.float32 for group in optimizer.param_groups for p in group["params"])


def _move_gradient_to(master: Tensor) -> Callable[[Tensor], None]:
    def move(parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.float()
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        parameter.grad = None

    return move

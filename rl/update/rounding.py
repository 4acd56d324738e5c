"""How far rounding alone moves the policy's log-probs: the noise floor that the log-prob gap is compared with.

Engine and trainer compute the same numbers with different kernels, so they round differently. How much that moves a
log-prob depends on the model, its dtype and the tokens, and a limit that holds for all of them would see catastrophes
only. So it is measured: the trainer's own forward pass is repeated with every module's output off by a rounding error,
that is, each value moved to a neighbouring number with probability 1/12 (the variance of a rounding error is 1/12 of a
squared unit in the last place). The engine has no part in it, so a mistake of the engine cannot raise its own limit.

Measured on CPU, tiny models, vLLM and the transformers engine: the gap (KL) of a right engine is in bfloat16 0.35 to 1.0
times this floor, in float32, where the sums round too and not only their results, 0.8 to 2 times for random weights and 6 to
30 times for a policy that is sure of most tokens, whose floor is nearly 0. Faults measure more: in bfloat16 weights one step
old at a learning rate of 1e-3 give 8 times the floor, a temperature 10 % too high 30 times, exchanged rows 300 times, blurred
images 700 times; in float32 a temperature off by 0.1 % or pixels off by 1 % a million times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.metrics import Metric, joined
from engines.rollout import Rollout
from rl.checks import gap_metrics
from rl.update.packing import PackedBatch, Part
from rl.update.policy_gradient import policy_gradient

SHARE = 1 / 12
"""Of values that are moved."""
DRAWS = 4
"""Passes with different errors: a KL may hang on a few rare tokens, and one draw may spare them."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
LogProbs = list[tuple[Tensor, ...]]
"""By micro-batch, one tensor per rollout (`UpdateOutput.logprobs`)."""


def sample_batch(rollouts: Sequence[Rollout], max_tokens: int) -> PackedBatch:
    """A few of the rollouts as one micro-batch: one of each prompt, then a second of each, as long as they fit."""
    places: dict[str, int] = {}
    order = []
    for rollout in rollouts:
        places[rollout.row_id] = turn = places.get(rollout.row_id, 0) + 1
        order.append((turn, rollout))
    chosen: dict[str, list[Rollout]] = {}
    room = max_tokens
    for _, rollout in sorted(order, key=lambda item: item[0]):
        tokens = len(rollout.completion_ids) + (0 if rollout.row_id in chosen else len(rollout.prompt))
        if any(rollout.loss_mask) and (tokens <= room or not chosen):
            chosen.setdefault(rollout.row_id, []).append(rollout)
            room -= tokens
    return PackedBatch(tuple(Part(tuple(some), (1.0,) * len(some)) for some in chosen.values()))


def logprobs_of(policy: nn.Module, batches: Iterable[PackedBatch], options: Mapping[str, Any]) -> LogProbs:
    """The trainer's log-probs by a forward pass without gradient. options: of `policy_gradient`."""
    with torch.no_grad():
        return [policy_gradient(policy, batch, total_tokens=1, **options).logprobs for batch in batches]


def engine_gap(batches: Sequence[PackedBatch], trainer: LogProbs) -> dict[str, Metric]:
    """`gap_metrics` of the engine's log-probs and the trainer's."""
    engine = [[torch.tensor(r.logprobs) for r in batch.rollouts] for batch in batches]
    return _gap(batches, engine, trainer)


def rounding_gap(
    policy: nn.Module, batches: Sequence[PackedBatch], trainer: LogProbs, options: Mapping[str, Any]
) -> dict[str, Metric]:
    """`gap_metrics` of the trainer's log-probs and those that it finds when every module's output is off by rounding, over
    DRAWS draws of the errors."""
    draws = []
    for seed in range(DRAWS):
        with rounding_errors(policy, seed):
            draws.append(_gap(batches, logprobs_of(policy, batches, options), trainer))
    return joined(draws)


@contextmanager
def rounding_errors(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Inside, the output of every module that computes something itself has rounding errors added. Forward passes without
    gradient only; the process's random numbers are left alone."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    def round_otherwise(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        draw = torch.rand(output.shape, generator=generator, device=device)
        steps = (draw < SHARE / 2).int() - (draw > 1 - SHARE / 2).int()
        bits = output.view(_BITS[output.element_size()])  # the next number away from zero, or towards it
        return (bits + steps.to(bits.dtype) * (output != 0)).view(output.dtype)

    exact = nn.Embedding | nn.Identity | nn.Dropout
    computing = [m for m in model.modules() if not list(m.children()) and not isinstance(m, exact)]
    hooks = [module.register_forward_hook(round_otherwise) for module in computing]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gap(
    batches: Sequence[PackedBatch], first: Sequence[Sequence[Tensor]], second: LogProbs
) -> dict[str, Metric]:
    return joined(
        gap_metrics(a, b, torch.tensor(rollout.loss_mask))
        for batch, some, others in zip(batches, first, second, strict=True)
        for rollout, a, b in zip(batch.rollouts, some, others, strict=True)
    )

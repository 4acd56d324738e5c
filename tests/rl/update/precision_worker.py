"""One of the processes that compute a bfloat16 update in several micro-batches; started by test_update_precision.py.

    python precision_worker.py CONFIG OUT_FILE

CONFIG is a GRPO config whose rows are not read; how the processes were started (plain, DDP, DeepSpeed) is in the
environment. 32 groups are divided over processes and micro-batches. For each number of micro-batches process 0 writes
to OUT_FILE the gradients that the optimizer is given: of all micro-batches together, and the exact sum of those that it
is given of each micro-batch alone.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import yaml
from torch import Tensor

from core.training.optimizer import optimizer_for, prepare
from rl.config import GRPOConfig
from rl.setup import build_policy, join_processes
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from vlm.load import load_processor

MICRO_BATCHES = (1, 4, 16)
GROUPS = 32
TEMPERATURE, TOTAL_TOKENS = 0.8, 400


def cases():
    spec = importlib.util.spec_from_file_location("update_cases", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["update_cases"] = module
    spec.loader.exec_module(module)
    return module


def small_groups(lab, count: int = GROUPS) -> list:
    """Groups of one prompt with an image each, and three short completions."""
    picture = cases().picture
    prompt = lab.prompt("What is seen?", [picture(1, 56, 56)])
    return [lab.group(prompt, [5, 3, 4], seed=i, row_id=str(i)) for i in range(count)]


class Update:
    """The run's own way from a loss to what the optimizer is given."""

    def __init__(self, config: GRPOConfig):
        self.accelerator = join_processes(config)
        model, _ = build_policy(config.model)
        self.policy, self.optimizer = prepare(self.accelerator, model, optimizer_for(model, config.optimizer))
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # steps are taken, as a run takes them, but all from the same weights
        self.bare = model
        self.seen: dict[str, Tensor] = {}
        if self.accelerator.distributed_type.value == "DEEPSPEED":
            step = self.policy.step
            self.policy.step = lambda: (self.read_zero(), step())

    def read_zero(self) -> None:
        from deepspeed.utils import safe_get_full_grad

        self.seen = {n: safe_get_full_grad(p).float() for n, p in self.bare.named_parameters()}

    def gradients(self, micro_batches: list[list]) -> dict[str, Tensor]:
        """Of one micro-batch for each list of groups, on this process, summed over all processes."""
        for i, groups in enumerate(micro_batches):
            (batch,) = pack(groups, max_tokens=10**6)
            last = i == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.policy):
                self.accelerator.sync_gradients = last
                out = policy_gradient(
                    self.policy,
                    batch,
                    total_tokens=TOTAL_TOKENS,
                    temperature=TEMPERATURE,
                    ranks=self.accelerator.num_processes,
                    media=("image",),
                )
                self.accelerator.backward(out.loss)
        if self.accelerator.distributed_type.value != "DEEPSPEED":
            self.optimizer.optimizer.average_gradients()
            masters = dict(self.optimizer.optimizer.copies)
            self.seen = {n: masters[p].grad.clone() for n, p in self.bare.named_parameters()}
            self.optimizer.step()
            self.optimizer.zero_grad()
        return self.seen


def main(config_file: str, out: str) -> None:
    torch.set_num_threads(1)
    config = GRPOConfig.model_validate(yaml.safe_load(Path(config_file).read_text()))
    update = Update(config)
    lab = cases().Lab(Path(config.model.path), load_processor(config.model))
    rank, ranks = update.accelerator.process_index, update.accelerator.num_processes
    groups = small_groups(lab)[rank::ranks]
    result = {}
    for n in MICRO_BATCHES:
        size = len(groups) // n
        micro_batches = [groups[i * size : (i + 1) * size] for i in range(n)]
        alone: dict[str, Tensor] = {}
        for one in micro_batches:
            for name, gradient in update.gradients([one]).items():
                alone[name] = alone.get(name, 0) + gradient.double()
        result[n] = {"together": update.gradients(micro_batches), "alone": alone}
    if rank == 0:
        torch.save(result, out)
    update.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Without the interpreter's own clean-up, in which gloo's threads have been seen to hang.
    sys.stdout.flush()
    os._exit(0)

"""A GRPO process whose second step has a loss of NaN, and whose third has one NaN in a gradient, on rank 1 alone.

accelerate launch … tests/rl/broken_worker.py CONFIG.yaml
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import torch

import rl.loop
from core.config import read_config
from rl.config import GRPOConfig

original, update = rl.loop.policy_gradient, rl.loop.update
now = [0]


def counted(run, *args):
    now[0] = run.step + 1
    return update(run, *args)


class NotANumber(torch.autograd.Function):
    """The identity, with a gradient of NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


def broken(*args, **options):
    out = original(*args, **options)
    if os.environ["RANK"] != "1" or now[0] not in (2, 3):
        return out
    return replace(out, loss=out.loss * torch.nan if now[0] == 2 else NotANumber.apply(out.loss))


rl.loop.update, rl.loop.policy_gradient = counted, broken
rl.loop.train(read_config(GRPOConfig, sys.argv[1]))
sys.stdout.flush()
os._exit(0)  # without the interpreter's own clean-up, in which gloo's threads have been seen to hang

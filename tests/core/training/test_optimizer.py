"""The schedule of the learning rate."""

from __future__ import annotations

import math

import pytest

from core.training.optimizer import OptimizerConfig, learning_rate


def rates(schedule: str, floor: float, warmup: int = 10) -> list[float]:
    config = OptimizerConfig(learning_rate=2.0, schedule=schedule, min_lr_ratio=floor, warmup_steps=warmup)
    return [learning_rate(config, step, 110) / 2 for step in range(112)]


def test_the_learning_rate_rises_then_falls_to_its_floor():
    cosine, linear = rates("cosine", 0.1), rates("linear", 0.2)
    assert cosine[0] == pytest.approx(0.1) and cosine[9] == cosine[10] == 1.0
    assert cosine[60] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert cosine[110] == cosine[111] == pytest.approx(0.1)
    assert linear[60] == pytest.approx(0.2 + 0.8 * 0.5) and linear[110] == pytest.approx(0.2)
    assert rates("constant", 0.2)[109] == 1.0 and rates("constant", 0.0, warmup=0)[0] == 1.0

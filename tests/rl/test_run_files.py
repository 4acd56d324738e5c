"""A step's metrics do not depend on how its rollouts were dealt out to processes."""

from __future__ import annotations

import random

import pytest
import torch

from core.metrics import joined, values
from engines.rollout import Rollout
from rewards.router import Score
from rl.run_files import seconds_metrics, step_metrics
from vlm.inputs import Encoded


def step(count: int):
    """Rows of two tasks, the second with its own component, a third of the rollouts without a reward."""
    draw = random.Random(0)
    prompt = Encoded(torch.zeros(1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long), engine_ids=(0,))
    rows, rollouts, scores = [], [], []
    for i in range(count):
        task = "math" if i < count // 4 else "grounding"
        length = draw.randrange(1, 20)
        reward = None if draw.random() < 1 / 3 else draw.random()
        components = {"format": draw.random(), "iou": reward} if task == "grounding" else {"math": reward}
        finish = draw.choice(["stop", "length"])
        rollouts.append(Rollout(f"{i}", prompt, (7,) * length, (1,) * length, (0.0,) * length, "", 0, finish))
        rows.append({"id": f"{i}", "task": task})
        scores.append(Score(reward, components, draw.random() < 0.5, None))
    return rows, rollouts, scores


@pytest.mark.parametrize("shares", [(6, 18), (1, 23), (8, 8, 8), (24,)])
def test_metrics_over_processes_are_those_of_one(shares):
    rows, rollouts, scores = step(24)
    parts, start = [], 0
    for share in shares:
        mine = slice(start, start + share)
        parts.append(step_metrics(rows[mine], rollouts[mine], scores[mine]))
        start += share
    together = values(joined(parts))
    assert together == pytest.approx(values(step_metrics(rows, rollouts, scores)), rel=1e-12)
    rewards = [s.reward for s in scores if s.reward is not None]
    assert together["reward/mean"] == pytest.approx(sum(rewards) / len(rewards))
    assert together["rollouts/unscored"] == 24 - len(rewards) > 0
    assert together["tokens/sampled"] == sum(len(r.completion_ids) for r in rollouts)


def test_the_slowest_process_decides_how_long_a_phase_took():
    fast, slow = seconds_metrics({"generate": 1.0}, 2.0), seconds_metrics({"generate": 1.5}, 2.0)
    assert values(joined([fast, slow])) == {"seconds/generate": 1.5, "seconds/rest": 1.0, "seconds/step": 2.0}

"""A step's metrics do not depend on how its groups were dealt out to processes, or to micro-batches."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.metrics import joined, values
from core.score import Score
from engines.rollout import Rollout
from engines.samples import Group, Sample
from rl.advantages import group_advantages
from rl.metrics import group_metrics, sample_metrics, seconds_metrics
from tests.groups import group_of
from tests.two_processes import run
from vlm.inputs import Encoded
from vlm.tiny import build_tiny_vlm

WORKER = Path(__file__).with_name("metrics_worker.py")


def step(count: int) -> list[Group]:
    """Groups of two tasks, the second with its own component, a third of the samples without a reward."""
    draw = random.Random(0)
    prompt = Encoded(torch.zeros(1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long), engine_ids=(0,))
    groups = []
    for i in range(count):
        row = {"id": f"{i}", "task": "math" if i < count // 4 else "grounding"}
        samples = []
        for _ in range(2):
            n = draw.randrange(1, 20)
            reward = None if draw.random() < 1 / 3 else draw.random()
            components = {"format": draw.random(), "iou": reward} if i >= count // 4 else {"math": reward}
            finish = draw.choice(["stop", "length"])
            rollout = Rollout(f"{i}", prompt, (7,) * n, (1,) * n, (0.0,) * n, "", 0, finish)
            samples.append(Sample(row, rollout, Score(reward, components, draw.random() < 0.5)))
        groups.append(Group(tuple(samples)))
    return groups


@pytest.mark.parametrize("shares", [(3, 9), (1, 11), (4, 4, 4), (12,)])
def test_metrics_over_processes_are_those_of_one(shares):
    groups = step(12)
    parts, start = [], 0
    for share in shares:
        parts.append(sample_metrics(groups[start : start + share]))
        start += share
    together = values(joined(parts))
    assert together == pytest.approx(values(sample_metrics(groups)), rel=1e-12)
    samples = [sample for group in groups for sample in group.samples]
    rewards = [s.score.reward for s in samples if s.score.reward is not None]
    assert together["reward/mean"] == pytest.approx(sum(rewards) / len(rewards))
    assert together["rollouts/unscored"] == 24 - len(rewards) > 0
    assert together["tokens/sampled"] == sum(len(s.rollout.completion_ids) for s in samples)


def test_groups_and_advantages_are_also_told_by_task():
    """Of four groups of math one has equal rewards; of three of grounding none, and one is not in the batch."""

    def group(task, rewards):
        prompt = Encoded(torch.zeros(1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long), (0,))
        rollouts = [Rollout("r", prompt, (7,), (1,), (0.0,), "", 0, "stop") for _ in rewards]
        return group_of(rollouts, rewards=rewards, task=task)

    drawn = [group("math", [1.0, 0.0])] * 3 + [group("math", [0.0, 0.0])]
    drawn += [
        group("grounding", [0.5, 0.1]),
        group("grounding", [0.2, None, 0.4]),
        group("grounding", [0.0, 1.0]),
    ]
    batch = group_advantages(drawn[:-1], estimator="no_std")
    found = values(group_metrics(drawn, batch, 1, SimpleNamespace(easy_count=0, left_out_count=0)))
    assert found["groups/zero_signal/math"] == 0.25 and found["groups/zero_signal/grounding"] == 0
    assert found["groups/zero_signal"] == pytest.approx(1 / 7)
    assert found["advantage_scale/math"] == 0.5
    assert found["advantage_scale/grounding"] == pytest.approx((0.2 + 0.2 + 0.1 + 0.1) / 4)


def test_the_slowest_process_decides_how_long_a_phase_took():
    fast, slow = (seconds_metrics({"generate": s, "step": 2.0}) for s in (1.0, 1.5))
    assert values(joined([fast, slow])) == {"seconds/generate": 1.5, "seconds/rest": 1.0, "seconds/step": 2.0}


@pytest.mark.slow
def test_two_real_processes_with_uneven_shares_write_the_metrics_of_one(tmp_path):
    """One process has a single group, the other six, in other micro-batches; loss, entropy, gap and correction included."""
    build_tiny_vlm(tmp_path / "model", ["0 1 2 3 4 5 6 7 8 9 what is it"] * 3, hidden=64, layers=2, seed=1)
    written = []
    for shares in (["7"], ["1", "6"]):
        out = tmp_path / f"{len(shares)}.json"
        run(WORKER, [str(tmp_path / "model"), str(out), *shares], out.with_suffix(".log"), ranks=len(shares))
        written.append(json.loads(out.read_text()))
    one, two = written
    assert two == pytest.approx(one, rel=1e-5, abs=1e-8, nan_ok=True)
    assert {"loss", "entropy", "correction/max", "logprob_gap/ess", "tokens/signal", "reward/sums"} <= set(
        one
    )
    assert one["groups/drawn"] == 7 and one["groups/zero_signal"] == pytest.approx(2 / 7)
    assert 0 < one["tokens/signal"] < 1 and one["rollouts/unscored"] == 7

"""Coefficients of tokens: hand-computed sums over a step of two tasks."""

from __future__ import annotations

import pytest
import torch

from engines.rollout import Rollout
from rl.coefficients import Counts, Objective, added, counted, factors, with_coefficients
from tests.groups import group_of
from vlm.inputs import Encoded

PROMPT = Encoded(torch.zeros(1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long), engine_ids=(0,))


def group(task, masks, advantages, rewards=None):
    rollouts = [
        Rollout(task, PROMPT, (7,) * len(mask), tuple(mask), (0.0,) * len(mask), "", 0, "stop")
        for mask in masks
    ]
    return group_of(rollouts, advantages, rewards=rewards, task=task)


@pytest.fixture
def step():
    """Three prompts: two of math with 4 + 2 and 3 + 1 tokens, one of grounding with 1 + 1, of which one has no reward."""
    return [
        group("math", [[1, 1, 1, 1], [1, 0, 1]], (1.0, -1.0)),
        group("math", [[1, 1, 1], [1]], (), rewards=[0.0, 0.0]),
        group("grounding", [[1], [1]], (), rewards=[1.0, None]),
    ]


COUNTS = {"math": Counts(2, 10, 10), "grounding": Counts(1, 1, 2)}


def test_prompts_and_tokens_are_counted_by_task_over_processes(step):
    assert counted(step) == COUNTS
    assert added([counted(step[:1]), counted(step[1:]), {}]) == COUNTS


def test_every_token_weighs_the_same_by_default_and_a_task_by_its_weight():
    assert factors(COUNTS, "scored", Objective()) == {"math": 1, "grounding": 1}
    assert factors(COUNTS, "scored", Objective(weights={"math": 0.5})) == {"math": 0.5, "grounding": 1}


def test_per_task_a_task_weighs_by_its_prompts():
    """Of a loss that is divided by 11 tokens, math gets 2/3 of 1/10 for each token, grounding 1/3 of 1/1."""
    got = factors(COUNTS, "scored", Objective(per_task=True, weights={"math": 2.0}))
    assert got["math"] / 11 == pytest.approx(2 * 2 / 3 / 10)
    assert got["grounding"] / 11 == pytest.approx(1 / 3)


def test_a_task_without_a_token_has_no_factor_to_divide_by():
    counts = {"math": Counts(1, 4, 4), "chat": Counts(1, 0, 3)}
    assert factors(counts, "scored", Objective(per_task=True)) == {"math": 0.5, "chat": 1.0}


def test_by_default_groups_are_left_as_they_are(step):
    groups, total = with_coefficients(step, COUNTS)
    assert total == 11 and all(a is b for a, b in zip(groups, step, strict=True))


def test_weights_reach_every_token_of_a_task(step):
    groups, total = with_coefficients(step, COUNTS, Objective(weights={"math": 0.5}))
    assert total == 11
    assert [c.tolist() for c in groups[0].coefficients] == [[0.5] * 4, [-0.5] * 3]
    assert groups[1].coefficients == (None, None) == groups[2].coefficients


def test_a_teacher_speaks_of_all_tokens_and_rewards_of_those_with_a_reward(step):
    teacher = [[torch.full((len(r.loss_mask),), 0.1) for r in g.rollouts] for g in step]
    groups, total = with_coefficients(step, COUNTS, Objective(rewards=2.0, teacher=0.5), teacher)
    assert total == 12
    # of rewards 2 A / 11, of the teacher 0.5 D / 12
    assert groups[0].coefficients[0].tolist() == pytest.approx([12 * (2 / 11 + 0.5 * 0.1 / 12)] * 4)
    assert groups[0].coefficients[1].tolist() == pytest.approx([12 * (-2 / 11 + 0.5 * 0.1 / 12)] * 3)
    assert groups[2].coefficients[1].tolist() == pytest.approx([12 * 0.5 * 0.1 / 12])

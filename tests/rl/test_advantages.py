"""Advantages: values by hand, and who leaves."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.rollout import Rollout
from rl.advantages import TaskStd, by_task_std, group_advantages, group_std, has_signal, no_std
from vlm.inputs import Encoded

PROMPT = Encoded(torch.arange(3), torch.arange(3).expand(3, -1), engine_ids=(0, 1, 2))


def rollouts(*rows: tuple[str, int]) -> list[Rollout]:
    return [Rollout(r, PROMPT, (5,) * n, (1,) * n, (0.0,) * n, "", 0, "stop") for r, n in rows]


def test_group_std_divides_by_the_sample_standard_deviation():
    assert group_std([1.0, 0.0, 0.0, 1.0]) == pytest.approx([0.8660254, -0.8660254, -0.8660254, 0.8660254])
    assert group_std([1.0, 0.0]) == pytest.approx([2**-0.5, -(2**-0.5)])
    torch.testing.assert_close(
        torch.tensor(group_std([0.1, 0.7, 0.4])),
        (torch.tensor([0.1, 0.7, 0.4]) - 0.4) / torch.tensor([0.1, 0.7, 0.4]).std(),
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=16).filter(lambda r: len(set(r)) > 1))
def test_advantages_sum_to_zero_have_unit_std_and_keep_the_order(rewards):
    advantages = group_std(rewards)
    assert sum(advantages) == pytest.approx(0, abs=1e-6 * len(rewards))
    assert torch.tensor(advantages, dtype=torch.float64).std() == pytest.approx(1, rel=1e-6)
    for (r, a), (s, b) in itertools.pairwise(sorted(zip(rewards, advantages, strict=True))):
        assert r == s or a <= b
    assert max(no_std(rewards)) > 0 > min(no_std(rewards))


def test_scale_and_offset_of_rewards_do_not_matter_even_when_tiny():
    expected = group_std([0.0, 1.0, 1.0])
    assert group_std([0.0, 1e-200, 1e-200]) == pytest.approx(expected)
    assert group_std([5.0, 7.0, 7.0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "rewards", [[0.1 + 0.2] * 3, [1.0, None, 1.0], [None, 0.4], [None, None], [0.0, -0.0]]
)
def test_groups_with_equal_rewards_or_fewer_than_two_have_no_signal(rewards):
    assert not has_signal(rewards)


def test_equality_is_exact_not_approximate():
    assert has_signal([0.3, 0.1 + 0.2])


def test_groups_are_formed_by_row_and_zero_signal_groups_leave_whole():
    made = rollouts(("a", 3), ("b", 4), ("a", 5), ("b", 2), ("c", 6), ("c", 7), ("c", 1))
    rewards = [1.0, 0.5, 0.0, 0.5, 1.0, None, 0.0]
    groups, counts = group_advantages(made, rewards, ["t"] * 7)
    assert [g.rollouts for g in groups] == [(made[0], made[2]), (made[4], made[6])]
    assert groups[1].rewards == (1.0, 0.0)
    assert groups[1].advantages == pytest.approx((2**-0.5, -(2**-0.5)))
    # tokens: those of b, which leaves, count; those of the unscored rollout of c do not
    assert (counts.groups, counts.zero_signal, counts.unscored) == (3, 1, 1)
    assert (counts.tokens, counts.signal_tokens) == (3 + 5 + 4 + 2 + 6 + 1, 3 + 5 + 6 + 1)


def test_no_std_only_centres():
    groups, _ = group_advantages(rollouts(("a", 1), ("a", 1)), [1.0, 0.5], ["t", "t"], estimator="no_std")
    assert groups[0].advantages == (0.25, -0.25)


def test_task_std_divides_each_task_by_its_own_spread():
    made = rollouts(("a", 1), ("a", 1), ("b", 1), ("b", 1))
    rewards, tasks = [0.0, 1.0, 0.50, 0.54], ["math", "math", "grounding", "grounding"]
    task_std = TaskStd()
    task_std.update(tasks, rewards)
    groups, _ = group_advantages(made, rewards, tasks, estimator="task_std", task_std=task_std)
    assert groups[0].advantages == pytest.approx((-1, 1))
    assert groups[1].advantages == pytest.approx((-1, 1))
    # a group of small spread stays small beside one of large spread of the same task
    rewards = [0.0, 1.0, 0.50, 0.54]
    task_std = TaskStd()
    task_std.update(["t"] * 4, rewards)
    groups, _ = group_advantages(made, rewards, ["t"] * 4, estimator="task_std", task_std=task_std)
    assert groups[1].advantages[1] == pytest.approx(0.04 * groups[0].advantages[1])


def test_task_std_is_the_exponential_average_of_the_moments():
    steps, momentum = [[0.0, 1.0], [0.5, 0.7, 0.9], [0.2, 0.2]], 0.9
    task_std = TaskStd(momentum)
    first = second = 0.0
    for rewards in steps:
        task_std.update(["t"] * len(rewards), rewards)
        first = momentum * first + (1 - momentum) * sum(rewards) / len(rewards)
        second = momentum * second + (1 - momentum) * sum(r * r for r in rewards) / len(rewards)
    correction = 1 - momentum ** len(steps)
    assert task_std["t"] == pytest.approx((second / correction - (first / correction) ** 2) ** 0.5)
    restored = TaskStd(momentum)
    restored.load_state_dict(task_std.state_dict())
    assert restored["t"] == task_std["t"]
    with pytest.raises(KeyError, match="unseen"):
        task_std["unseen"]


def test_a_rare_success_is_clipped_where_the_task_has_a_small_spread():
    assert by_task_std([1.0, 0.0, 0.0, 0.0], 0.1) == [5.0, -2.5, -2.5, -2.5]
    assert by_task_std([-1.0, 0.0, 0.0, 0.0], 0.1) == [-5.0, 2.5, 2.5, 2.5]


def test_rewards_that_are_not_finite_are_refused_by_row():
    with pytest.raises(ValueError, match="row 'a': expected finite rewards"):
        group_advantages(rollouts(("a", 1), ("a", 1)), [1.0, float("nan")], ["t", "t"])
    with pytest.raises(ValueError, match="as many rewards"):
        group_advantages(rollouts(("a", 1)), [1.0, 2.0], ["t"])

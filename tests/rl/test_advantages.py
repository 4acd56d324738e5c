"""Advantages: values by hand, and who leaves."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.rollout import Rollout
from engines.samples import Group
from rl.advantages import (
    TaskStd,
    baseline_rewards,
    by_task_std,
    group_advantages,
    group_std,
    has_signal,
    no_std,
    scored_tokens,
)
from tests.groups import group_of, with_rollouts
from vlm.inputs import Encoded

PROMPT = Encoded(torch.arange(3), torch.arange(3).expand(3, -1), engine_ids=(0, 1, 2))


def group(
    rewards: list[float | None], lengths: list[int] | None = None, row: str = "a", task: str = "t"
) -> Group:
    rollouts = [
        Rollout(row, PROMPT, (5,) * n, (1,) * n, (0.0,) * n, "", 0, "stop")
        for n in lengths or [1] * len(rewards)
    ]
    return group_of(rollouts, rewards=rewards, task=task)


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


def test_zero_signal_groups_and_samples_without_a_reward_get_no_advantage():
    drawn = [
        group([1.0, 0.0], [3, 5]),
        group([0.5, 0.5], [4, 2], "b"),
        group([1.0, None, 0.0], [6, 7, 1], "c"),
    ]
    a, b, c = group_advantages(drawn)
    assert a.advantages == pytest.approx((2**-0.5, -(2**-0.5)))
    assert b.advantages == (None, None)
    assert c.advantages[0] == pytest.approx(2**-0.5) and c.advantages[1] is None
    assert [g.samples for g in (a, b, c)] == [g.samples for g in drawn]
    # the tokens of b, which has no signal, count in the normaliser; those of the sample of c without a reward do not
    assert [scored_tokens(g) for g in (a, b, c)] == [3 + 5, 4 + 2, 6 + 1]


def test_no_std_only_centres():
    (one,) = group_advantages([group([1.0, 0.5])], estimator="no_std")
    assert one.advantages == (0.25, -0.25)


def test_the_length_baseline_weighs_rewards_by_tokens():
    """b = (3 x 1 + 1 x 0) / 4 = 3/4, and the sum of |o_i| A_i over the group is 0, whatever divides."""
    made = group([1.0, 0.0], [3, 1])
    (one,) = group_advantages([made], estimator="no_std", baseline="length")
    assert one.advantages == pytest.approx((0.25, -0.75))
    (one,) = group_advantages([made], baseline="length")
    assert one.advantages == pytest.approx((0.25 / 0.5**0.5, -0.75 / 0.5**0.5))
    task_std = TaskStd()
    task_std.update(["t", "t"], [1.0, 0.0])
    (one,) = group_advantages([made], estimator="task_std", baseline="length", task_std=task_std)
    assert one.advantages == pytest.approx((0.5, -1.5))
    for estimator in ("no_std", "group_std"):
        drawn = group([0.2, None, 0.9, 0.4], [5, 9, 2, 11])
        (one,) = group_advantages([drawn], estimator=estimator, baseline="length")
        assert one.advantages[1] is None
        tokens = [sum(r.loss_mask) for r in drawn.rollouts]
        pushes = [n * a for n, a in zip(tokens, one.advantages, strict=True) if a is not None]
        assert sum(pushes) == pytest.approx(0, abs=1e-12)


def test_the_length_baseline_of_equal_lengths_is_the_mean():
    made = group([0.3, 0.8, 0.1], [4, 4, 4])
    plain, by_length = (group_advantages([made], baseline=b)[0].advantages for b in ("mean", "length"))
    assert by_length == pytest.approx(plain)
    assert no_std([1.0, 0.0], [0, 0]) == no_std([1.0, 0.0])


def test_task_std_divides_each_task_by_its_own_spread():
    rewards, tasks = [0.0, 1.0, 0.50, 0.54], ["math", "math", "grounding", "grounding"]
    task_std = TaskStd()
    task_std.update(tasks, rewards)
    drawn = [group(rewards[:2], task="math"), group(rewards[2:], task="grounding")]
    math, grounding = group_advantages(drawn, estimator="task_std", task_std=task_std)
    assert math.advantages == pytest.approx((-1, 1))
    assert grounding.advantages == pytest.approx((-1, 1))
    # a group of small spread stays small beside one of large spread of the same task
    task_std = TaskStd()
    task_std.update(["t"] * 4, rewards)
    drawn = [group(rewards[:2]), group(rewards[2:])]
    wide, narrow = group_advantages(drawn, estimator="task_std", task_std=task_std)
    assert narrow.advantages[1] == pytest.approx(0.04 * wide.advantages[1])


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
        group_advantages([group([1.0, float("nan")])])


def episodes(rewards, over, lengths):
    made = group(rewards, lengths)
    finished = [
        replace(r, finish="over_turn", over_turn="turns") if i in over else r
        for i, r in enumerate(made.rollouts)
    ]
    return with_rollouts(made, finished)


# rewards 1, 0, 1, 0 and an episode over its budget with 0; lengths 2, 3, 4, 5, 6
BY_HAND = {
    # of the four: mean 1/2, std sqrt(1/3)
    "completed": ([0.8660254, -0.8660254, 0.8660254, -0.8660254, None], 2 + 3 + 4 + 5),
    # of the five: mean 2/5, std sqrt(3/10)
    "loss_only": ([1.0954451, -0.7302967, 1.0954451, -0.7302967, None], 2 + 3 + 4 + 5 + 6),
    "none": ([1.0954451, -0.7302967, 1.0954451, -0.7302967, -0.7302967], 2 + 3 + 4 + 5 + 6),
}


@pytest.mark.parametrize("form", BY_HAND)
def test_episodes_over_their_budget_by_each_of_the_three_forms(form):
    made = episodes([1.0, 0.0, 1.0, 0.0, 0.0], {4}, [2, 3, 4, 5, 6])
    advantages, tokens = BY_HAND[form]
    (result,) = group_advantages([made], over_turn=form)
    assert [None if a is None else pytest.approx(a) for a in advantages] == list(result.advantages)
    assert scored_tokens(made, form) == tokens


@pytest.mark.parametrize(
    ("rewards", "over", "signal"),
    [
        ([1.0, 1.0, 0.0], {2}, {"completed": False, "loss_only": True, "none": True}),
        ([1.0, 0.0, 0.0], {0, 1, 2}, {"completed": False, "loss_only": True, "none": True}),
        ([1.0, 0.0, None], {1}, {"completed": False, "loss_only": True, "none": True}),
        ([1.0, 0.0, 0.5], set(), {"completed": True, "loss_only": True, "none": True}),
    ],
)
def test_whether_a_group_has_a_signal_depends_on_who_makes_its_baseline(rewards, over, signal):
    made = episodes(rewards, over, [2, 3, 4])
    for form, expected in signal.items():
        assert has_signal(baseline_rewards(made, form)) == expected
        (result,) = group_advantages([made], over_turn=form)
        trained = [i for i, a in enumerate(result.advantages) if a is not None]
        left_out = set() if form == "none" else over
        scored = [i for i, r in enumerate(rewards) if r is not None]
        assert trained == ([i for i in scored if i not in left_out] if expected else [])


def test_groups_without_episodes_are_the_same_under_all_forms():
    made = group([0.2, 0.9, None, 0.4], [1, 2, 3, 4])
    results = [group_advantages([made], over_turn=form)[0].advantages for form in BY_HAND]
    assert results[0] == results[1] == results[2]
    assert {scored_tokens(made, form) for form in BY_HAND} == {7}

"""Groups from rollouts, for tests of what comes after scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.score import Score
from engines.rollout import Rollout
from engines.samples import Group, Sample


def group_of(
    rollouts: Sequence[Rollout],
    advantages: Sequence[float | None] = (),
    *,
    rewards: Sequence[float | None] | None = None,
    task: str = "task",
) -> Group:
    """rewards: the advantages, unless given."""
    row = {"id": rollouts[0].row_id, "task": task}
    given = advantages if rewards is None else rewards
    samples = [Sample(row, rollout, Score(r, {}, True)) for rollout, r in zip(rollouts, given, strict=True)]
    return Group(tuple(samples), tuple(advantages))


def with_rollouts(group: Group, rollouts: Sequence[Rollout]) -> Group:
    """The group with other rollouts in the places of its own."""
    samples = zip(group.samples, rollouts, strict=True)
    return replace(group, samples=tuple(replace(sample, rollout=rollout) for sample, rollout in samples))

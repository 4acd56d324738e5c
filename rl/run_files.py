"""The files of a run: one line per step in metrics.jsonl, one line per rollout in rollouts.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.utils import gather_object

from core.files.disk import disk_explained
from core.files.jsonl import append
from core.metrics import Metric
from core.processes.exchange import gathered
from engines.samples import Group, Sample, rollout_record
from rewards.hacking import Watched, hacking_metrics
from rl.metrics import sample_metrics, seconds_metrics
from rl.run import Run


def log(
    run: Run, groups: Sequence[Group], metrics: Mapping[str, Metric], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Write the step to metrics.jsonl and rollouts.jsonl (main process) and to trackers; returns the line of metrics.jsonl.

    groups: all that were sampled on this process. metrics: this process's, of advantages and update. seconds: by phase.
    All processes must call it.
    """
    mine = dict(metrics) | sample_metrics(groups) | seconds_metrics(seconds) | run.scorer.pop_metrics()
    if (hacking := run.config.checks.hacking) is not None:
        mine |= hacking_metrics((watched(sample) for group in groups for sample in group.samples), hacking)
    record: dict[str, Any] = {"step": run.step, **gathered(mine)}
    record |= {
        "tokens_per_second": record["tokens/sampled"] / record["seconds/generate"],
        **_share_of_step(record, "interference"),
        "policy_version": run.version,
        "processes": run.ranks,
        "parallel": run.accelerator.distributed_type.value,
    }
    rollouts = gather_object([line for group in groups for line in rollout_lines(run.step, group)])
    if run.accelerator.is_main_process:
        for name, lines in (("metrics.jsonl", [record]), ("rollouts.jsonl", rollouts)):
            with disk_explained(run.out / name, f"; the run stopped after step {run.step - 1}"):
                append(run.out / name, lines)
    if run.config.report_to:
        run.accelerator.log({k: v for k, v in record.items() if isinstance(v, float)}, step=run.step)
    return record


def watched(sample: Sample) -> Watched:
    """What the watch for reward hacking sees of a sample."""
    rollout = sample.rollout
    return Watched(sample.row["task"], sample.score.components, sum(rollout.loss_mask), rollout.text)


def rollout_lines(step: int, group: Group) -> list[dict[str, Any]]:
    """The lines of a group in rollouts.jsonl."""
    return [
        {
            "step": step,
            **rollout_record(sample),
            "advantage": advantage,
            "policy_version": sample.rollout.policy_version,
        }
        for sample, advantage in zip(group.samples, group.advantages, strict=True)
    ]


def _share_of_step(record: Mapping[str, Any], what: str) -> dict[str, float]:
    """`<what>/percent` of the step's time, where `<what>/seconds` was measured."""
    seconds = record.get(f"{what}/seconds")
    return {} if seconds is None else {f"{what}/percent": 100 * seconds / record["seconds/step"]}

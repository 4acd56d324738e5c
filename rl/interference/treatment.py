"""The step's gradient from those of its tasks: compared on schedule, projected where that is asked for."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from accelerate import Accelerator
from accelerate.utils import gather_object

from core.metrics import Metric, largest, same
from core.processes.exchange import timed
from engines.samples import Group
from rl.interference.config import InterferenceConfig
from rl.interference.geometry import cosine_metrics, pcgrad
from rl.interference.gradients import WHOLE, TaskGradients
from rl.update.packing import PackedBatch, fill, pack


def batches_by_task(
    accelerator: Accelerator, groups: Sequence[Group], max_tokens: int
) -> Iterator[tuple[str, list[PackedBatch]]]:
    """The step's micro-batches, task by task: the tasks that any process trains on, and as many micro-batches of each on all
    processes."""
    tasks = dict.fromkeys(group.row["task"] for group in groups)
    mine = {task: pack([g for g in groups if g.row["task"] == task], max_tokens=max_tokens) for task in tasks}
    counts = gather_object([{task: len(batches) for task, batches in mine.items() if batches}])
    for task in sorted({task for one in counts for task in one}):
        yield task, fill(mine.get(task, []), max(one.get(task, 0) for one in counts))


def treat(
    gradients: TaskGradients, config: InterferenceConfig, step: int, seed: int, *, skip: bool
) -> dict[str, Metric]:
    """Leave the step's gradient in the parameters; returns what is logged. All processes must call it.

    step: from 1. seed: of the order in which PCGrad takes the other tasks; the same on all processes. skip: leave a gradient
    that is not finite, so that the step is left out.
    """
    measured, projected = config.measured(step), "pcgrad" in config.remedies
    with timed(gradients.seconds, "compare"):
        grams = gradients.grams(by_block=measured)
    metrics: dict[str, Metric] = {}
    coefficients = [1.0] * len(gradients.tasks)
    if projected:
        coefficients = pcgrad(grams[WHOLE], orders(len(coefficients), seed)).tolist()
        metrics |= {f"pcgrad/{t}": same(c) for t, c in zip(gradients.tasks, coefficients, strict=True)}
    if measured:
        metrics |= cosine_metrics(gradients.tasks, grams)
    metrics["interference/seconds"] = largest(sum(gradients.seconds.values()))
    gradients.put_back([math.nan] * len(coefficients) if skip else coefficients)
    return metrics


def orders(count: int, seed: int) -> list[list[int]]:
    """For each of `count` tasks a random order of all of them."""
    draw = random.Random(seed)
    return [draw.sample(range(count), count) for _ in range(count)]

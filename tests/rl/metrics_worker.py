"""One process of several that compute the metrics of a step on their share of its groups.

    python metrics_worker.py MODEL_FOLDER OUT_FILE SHARE…

SHARE: how many of the groups each process has. Process 0 writes the metrics over all processes to OUT_FILE.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

from accelerate import PartialState

from core.processes.exchange import gathered
from core.score import Score
from engines.rollout import Rollout
from engines.samples import Group, Sample
from rl.advantages import group_advantages, scored_tokens
from rl.checks import GapCheck, GapLimits
from rl.metrics import UpdateMetrics, group_metrics, sample_metrics, seconds_metrics
from rl.step import gap_over_processes
from rl.update.correction import Correction
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from rl.update.rounding import engine_gap
from vlm.inputs import encode
from vlm.load import load_model, load_processor

GROUPS, SIZE = 7, 4


def drawn_groups(folder: Path) -> list[Group]:
    """Groups of two tasks of different lengths: some without a signal, some samples without a reward."""
    processor = load_processor(folder)
    groups = []
    for number in range(GROUPS):
        draw = random.Random(number)
        prompt = encode(processor, [{"role": "user", "content": f"what is {number}"}])
        row = {"id": f"r{number}", "task": "sums" if number < 2 else "digits"}
        samples = []
        for place in range(SIZE):
            n = draw.randrange(1, 6 + 4 * number)
            logprobs = tuple(-3 * draw.random() for _ in range(n))
            ids = tuple(draw.randrange(20, 90) for _ in range(n))
            rollout = Rollout(
                row["id"], prompt, ids, (1,) * n, logprobs, "", 0, draw.choice(["stop", "length"])
            )
            reward = {0: 0.0, 3: 1.0}.get(number, draw.random())
            if place == number % 3:
                reward = None
            samples.append(Sample(row, rollout, Score(reward, {"one": reward}, draw.random() < 0.5)))
        groups.append(Group(tuple(samples)))
    return groups


def step_metrics(folder: Path, mine: list[Group], total_tokens: int) -> dict[str, float]:
    state = PartialState()
    groups = group_advantages(mine)
    model, correction = load_model(folder), Correction("token")
    update = UpdateMetrics(state.num_processes, correction)
    for batch in pack(groups, max_tokens=40):
        ranks = state.num_processes
        update.add(
            batch,
            policy_gradient(model, batch, total_tokens=total_tokens, ranks=ranks, correction=correction),
        )
    gap = gap_over_processes(engine_gap(update.batches, update.logprobs))
    sampler = SimpleNamespace(easy_count=2, left_out_count=1)
    metrics = group_metrics(mine, groups, 1, sampler) | sample_metrics(groups) | update.metrics
    metrics |= GapCheck(GapLimits()).metrics(gap) | seconds_metrics({"generate": 1.0, "step": 2.0})
    return gathered(metrics)


def main(folder: str, out: str, *shares: str) -> None:
    state = PartialState(**({"backend": "gloo", "cpu": True} if len(shares) > 1 else {"cpu": True}))
    assert state.num_processes == len(shares)
    groups = drawn_groups(Path(folder))
    first = sum(map(int, shares[: state.process_index]))
    mine = groups[first : first + int(shares[state.process_index])]
    total = sum(map(scored_tokens, groups))
    metrics = step_metrics(Path(folder), mine, total)
    if state.is_main_process:
        Path(out).write_text(json.dumps(metrics))


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # without the interpreter's own clean-up, in which gloo's threads have been seen to hang

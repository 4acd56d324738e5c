"""Fully on-policy GRPO: the loop.

Every step samples from the current weights and takes exactly one gradient there, so there is no importance ratio, no
clipping, no KL term and no second forward (MiMo-VL, arXiv 2506.03569, §3.3; docs/algorithm.md):

    rollouts  from the engine, by weights of version v
    rewards   from the router, by task, as rollouts finish
    groups    of rollouts of one prompt; those without a signal leave
    update    one gradient over all groups, each prompt and its images computed once
    sync      the engine gets version v + 1; its weights are compared with the trainer's

On a laptop:     accelerate launch grpo.py --config launch/configs/….yaml
On eight GPUs:   bash launch/grpo_8xh100.sh
"""

from __future__ import annotations

import time
from contextlib import closing
from math import isfinite
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from tqdm import tqdm

import vlm  # noqa: F401  adapts torch's companions before transformers imports them
from core.files.disk import disk_explained
from core.files.jsonl import append
from core.files.lock import locked
from core.files.run_folder import begin
from core.processes.exchange import collected, gathered, largest, seed_of, summed, timed
from core.processes.ranks import say
from core.processes.stop import StopRequested
from core.processes.watchdog import renew
from core.rows import Row
from core.trackers import check_installed
from core.training.optimizer import learning_rate
from core.training.step import accumulating, apply_gradient, loss_without_step, set_learning_rate
from engines.engine import OnRollout
from engines.rollout import Request, Rollout, Sampling
from engines.weights import FingerprintedWeights
from rewards.router import Score
from rl.advantages import Group, group_advantages
from rl.checkpoints import record_of
from rl.checks import check_fingerprint, check_gap, check_sampled
from rl.config import GRPOConfig
from rl.prompts.drawing import draw
from rl.prompts.sampling import Batch, outcome_of
from rl.run import Run, finish, leave, phase, read, save, start, state_of, stop_if_asked
from rl.run_files import rollout_record, seconds_metrics, step_metrics
from rl.setup import correction, join_processes
from rl.step import StepSums, sampled_gap
from rl.update.packing import fill, pack
from rl.update.policy_gradient import policy_gradient
from vlm.weights import named_weights


def train(config: GRPOConfig) -> Path:
    """Run to the last step and return the folder of the final checkpoint (model and processor); a run that has nothing
    left to do is left as it is. SIGTERM and Ctrl-C save what is done and end in SystemExit."""
    check_installed(config.report_to)
    accelerator = join_processes(config)
    out = Path(config.output_dir)
    rows, bad_rows, router = read(config, accelerator)
    with locked(out):
        record = record_of(config, accelerator, rows)
        begun = begin(out, record, config.resume, ("steps",), say)
        if begun.finished is not None:
            router.close()
            return begun.finished
        with closing(start(config, accelerator, rows, bad_rows, router, record, begun.checkpoint)) as run:
            with phase(run, "sync"):
                sync(run)
            with run.stop:
                take_steps(run)
            return finish(run)


def take_steps(run: Run) -> None:
    """The loop, from where the run stands to its last step."""
    config, out = run.config, run.out
    bar = tqdm(
        total=config.steps,
        initial=run.step,
        desc="grpo",
        disable=not run.accelerator.is_main_process,
        unit="step",
    )
    try:
        while run.step < config.steps:
            seconds: dict[str, float] = {}
            began = time.perf_counter()

            rows, rollouts, scores, batch = sample(run, seconds)
            with phase(run, "advantages"):
                groups, total_tokens, metrics = advantages(run, rows, rollouts, scores, batch)
            with phase(run, "update", seconds):
                metrics |= update(run, groups, rollouts, total_tokens)
            with phase(run, "sync", seconds):
                sync(run)
            run.step += 1

            metrics |= {"step": run.step}
            total = time.perf_counter() - began
            with phase(run, "log"):
                log(run, out, metrics, seconds, total, rows, rollouts, scores, groups, bar)
            run.state = state_of(run)
            if run.step % config.save_every == 0 or run.step == config.steps:
                save(run)
            with phase(run, "agree on going on"):
                stop_if_asked(run)
    except StopRequested:
        leave(run)
    finally:
        bar.close()


def sample(run: Run, seconds: dict[str, float]) -> tuple[list[Row], list[Rollout], list[Score], Batch]:
    """Rollouts of this step's prompts with their rows and scores; with dynamic sampling, of as many rounds of prompts as
    it takes to fill the batch with groups that have a signal. All are by the present weights."""
    rows: list[Row] = []
    rollouts: list[Rollout] = []
    scores: list[Score] = []
    size = run.config.rollout.completions_per_prompt
    while run.sampler.wanted:
        with phase(run, "draw prompts"), timed(seconds, "generate"):
            mine, prompts = draw(run.sampler, run.accelerator, run.processor, run.config)
        repeated = [row for row in mine for _ in range(size)]
        with run.scorer.round(repeated) as scoring:
            with phase(run, "generate", seconds):
                try:
                    new = generate(run, prompts, scoring.add, already=len(rollouts))
                except StopRequested:
                    pass  # the other processes are still generating: all leave together, at the next line
                stop_if_asked(run)
                check_sampled(new, run.version)
            with phase(run, "reward", seconds):  # of those that finished early it goes on already
                verdicts = scoring.finish()
                stop_if_asked(run)
        rewards = [verdict.reward for verdict in verdicts]
        outcomes = [outcome_of(rewards[i : i + size]) for i in range(0, len(rewards), size)]
        with phase(run, "exchange outcomes"):
            run.sampler.accept(collected(outcomes, run.accelerator))
        rows, rollouts, scores = rows + repeated, rollouts + new, scores + verdicts
    return rows, rollouts, scores, run.sampler.finish()


def generate(run: Run, requests: list[Request], on_rollout: OnRollout, *, already: int = 0) -> list[Rollout]:
    """The rollouts of each request, next to each other; `on_rollout` is told of each as it finishes. already: rollouts that
    this step has, for fresh random numbers. Raises StopRequested when this process is asked to stop."""

    def finished(place: int, rollout: Rollout) -> None:
        if run.stop.signum:
            raise StopRequested
        on_rollout(place, rollout)

    config = run.config.rollout
    seed = seed_of(run.config.seed, run.step, run.accelerator.process_index, already)
    return run.engine.generate(requests, Sampling(config.temperature, config.max_tokens, seed), finished)


def advantages(
    run: Run, rows: list[Row], rollouts: list[Rollout], scores: list[Score], batch: Batch
) -> tuple[list[Group], int, dict[str, float]]:
    """Groups with a signal on this process, trained tokens on all of them, and what is to be logged about both."""
    rewards, tasks = [s.reward for s in scores], [row["task"] for row in rows]
    if run.config.advantage == "task_std":
        run.task_std.update(gather_object(tasks), gather_object(rewards))
    chosen = in_batch(run, batch, len(rollouts))
    groups, counts = group_advantages(
        [rollouts[i] for i in chosen],
        [rewards[i] for i in chosen],
        [tasks[i] for i in chosen],
        estimator=run.config.advantage,
        task_std=run.task_std,
    )
    total = summed(run.accelerator, [counts.groups, counts.zero_signal, counts.tokens, counts.signal_tokens])
    metrics = {
        "groups/drawn": float(batch.drawn),
        "groups/rounds": float(batch.rounds),
        "groups/zero_signal": (batch.zero_signal + batch.solved) / batch.drawn,
        "groups/solved": batch.solved / batch.drawn,
        "groups/easy_pool": float(run.sampler.easy_count),
        "rows/left_out": float(run.sampler.left_out_count),
        "tokens/signal": total[3] / max(1, total[2]),
    }
    return groups, int(total[2]), metrics


def in_batch(run: Run, batch: Batch, count: int) -> list[int]:
    """Which of this process's rollouts are of the step's batch: all, or with dynamic sampling the kept groups' alone."""
    if not run.sampler.dynamic:
        return list(range(count))
    size = run.config.rollout.completions_per_prompt
    # every round deals out a multiple of the number of processes, so the n-th prompt is always process n mod ranks's
    mine = [p // run.ranks for p in batch.kept if p % run.ranks == run.accelerator.process_index]
    return [group * size + i for group in mine for i in range(size)]


def update(run: Run, groups: list[Group], rollouts: list[Rollout], total_tokens: int) -> dict[str, float]:
    """One gradient over all groups of the step, if any has a signal; the gap is checked before it is applied.

    Without a signal the gap is checked on a few of the rollouts: an engine that is broken altogether samples nothing but
    failures. A step whose learning rate, loss or gradient is not finite is skipped by all processes.
    """
    run.engine.sleep()
    config, accelerator = run.config, run.accelerator
    batches = pack(groups, max_tokens=config.max_tokens_per_microbatch)
    batches = fill(batches, int(largest(run.accelerator, len(batches))))
    rate = learning_rate(config.optimizer, run.step, config.steps)
    set_learning_rate(run.optimizer, rate)
    metrics = {"learning_rate": rate, "steps/skipped": 0.0}
    options: dict[str, Any] = {
        "temperature": config.rollout.temperature,
        "suppressed_ids": run.suppressed,
        "media": run.media,
    }
    if run.gap.floor is None or not batches:
        gap = sampled_gap(accelerator, run.policy, run.gap, rollouts, config.checks.sample_tokens, options)
    if (
        not batches
    ):  # no process has a group with a signal: the gradient is exactly zero, and no step is taken
        check_gap(gap, run.gap.limits)
        return metrics | run.gap.metrics(gap)

    sums, weights = StepSums(), correction(config)
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        renew(f"micro-batch {i + 1} of {len(batches)}")
        with accumulating(accelerator, run.policy, last):
            out = policy_gradient(
                run.policy, batch, total_tokens=total_tokens, ranks=run.ranks, correction=weights, **options
            )
            sums.add(batch, out)
            loss = out.loss
            if last:
                gap, means = sums.over_processes(accelerator)
                if isfinite(means["loss"]) and isfinite(rate):
                    run.gap.check(gap, lambda: sums.rounding(accelerator, run.policy, options))
                else:
                    loss = loss_without_step(loss)
            if loss.requires_grad:  # not if the vision tower trains alone, in one process, on text
                accelerator.backward(loss)
    renew("optimizer step")
    norm = apply_gradient(accelerator, run.optimizer, config.optimizer.max_grad_norm)

    numbers = {"learning rate": rate, "loss": means["loss"], "gradient norm": norm}
    if skipped := run.skipped.look(run.step + 1, numbers):
        say(skipped)
        metrics["steps/skipped"] = 1.0
    else:
        run.version += 1
    metrics |= means | {"grad_norm": norm} | run.gap.metrics(gap)
    return metrics if weights is None else metrics | sums.weights(accelerator, weights)


def sync(run: Run) -> None:
    """Bring the engine to the policy's version, and compare what it holds with what the trainer holds."""
    weights = FingerprintedWeights(named_weights(run.accelerator.unwrap_model(run.policy)))
    run.engine.sync(weights, run.version)
    check_fingerprint(run.engine.fingerprint(), weights.fingerprint)


def log(
    run: Run,
    out: Path,
    metrics: dict[str, Any],
    seconds: dict[str, float],
    total: float,
    rows: list[Row],
    rollouts: list[Rollout],
    scores: list[Score],
    groups: list[Group],
    bar: tqdm,
) -> None:
    """Write the step to metrics.jsonl and rollouts.jsonl (main process), to trackers, and to the progress bar."""
    by_rollout = {id(r): a for g in groups for r, a in zip(g.rollouts, g.advantages, strict=True)}
    records = [
        rollout_record(run.step, row, rollout, score, by_rollout.get(id(rollout)))
        for row, rollout, score in zip(rows, rollouts, scores, strict=True)
    ]
    mine = step_metrics(rows, rollouts, scores) | seconds_metrics(seconds, total) | run.scorer.pop_metrics()
    metrics |= gathered(mine)
    metrics |= {
        "tokens_per_second": metrics["tokens/sampled"] / metrics["seconds/generate"],
        "policy_version": run.version,
        "processes": run.ranks,
        "parallel": run.accelerator.distributed_type.value,
    }
    records = gather_object(records)
    if run.accelerator.is_main_process:
        for name, lines in (("metrics.jsonl", [metrics]), ("rollouts.jsonl", records)):
            with disk_explained(out / name, f"; the run stopped after step {run.step - 1}"):
                append(out / name, lines)
    if run.config.report_to:
        run.accelerator.log({k: v for k, v in metrics.items() if isinstance(v, float)}, step=run.step)
    bar.set_postfix(reward=f"{metrics.get('reward/mean', float('nan')):.3f}", refresh=False)
    bar.update()

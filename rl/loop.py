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

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from tqdm import tqdm

import vlm  # noqa: F401  adapts torch's companions before transformers imports them
from core.finite import SkippedSteps
from core.jsonl import append, keep_until
from core.trackers import check_installed, flat
from rewards.router import Router, Score
from rl.advantages import Group, TaskStd, group_advantages
from rl.checkpoints import checkpoints, find_resume, load_checkpoint, save_checkpoint, save_model
from rl.checks import GapCheck, check_fingerprint, check_gap, check_sampled
from rl.config import GRPOConfig
from rl.drawing import draw, look_before
from rl.packing import fill, pack
from rl.processes import collected, gathered_means, largest, seed_of, summed, timed
from rl.rollouts.config import build_engine
from rl.rollouts.engine import Engine, OnRollout
from rl.rollouts.tokens import suppressed_token_ids
from rl.rollouts.types import Request, Rollout, Sampling
from rl.run_files import rollout_record, step_metrics
from rl.sampling import Batch, PromptSampler, outcome_of
from rl.scoring import Scorer
from rl.setup import (
    build_policy,
    gap_limits,
    join_processes,
    learning_rate,
    optimizer_for,
    prepare,
)
from rl.step import StepSums, apply_gradient, loss_without_step, sampled_gap
from rl.update import policy_gradient
from rl.weights import FingerprintedWeights, named_weights
from vlm.rows import Row, read_rows


@dataclass
class Run:
    """Everything the loop holds on to. version: of the policy's weights, raised by every optimizer step."""

    config: GRPOConfig
    accelerator: Accelerator
    processor: Any
    policy: torch.nn.Module
    optimizer: Any
    engine: Engine
    scorer: Scorer
    sampler: PromptSampler
    suppressed: tuple[int, ...]
    media: tuple[str, ...]
    skipped: SkippedSteps
    gap: GapCheck
    task_std: TaskStd = field(default_factory=TaskStd)
    step: int = 0
    version: int = 0

    @property
    def ranks(self) -> int:
        return self.accelerator.num_processes


def train(config: GRPOConfig) -> Path:
    """Run to the last step and return the folder of the final checkpoint (model and processor)."""
    run = start(config)
    out = Path(config.output_dir)
    bar = tqdm(
        total=config.steps,
        initial=run.step,
        desc="grpo",
        disable=not run.accelerator.is_main_process,
        unit="step",
    )
    while run.step < config.steps:
        seconds: dict[str, float] = {}
        began = time.perf_counter()

        rows, rollouts, scores, batch = sample(run, seconds)
        groups, total_tokens, metrics = advantages(run, rows, rollouts, scores, batch)
        with timed(seconds, "update"):
            metrics |= update(run, groups, rollouts, total_tokens)
        with timed(seconds, "sync"):
            sync(run)
        run.step += 1

        means = step_metrics(rows, rollouts, scores) | run.scorer.pop_metrics()
        metrics |= {"step": run.step} | gathered_means(means)
        log(run, out, metrics, seconds, time.perf_counter() - began, rows, rollouts, scores, groups, bar)
        if run.step % config.save_every == 0 or run.step == config.steps:
            save_checkpoint(
                run.accelerator,
                run.policy,
                run.processor,
                out,
                run.step,
                state_of(run),
                config.keep_checkpoints,
            )
    bar.close()
    return finish(run, out)


def start(config: GRPOConfig) -> Run:
    """Load everything, check every row, restore a checkpoint if there is one, and bring the engine to the policy."""
    check_installed(config.report_to)
    accelerator = join_processes(config)
    say(accelerator, f"GRPO: policy {config.model.path}, rows {config.prompts.rows}")
    if config.rollout.prompts_per_step % accelerator.num_processes:
        raise ValueError(
            f"rollout.prompts_per_step ({config.rollout.prompts_per_step}) must be a multiple of the number of"
            f" processes ({accelerator.num_processes})"
        )
    out = Path(config.output_dir)
    resume = find_resume(config.resume, out)
    rows = read_rows(config.prompts.rows, limit=config.prompts.limit)
    router = Router(config.rewards)
    router.check_rows(rows)
    say(accelerator, f"{len(rows)} rows, every answer readable by the rewards of its task")
    bad_rows = look_before(accelerator, config, rows)

    set_seed(config.seed)
    model, processor = build_policy(config.model)
    policy, optimizer = prepare(accelerator, model, optimizer_for(model, config.optimizer))
    say(accelerator, f"starting the rollout engine ({config.engine.kind})")
    engine = build_engine(
        config.engine,
        config.model.path,
        processor,
        getattr(torch, config.model.dtype),
        seed=config.seed + accelerator.process_index,
        device=accelerator.device,
    )
    out.mkdir(parents=True, exist_ok=True)
    kinds = ("image", "video") if accelerator.num_processes > 1 else ()
    run = Run(
        config=config,
        accelerator=accelerator,
        processor=processor,
        policy=policy,
        optimizer=optimizer,
        engine=engine,
        scorer=Scorer(router, overlap=config.rollout.overlap_rewards),
        sampler=PromptSampler(
            rows,
            config.rollout.prompts_per_step,
            dynamic=config.sampling.dynamic,
            max_resampling=config.sampling.max_resampling,
            multiple_of=accelerator.num_processes,
            alpha=config.sampling.easy_pool,
            seed=config.seed,
        ),
        suppressed=suppressed_token_ids(processor, model.config.text_config.vocab_size),
        media=tuple(k for k in kinds if any(row.get(f"{k}s") for row in rows)),
        skipped=SkippedSteps(config.optimizer.max_skipped_steps),
        gap=GapCheck(gap_limits(config)),
    )
    if resume is not None:
        restore(run, resume)
    run.sampler.leave_out(bad_rows)
    if accelerator.is_main_process:
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            keep_until(out / name, run.step)
    if config.report_to:
        project = os.environ.get("WANDB_PROJECT", "onsight-grpo")
        accelerator.init_trackers(project, flat(config.model_dump(mode="json")))
    sync(run)
    return run


def sample(run: Run, seconds: dict[str, float]) -> tuple[list[Row], list[Rollout], list[Score], Batch]:
    """Rollouts of this step's prompts with their rows and scores; with dynamic sampling, of as many rounds of prompts as
    it takes to fill the batch with groups that have a signal. All are by the present weights."""
    rows: list[Row] = []
    rollouts: list[Rollout] = []
    scores: list[Score] = []
    size = run.config.rollout.completions_per_prompt
    while run.sampler.wanted:
        with timed(seconds, "generate"):
            mine, prompts = draw(run.sampler, run.accelerator, run.processor, run.config)
        repeated = [row for row in mine for _ in range(size)]
        with run.scorer.round(repeated) as scoring:
            with timed(seconds, "generate"):
                new = generate(run, prompts, scoring.add, already=len(rollouts))
                check_sampled(new, run.version)
            with timed(seconds, "reward"):  # of those that finished early it has been going on for a while
                verdicts = scoring.finish()
        rewards = [verdict.reward for verdict in verdicts]
        outcomes = [outcome_of(rewards[i : i + size]) for i in range(0, len(rewards), size)]
        run.sampler.accept(collected(outcomes, run.accelerator))
        rows, rollouts, scores = rows + repeated, rollouts + new, scores + verdicts
    return rows, rollouts, scores, run.sampler.finish()


def generate(run: Run, requests: list[Request], on_rollout: OnRollout, *, already: int = 0) -> list[Rollout]:
    """The rollouts of each request, next to each other; `on_rollout` is told of each as it finishes. already: rollouts that
    this step has, for fresh random numbers."""
    config = run.config.rollout
    seed = seed_of(run.config.seed, run.step, run.accelerator.process_index, already)
    return run.engine.generate(requests, Sampling(config.temperature, config.max_tokens, seed), on_rollout)


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
    rate = learning_rate(config.optimizer, run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
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

    sums = StepSums()
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        # gradients of the processes are added up once, after the last micro-batch
        with nullcontext() if last else accelerator.no_sync(run.policy):
            accelerator.sync_gradients = last
            out = policy_gradient(
                run.policy,
                batch,
                total_tokens=total_tokens,
                ranks=run.ranks,
                **options,
            )
            sums.add(batch, out)
            loss = out.loss
            if last:
                gap, means = sums.over_processes(accelerator)
                if isfinite(means["loss"]) and isfinite(rate):
                    run.gap.check(gap, lambda: sums.rounding(accelerator, run.policy, options))
                else:
                    loss = loss_without_step(loss)
            accelerator.backward(loss)
    norm = apply_gradient(accelerator, run.policy, run.optimizer, config.optimizer.max_grad_norm)

    numbers = {"learning rate": rate, "loss": means["loss"], "gradient norm": norm}
    if skipped := run.skipped.look(run.step + 1, numbers):
        say(accelerator, skipped)
        metrics["steps/skipped"] = 1.0
    else:
        run.version += 1
    return metrics | means | {"grad_norm": norm} | run.gap.metrics(gap)


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
    sampled = summed(run.accelerator, [sum(sum(r.loss_mask) for r in rollouts)])[0]
    metrics |= {f"seconds/{phase}": s for phase, s in seconds.items()}
    metrics |= {"seconds/rest": total - sum(seconds.values()), "seconds/step": total}
    metrics |= {
        "tokens_per_second": sampled / seconds["generate"],
        "policy_version": run.version,
        "processes": run.ranks,
        "parallel": run.accelerator.distributed_type.value,
    }
    records = gather_object(records)
    if run.accelerator.is_main_process:
        append(out / "metrics.jsonl", [metrics])
        append(out / "rollouts.jsonl", records)
    if run.config.report_to:
        run.accelerator.log({k: v for k, v in metrics.items() if isinstance(v, float)}, step=run.step)
    bar.set_postfix(reward=f"{metrics.get('reward/mean', float('nan')):.3f}", refresh=False)
    bar.update()


def state_of(run: Run) -> dict[str, Any]:
    """What a resumed run needs besides model, optimizer and random numbers."""
    return {
        "version": run.version,
        "sampler": run.sampler.state_dict(),
        "task_std": run.task_std.state_dict(),
        "skipped": run.skipped.state_dict(),
        "gap_floor": run.gap.floor,
    }


def restore(run: Run, folder: Path) -> None:
    state = load_checkpoint(run.accelerator, folder)
    run.step, run.version = state["step"], state["version"]
    run.sampler.load_state_dict(state["sampler"])
    run.task_std.load_state_dict(state["task_std"])
    run.skipped.load_state_dict(state["skipped"])
    run.gap.floor = state["gap_floor"]
    say(run.accelerator, f"resumed from {folder} at step {run.step}")


def finish(run: Run, out: Path) -> Path:
    """The last policy as `final/`; engine and workers are shut down."""
    final = out / "final"
    save_model(run.accelerator, run.policy, run.processor, final)
    run.engine.close()
    run.scorer.close()
    run.accelerator.end_training()
    say(run.accelerator, f"done: {final} (checkpoints: {', '.join(p.name for p in checkpoints(out))})")
    return final


def say(accelerator: Accelerator, text: str) -> None:
    if accelerator.is_main_process and os.environ.get("ONSIGHT_QUIET") != "1":
        tqdm.write(text)

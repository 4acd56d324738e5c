"""Fully on-policy GRPO: the loop.

Every step samples from the current weights and takes exactly one optimizer step at those weights, so there is no
importance ratio, no clipping, no KL term and no second forward (MiMo-VL, arXiv 2506.03569, §3.3; docs/algorithm.md):

    prompts     the next rows
    rollouts    from the engine, by weights of version v
    rewards     from the router, by task, as rollouts finish
    groups      the samples of one prompt; those without a signal get no advantages
    (teacher)   where one is distilled: its log-probs of the sampled tokens
    update      one gradient over all groups, each prompt and its images computed once
    sync        the engine gets version v + 1; its weights are compared with the trainer's

On a laptop:     accelerate launch grpo.py --config launch/configs/….yaml
On eight GPUs:   bash launch/grpo_8xh100.sh
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from tqdm import tqdm

from core.files.hub.cache import used_commits
from core.files.hub.paths import PIN, TRAIN, fetch
from core.files.lock import locked
from core.files.run_folder import begin
from core.metrics import Metric, same
from core.processes.exchange import collected, largest, over_processes, seed_of, timed
from core.processes.ranks import refuse_different, say
from core.processes.stop import StopRequested
from core.processes.watchdog import renew
from core.trackers import check_installed
from core.training.optimizer import learning_rate
from core.training.step import accumulating, apply_gradient, loss_without_step, set_learning_rate
from engines.engine import OnRollout
from engines.rollout import Request, Rollout, Sampling
from engines.samples import Group, grouped
from engines.weights import sync_checked
from rl.advantages import baseline_rewards, group_advantages
from rl.checkpoints import record_of, teacher_path
from rl.checks import LogprobGap, check_gap, check_sampled
from rl.coefficients import added, counted, with_coefficients
from rl.config import GRPOConfig
from rl.distillation.teacher import reverse_kl_metrics, teacher_advantages
from rl.interference.gradients import TaskGradients, zero_stage
from rl.interference.treatment import batches_by_task, treat
from rl.metrics import UpdateMetrics, group_metrics
from rl.prompts.drawing import draw
from rl.prompts.sampling import Batch, result_of
from rl.run import Run, finish, leave, phase, read, save, start, state_of, stop_if_asked, stop_if_hacked
from rl.run_files import log
from rl.setup import correction, join_processes, objective
from rl.step import gap_over_processes, rounding_over_processes, sampled_gap
from rl.update.packing import PackedBatch, fill, pack
from rl.update.policy_gradient import UpdateOutput, policy_gradient
from rl.update.rounding import engine_gap
from vlm.weights import named_weights


def train(config: GRPOConfig) -> Path:
    """Run to the last step and return the folder of the final checkpoint (model and processor); a run that has nothing
    left to do is left as it is. SIGTERM and Ctrl-C save what is done and end in SystemExit."""
    check_installed(config.report_to)
    models = {"model.path": config.model.path} | teacher_path(config)
    fetch(models, {"prompts.rows": config.prompts.rows}, TRAIN)
    accelerator = join_processes(config)
    refuse_different(used_commits(), PIN)
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
    """Steps from where the run stands to its last, each logged, and saved where the config says so."""
    config = run.config
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
            with timed(seconds, "step"):
                groups, metrics = take_step(run, seconds)
            run.step += 1
            with phase(run, "log"):
                record = log(run, groups, metrics, seconds)
            run.hacking.add(record)
            bar.set_postfix(reward=f"{record.get('reward/mean', float('nan')):.3f}", refresh=False)
            bar.update()
            run.state = state_of(run)
            if run.step % config.save_every == 0 or run.step == config.steps:
                save(run)
            with phase(run, "agree on going on"):
                stop_if_asked(run)
                stop_if_hacked(run)
    except StopRequested:
        leave(run)
    finally:
        bar.close()


def take_step(run: Run, seconds: dict[str, float]) -> tuple[list[Group], dict[str, Metric]]:
    """One on-policy step. Returns all groups that were sampled on this process, and its metrics; adds the time of each phase
    to `seconds`."""
    groups: list[Group] = []
    while run.sampler.wanted:  # once; with dynamic sampling until enough groups have a signal
        with phase(run, "draw prompts"), timed(seconds, "generate"):
            prompts = draw(run.sampler, run.accelerator, run.processor, run.config)
        with run.scorer.round(prompts) as scoring:
            with phase(run, "generate", seconds):
                rollouts = generate(run, prompts, scoring.add, already=sum(len(g.samples) for g in groups))
            with phase(run, "reward", seconds):
                rewards = scoring.finish()  # most are there: scoring began with the first finished rollout
                stop_if_asked(run)
        drawn = grouped(prompts, rollouts, rewards)
        with phase(run, "exchange results of groups"):
            results = [result_of(baseline_rewards(group, run.config.over_turn)) for group in drawn]
            run.sampler.accept(collected(results, run.accelerator))
        groups += drawn
    with phase(run, "advantages"):
        groups, batch, metrics = advantages(run, groups)
    groups, total_tokens, of_teacher = weigh(run, groups, batch, seconds)
    metrics |= of_teacher
    with phase(run, "update", seconds):
        metrics |= update(run, groups, total_tokens)
    with phase(run, "sync", seconds):
        sync(run)
    return groups, metrics


def generate(
    run: Run, prompts: Sequence[Request], on_rollout: OnRollout, *, already: int = 0
) -> list[Rollout]:
    """The rollouts of each prompt, next to each other, by the present weights, with an environment whole episodes;
    `on_rollout` is called with each as it finishes. already: rollouts that this step has, for fresh random numbers. Raises StopRequested, on all processes."""

    def finished(place: int, rollout: Rollout) -> None:
        if run.stop.signum:
            raise StopRequested
        on_rollout(place, rollout)

    config = run.config.rollout
    seed = seed_of(run.config.seed, run.step, run.accelerator.process_index, already)
    sampling = Sampling(config.temperature, config.max_tokens, seed)
    rollouts: list[Rollout] = []
    try:
        if run.episodes is None:
            rollouts = run.engine.generate(prompts, sampling, finished)
        else:
            rollouts = run.episodes.generate(run.engine, prompts, sampling, finished)
    except StopRequested:
        pass  # the other processes are still generating: all leave together, at the next line
    stop_if_asked(run)
    check_sampled(rollouts, run.version)
    return rollouts


def advantages(run: Run, groups: Sequence[Group]) -> tuple[list[Group], list[int], dict[str, Metric]]:
    """The groups, those of the step's batch with advantages; places of those of the batch; metrics."""
    batch = run.sampler.finish()
    if run.config.advantage == "task_std":
        samples = [sample for group in groups for sample in group.samples]
        tasks = [sample.row["task"] for sample in samples]
        rewards = [r for group in groups for r in baseline_rewards(group, run.config.over_turn)]
        run.task_std.update(gather_object(tasks), gather_object(rewards))
    chosen = in_batch(run, batch, len(groups))
    over_turn = run.config.over_turn
    with_advantages = group_advantages(
        [groups[i] for i in chosen],
        estimator=run.config.advantage,
        baseline="length" if "length_baseline" in run.config.interference.remedies else "mean",
        task_std=run.task_std,
        over_turn=over_turn,
    )
    result = list(groups)
    for i, group in zip(chosen, with_advantages, strict=True):
        result[i] = group
    metrics = group_metrics(groups, with_advantages, batch.rounds, run.sampler, over_turn)
    return result, chosen, metrics


def weigh(
    run: Run, groups: Sequence[Group], batch: Sequence[int], seconds: dict[str, float]
) -> tuple[list[Group], int, dict[str, Metric]]:
    """The groups, those of the step's batch with the coefficients of their tokens; the number that the loss is divided by; the
    teacher's metrics. batch: places of the groups of the batch."""
    trained, metrics = [groups[i] for i in batch], {}
    of_teacher = None
    if run.teacher is not None:
        with phase(run, "teacher", seconds):
            run.engine.sleep()  # its memory is the teacher's meanwhile
            of_teacher = teacher_advantages(trained, run.teacher.logprobs(trained))
            metrics = reverse_kl_metrics(trained, of_teacher)
    with phase(run, "coefficients"):
        counts = added(gather_object([counted(trained, run.config.over_turn)]))
    weighed, total_tokens = with_coefficients(trained, counts, objective(run.config), of_teacher)
    result = list(groups)
    for i, group in zip(batch, weighed, strict=True):
        result[i] = group
    return result, total_tokens, metrics


def in_batch(run: Run, batch: Batch, count: int) -> list[int]:
    """Which of this process's groups are of the step's batch: all, or with dynamic sampling those that were kept."""
    if not run.sampler.dynamic:
        return list(range(count))
    # every round deals out a multiple of the number of processes, so the n-th prompt is always process n mod ranks's
    return [p // run.ranks for p in batch.kept if p % run.ranks == run.accelerator.process_index]


def update(run: Run, groups: Sequence[Group], total_tokens: int) -> dict[str, Metric]:
    """Exactly one optimizer step over all groups of the step, if any has a signal; the log-prob gap is checked before the
    step is taken.

    Without a signal the gap is checked on a few of the rollouts, since an engine that is broken altogether samples nothing
    but failures. A step whose learning rate, loss or gradient is not finite is skipped by all processes.
    """
    run.engine.sleep()
    config, accelerator = run.config, run.accelerator
    batches = pack(groups, max_tokens=config.max_tokens_per_microbatch)
    batches = fill(batches, int(largest(accelerator, len(batches))))
    rate = learning_rate(config.optimizer, run.step, config.steps)
    set_learning_rate(run.optimizer, rate)
    metrics = {"learning_rate": same(rate), "steps/skipped": same(0.0)}
    options: dict[str, Any] = {
        "temperature": config.rollout.temperature,
        "suppressed_ids": run.suppressed,
        "media": run.media,
    }
    if run.gap.floor is None or not batches:
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        gap = sampled_gap(run.policy, run.gap, rollouts, config.checks.sample_tokens, options)
    if (
        not batches
    ):  # no group of any process has a signal: the gradient is exactly zero, and no step is taken
        check_gap(gap, run.gap.limits)
        return metrics | run.gap.metrics(gap)

    if by_task(run):
        mine, gap, loss, found = accumulate_by_task(run, groups, total_tokens, rate, options)
        metrics |= found
    else:
        mine, gap, loss = accumulate_gradient(run, batches, total_tokens, rate, options)
    renew("optimizer step")
    norm = apply_gradient(accelerator, run.optimizer, config.optimizer.max_grad_norm)

    numbers = {"learning rate": rate, "loss": loss, "gradient norm": norm}
    if skipped := run.skipped.look(run.step + 1, numbers):
        say(skipped)
        metrics["steps/skipped"] = same(1.0)
    else:
        run.version += 1
    return metrics | mine.metrics | {"grad_norm": same(norm)} | run.gap.metrics(gap)


def accumulate_gradient(
    run: Run, batches: Sequence[PackedBatch], total_tokens: int, rate: float, options: Mapping[str, Any]
) -> tuple[UpdateMetrics, LogprobGap, float]:
    """Forward and backward over the micro-batches. Returns this process's metrics, and the gap and the loss over all tokens of
    the step. Before the last backward, with which gradients are reduced and DeepSpeed takes its step, the gap is checked,
    and the gradient made NaN if the loss or the learning rate is not finite."""
    weights = correction(run.config)
    mine = UpdateMetrics(run.ranks, weights)
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        renew(f"micro-batch {i + 1} of {len(batches)}")
        with accumulating(run.accelerator, run.policy, last):
            out = policy_gradient(
                run.policy, batch, total_tokens=total_tokens, ranks=run.ranks, correction=weights, **options
            )
            mine.add(batch, out)
            loss = out.loss
            if last:
                gap, step_loss = checked(run, mine, rate, options)
                if not isfinite(step_loss) or not isfinite(rate):
                    loss = loss_without_step(loss)
            if loss.requires_grad:  # not if the vision tower trains alone, in one process, on text
                run.accelerator.backward(loss)
    return mine, gap, step_loss


def checked(
    run: Run, mine: UpdateMetrics, rate: float, options: Mapping[str, Any]
) -> tuple[LogprobGap, float]:
    """The gap and the loss over all tokens of the step. The gap is checked, unless the step is to be skipped: its loss or its
    learning rate is not finite."""
    step_loss = over_processes(mine.metrics)["loss"].sum
    gap = gap_over_processes(engine_gap(mine.batches, mine.logprobs))
    if isfinite(step_loss) and isfinite(rate):
        forward = (run.policy, mine.batches, mine.logprobs, options)
        run.gap.check(gap, partial(rounding_over_processes, *forward))
    return gap, step_loss


def by_task(run: Run) -> bool:
    """Whether this step needs the gradient of each task by itself."""
    interference = run.config.interference
    return "pcgrad" in interference.remedies or interference.measured(run.step + 1)


def accumulate_by_task(
    run: Run, groups: Sequence[Group], total_tokens: int, rate: float, options: Mapping[str, Any]
) -> tuple[UpdateMetrics, LogprobGap, float, dict[str, Metric]]:
    """As `accumulate_gradient`, one task after the other, so that their gradients can be compared, and projected where they
    conflict (rl/interference); also returns what was found."""
    weights, config = correction(run.config), run.config
    mine = UpdateMetrics(run.ranks, weights)

    def forward(batch: PackedBatch) -> UpdateOutput:
        return policy_gradient(
            run.policy, batch, total_tokens=total_tokens, ranks=run.ranks, correction=weights, **options
        )

    gradients = TaskGradients(run.accelerator, run.accelerator.unwrap_model(run.policy), run.optimizer)
    for task, batches in batches_by_task(run.accelerator, groups, config.max_tokens_per_microbatch):
        renew(f"the gradient of {task}")
        for batch in batches:
            with accumulating(run.accelerator, run.policy, last=False):
                out = forward(batch)
                mine.add(batch, out)
                if out.loss.requires_grad:
                    run.accelerator.backward(out.loss)
        gradients.take(task)
    gap, step_loss = checked(run, mine, rate, options)
    skip, seed = not (isfinite(step_loss) and isfinite(rate)), seed_of(config.seed, run.step)
    found = treat(gradients, config.interference, run.step + 1, seed, skip=skip)
    run.accelerator.sync_gradients = True  # what follows is the step
    if zero_stage(run.accelerator):  # DeepSpeed takes it with a last backward pass, here of nothing
        loss = forward(PackedBatch()).loss
        run.accelerator.backward(loss_without_step(loss) if skip else loss)
    return mine, gap, step_loss, found


def sync(run: Run) -> None:
    """Load the policy into the engine under its version, and compare the engine's weights with the trainer's."""
    sync_checked(run.engine, named_weights(run.accelerator.unwrap_model(run.policy)), run.version)

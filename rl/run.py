"""The run around its steps: start, restore from a checkpoint, save, stop on a signal, finish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from core.errors import RunError
from core.files.hub.paths import TRAIN
from core.files.model_card import Training, write_card
from core.files.record import Record
from core.files.run_folder import checkpoints, continue_logs, mark_finished, writing_folder
from core.processes.exchange import alone, timed
from core.processes.ranks import on_main, say
from core.processes.stop import StopRequested, StopSignals
from core.processes.watchdog import operation
from core.rows import Row, read_rows
from core.trackers import start_trackers
from core.training.checkpoints import load_checkpoint, save_checkpoint
from core.training.finite import SkippedSteps
from core.training.optimizer import optimizer_for, prepare
from engines.build import build_engine
from engines.engine import Engine
from engines.tokens import suppressed_token_ids
from environments.build import with_tools
from environments.episodes import Episodes
from rewards.config import check_pixel_limits
from rewards.geometry.frames import with_model_limits
from rewards.hacking import HackingWatch
from rewards.router import Router
from rl.advantages import TaskStd
from rl.checks import GapCheck
from rl.config import GRPOConfig
from rl.distillation.config import CheckpointTeacherConfig
from rl.distillation.teacher import Teacher, build_teacher
from rl.interference.gradients import refuse_stage, zero_stage
from rl.prompts.drawing import look_before
from rl.prompts.sampling import PromptSampler
from rl.scoring import Scorer
from rl.setup import build_policy, gap_limits
from vlm.load import check_checkpoint, load_processor, pixel_limits
from vlm.packed.layout import media_kinds
from vlm.weights import save_model


@dataclass
class Run:
    """The state of a run that its steps share.

    version: of the policy's weights, incremented by every optimizer step. step, state: the last completed step, and
        `state_of` it. saved: step of the newest checkpoint.
    suppressed: ids of tokens that are never sampled. media: kinds whose encoder runs in every micro-batch
        (`policy_gradient`).
    episodes: plays episodes where the config has an environment. teacher: whose log-probs are distilled, if any.
    """

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
    record: Record
    hacking: HackingWatch
    episodes: Episodes | None = None
    teacher: Teacher | None = None
    task_std: TaskStd = field(default_factory=TaskStd)
    step: int = 0
    version: int = 0
    saved: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    stop: StopSignals = field(default_factory=StopSignals)

    @property
    def ranks(self) -> int:
        return self.accelerator.num_processes

    @property
    def out(self) -> Path:
        return Path(self.config.output_dir)

    def close(self) -> None:
        with phase(self, "close"):
            self.engine.close()
            self.scorer.close()
            if self.episodes is not None:
                self.episodes.close()
            if self.teacher is not None:
                self.teacher.close()


def read(config: GRPOConfig, accelerator: Accelerator) -> tuple[list[Row], set[str], Router]:
    """All rows, the ids of those that cannot be used, and the router, which has checked every answer."""
    say(f"GRPO: policy {config.model.path}, rows {config.prompts.rows}")
    if config.rollout.prompts_per_step % accelerator.num_processes:
        raise ValueError(
            f"rollout.prompts_per_step ({config.rollout.prompts_per_step}) must be a multiple of the number of"
            f" processes ({accelerator.num_processes})"
        )
    if config.interference.by_task:
        refuse_stage(zero_stage(accelerator))
    processor = load_processor(config.model)
    limits = pixel_limits(processor)
    check_pixel_limits(config.rewards, limits)
    rows = read_rows(config.prompts.rows, limit=config.prompts.limit, split=TRAIN)
    rows = with_tools(with_model_limits(rows, limits), config.environment)
    router = Router(config.rewards)
    router.check_rows(rows)
    say(f"{len(rows)} rows, every answer readable by the rewards of its task")
    return rows, look_before(accelerator, processor, config, rows), router


def start(
    config: GRPOConfig,
    accelerator: Accelerator,
    rows: list[Row],
    bad_rows: set[str],
    router: Router,
    record: Record,
    checkpoint: Path | None,
) -> Run:
    """Load the policy, start the engine, and restore the checkpoint if there is one."""
    out = Path(config.output_dir)
    set_seed(config.seed)
    with operation("load the policy", config.timeouts.exchange_s):
        model, processor = build_policy(config.model)
        policy, optimizer = prepare(accelerator, model, optimizer_for(model, config.optimizer))
    episodes = None if config.environment is None else Episodes.of(config.environment, processor)
    with operation("load the teacher", config.timeouts.exchange_s):
        teacher = build_teacher(config, rows, processor, accelerator.device)
    say(f"starting the rollout engine ({config.engine.kind})")
    with operation("start the rollout engine", config.timeouts.engine_s):
        engine = build_engine(
            config.engine,
            config.model.path,
            processor,
            getattr(torch, config.model.dtype),
            seed=config.seed + accelerator.process_index,
            device=accelerator.device,
        )
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
            one_task="task_steps" in config.interference.remedies,
            seed=config.seed,
        ),
        suppressed=suppressed_token_ids(processor, model.config.text_config.vocab_size),
        media=media_kinds(rows, model, not alone(accelerator), also=("image",) if config.environment else ()),
        skipped=SkippedSteps(config.optimizer.max_skipped_steps),
        gap=GapCheck(gap_limits(config)),
        hacking=HackingWatch(config.checks.hacking),
        record=record,
        episodes=episodes,
        teacher=teacher,
    )
    if checkpoint is not None:
        with phase(run, "restore a checkpoint"):
            restore(run, checkpoint)
    run.sampler.leave_out(bad_rows)
    run.state = state_of(run)
    continue_logs(out, ("metrics.jsonl", "rollouts.jsonl"), run.step, say)
    start_trackers(accelerator, config, config.report_to, "onsight-grpo")
    return run


@contextmanager
def phase(run: Run, name: str, seconds: dict[str, float] | None = None) -> Iterator[None]:
    """A phase of the step: its time is added to `seconds`; past the configured time-out the watchdog ends the run."""
    limits = run.config.timeouts
    limit_s = limits.engine_s if name in ("generate", "reward", "teacher", "sync") else limits.exchange_s
    with operation(name, limit_s), timed({} if seconds is None else seconds, name):
        yield


def state_of(run: Run) -> dict[str, Any]:
    """The state to save besides model, optimizer and random numbers."""
    return {
        "version": run.version,
        "sampler": run.sampler.state_dict(),
        "task_std": run.task_std.state_dict(),
        "skipped": run.skipped.state_dict(),
        "gap_floor": run.gap.state_dict(),
        "hacking": run.hacking.state_dict(),
    }


def restore(run: Run, folder: Path) -> None:
    state = load_checkpoint(run.accelerator, folder)
    run.step, run.version, run.saved = state["step"], state["version"], state["step"]
    if run.step > run.config.steps:
        raise RunError(f"steps: expected {run.step} or more, since {folder} is at step {run.step}")
    run.sampler.load_state_dict(state["sampler"])
    run.task_std.load_state_dict(state["task_std"])
    run.skipped.load_state_dict(state["skipped"])
    run.gap.load_state_dict(state["gap_floor"])
    run.hacking.load_state_dict(state.get("hacking"))


def save(run: Run) -> None:
    """Write a checkpoint of the last completed step."""
    keep = run.config.keep_checkpoints
    with phase(run, "save a checkpoint"):
        write = partial(save_model, run.accelerator, run.policy, run.processor)
        save_checkpoint(run.accelerator, write, run.out, run.step, run.state, run.record, keep)
    run.saved = run.step


def stop_if_asked(run: Run) -> None:
    """Raise StopRequested on all processes if any has received a stop signal. Call it only where the policy has not changed
    since the last completed step."""
    if run.stop.agreed():
        raise StopRequested


def stop_if_hacked(run: Run) -> None:
    """Save the last completed step and raise RunError if the reward model is being hacked; all processes see the same figures."""
    problem = run.hacking.problem()
    if problem is None:
        return
    assert run.config.checks.hacking is not None
    if not run.config.checks.hacking.stop:
        if not run.hacking.said:
            say(f"warning: {problem}")
        run.hacking.said = True
        return
    if run.saved != run.step:
        save(run)
    raise RunError(
        f"{problem}. Saved at step {run.step}; to go on all the same, resume with checks.hacking.stop=false or another limit"
    )


def leave(run: Run) -> NoReturn:
    """Save the last completed step, if that is not done, and exit with the signal's exit code."""
    if run.saved != run.step:
        save(run)
    say(f"{run.stop.name}: saved at step {run.step}; the same command continues from there")
    raise SystemExit(run.stop.exit_code)


def training(run: Run) -> Training:
    """What the final model's card says of the run."""
    config = run.config
    return Training(
        method="GRPO",
        base=config.model.path,
        base_folder=check_checkpoint(config.model.path),
        data={"prompts.rows": config.prompts.rows},
        rows=run.sampler.usable_rows,
        steps=run.step,
        settings={
            "prompts per step": config.rollout.prompts_per_step,
            "completions per prompt": config.rollout.completions_per_prompt,
            "longest completion, tokens": config.rollout.max_tokens,
            "learning rate": config.optimizer.learning_rate,
            "advantage": config.advantage,
            **_settings_of_tasks(config),
            "grammar of completions": config.rewards.grammar,
            "trained parts": f"{config.model.trainable}{', by LoRA' if config.model.lora else ''}",
            "dtype": config.model.dtype,
            "processes": run.ranks,
            "seed": config.seed,
        },
        rewards={
            task: [f"{function.name} ({function.weight:g})" for function in functions]
            for task, functions in config.rewards.tasks.items()
        },
    )


def _settings_of_tasks(config: GRPOConfig) -> dict[str, Any]:
    """What is said of weights, remedies and teacher where there are any."""
    said: dict[str, Any] = {}
    if config.task_weights:
        said["weights of tasks"] = ", ".join(f"{task} {w:g}" for task, w in config.task_weights.items())
    if config.interference.remedies:
        said["remedies against interference"] = ", ".join(config.interference.remedies)
    if config.distillation is not None:
        teacher, parts = config.distillation.teacher, config.distillation
        name = teacher.path if isinstance(teacher, CheckpointTeacherConfig) else teacher.model
        said["teacher"] = f"{name} (weight {parts.weight:g}, rewards {parts.reward_weight:g})"
    return said


def finish(run: Run) -> Path:
    """Save the final policy as `final/`."""
    final = run.out / "final"
    with phase(run, "save the model"), writing_folder(final) as folder:
        save_model(run.accelerator, run.policy, run.processor, folder)
        on_main(lambda: write_card(folder, training(run), run.out / "metrics.jsonl"))
    on_main(lambda: mark_finished(run.out, run.step, final))
    run.accelerator.end_training()
    kept = ", ".join(p.name for p in checkpoints(run.out))
    say(f"done: {final} (checkpoints: {kept})")
    return final

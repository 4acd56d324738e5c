"""A run around its steps: started, restored from a checkpoint, saved, left when asked to, finished."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from core.errors import RunError
from core.files.record import Record, model_identity, rows_identity
from core.files.run_folder import continue_logs, mark_finished, writing_folder
from core.processes.exchange import alone, summed
from core.processes.ranks import on_main, say
from core.processes.stop import StopSignals
from core.processes.watchdog import operation
from core.rows import Row
from core.trackers import start_trackers
from core.training.checkpoints import load_checkpoint, save_checkpoint
from core.training.finite import SkippedSteps
from core.training.joining import parallel_name
from core.training.optimizer import optimizer_for, prepare
from reward_models.card import Card
from reward_models.config import RewardModelConfig
from reward_models.encoding import prompt_key
from reward_models.loading import Pairs, Steps, model_folder
from reward_models.model import new_reward_model
from sft.order import Order, consecutive, share_of_step
from vlm.load import context_length
from vlm.packed.layout import DummyMedia, media_kinds
from vlm.weights import save_adapter, save_model

FREE = (
    *("steps", "epochs", "output_dir", "save_every", "keep_checkpoints", "resume", "log_every", "eval_every"),
    *("timeout_s", "report_to", "deepspeed", "max_tokens_per_microbatch", "optimizer.max_skipped_steps"),
    *("model.gradient_checkpointing", "data.limit", "data.bad_rows", "data.max_bad_rows"),
    *("data.eval_rows", "data.eval_limit", "data.workers"),
)
"""What may change when a run is resumed: its length (with it the schedule of the learning rate from there on),
bookkeeping, memory. Which rows are trained on is compared by their content."""
LENGTH = ("steps", "epochs")
STATISTICS_ROWS = 1000
"""Training pairs from which the statistics of the scores are taken where there are no held-out ones."""


@dataclass
class Run:
    """What the loop works with.

    steps: of the whole run; step: those that are done. train, held_out, sample: this process's share of each step's pairs, of
    the held-out ones, and of the first STATISTICS_ROWS training pairs, the last two in steps_held_out and steps_sample batches.
    sums: since the last line in metrics.jsonl, of this process. card: what the checkpoint says about itself.
    """

    config: RewardModelConfig
    accelerator: Accelerator
    processor: Any
    model: torch.nn.Module
    optimizer: Any
    pairs: Pairs
    order: Order
    train: Steps
    held_out: Steps
    sample: Steps
    steps_held_out: int
    steps_sample: int
    dummy: DummyMedia | None
    record: Record
    steps: int
    card: Card
    sums: list[float]
    skipped: SkippedSteps
    step: int = 0
    saved: int = 0
    logged_skips: int = 0
    stop: StopSignals = field(default_factory=StopSignals)

    @property
    def out(self) -> Path:
        return Path(self.config.output_dir)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A part of the run, which may not take longer than the configured time-out."""
        return operation(name, self.config.timeout_s)


def record_of(config: RewardModelConfig, accelerator: Accelerator, rows: list[Row]) -> Record:
    """What the run is, for its folder and its checkpoints; all processes take part."""
    content = on_main(
        lambda: {
            "data.rows": rows_identity(rows, config.data.rows),
            "model.path": model_identity(model_folder(config)),
        }
    )
    processes = f"{accelerator.num_processes}, {parallel_name(accelerator)}"
    return Record(config, content | {"processes": processes}, FREE)


def start(
    config: RewardModelConfig,
    accelerator: Accelerator,
    processor: Any,
    pairs: Pairs,
    record: Record,
    checkpoint: Path | None,
) -> Run:
    """Load the model, and restore the checkpoint if there is one."""
    set_seed(config.seed)
    with operation("load the model", config.timeout_s):
        bare = new_reward_model(config.kind, config.model)
        dummy = _dummy(config, pairs, bare, accelerator)
        model, optimizer = prepare(accelerator, bare, optimizer_for(bare, config.optimizer))
    order = Order(
        [prompt_key(row) for row in pairs.train], config.rows_per_step, config.seed, config.data.rows_together
    )
    everything = [*pairs.train, *pairs.held_out]
    ranks = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}

    def steps_of(rows_of: Any) -> Steps:
        return Steps(
            processor, everything, partial(share_of_step, rows_of, pairs.lengths, **ranks), config, dummy
        )

    size, trained = config.rows_per_step, len(pairs.train)
    sample = min(trained, STATISTICS_ROWS)
    run = Run(
        config=config,
        accelerator=accelerator,
        processor=processor,
        model=model,
        optimizer=optimizer,
        pairs=pairs,
        order=order,
        train=steps_of(order.step),
        held_out=steps_of(partial(consecutive, trained, len(everything), size)),
        sample=steps_of(partial(consecutive, 0, sample, size)),
        steps_held_out=-(-len(pairs.held_out) // size),
        steps_sample=-(-sample // size),
        dummy=dummy,
        record=record,
        steps=config.steps or math.ceil(config.epochs * order.steps_per_epoch),
        card=Card(
            kind=config.kind,
            max_tokens=config.data.max_tokens or context_length(config.model.path),
            max_frames=config.data.max_frames,
        ),
        sums=[0.0] * 7,
        skipped=SkippedSteps(config.optimizer.max_skipped_steps),
    )
    if checkpoint is not None:
        with run.phase("restore a checkpoint"):
            restore(run, checkpoint)
    continue_logs(run.out, ("metrics.jsonl",), run.step, say)
    start_trackers(accelerator, config, config.report_to, "onsight-reward-model")
    return run


def _dummy(
    config: RewardModelConfig, pairs: Pairs, model: torch.nn.Module, accelerator: Accelerator
) -> DummyMedia | None:
    """The media that every micro-batch must hold, where processes train together."""
    if config.kind == "text":
        return None
    kinds = media_kinds([*pairs.train, *pairs.held_out], model, not alone(accelerator))
    return DummyMedia.of_model(model.config, kinds) if kinds else None


def restore(run: Run, folder: Path) -> None:
    state = load_checkpoint(run.accelerator, folder)
    run.step = run.saved = state["step"]
    if run.step > run.steps:
        raise RunError(
            f"steps: expected {run.step} or more, since {folder} is at that step, got {run.steps}"
            " (from epochs, where steps is null)"
        )
    run.skipped.load_state_dict(state["skipped"])
    run.logged_skips = state["logged_skips"]
    if run.accelerator.is_main_process:  # it stands for what all of them had
        run.sums = list(state["sums"])


def save(run: Run) -> None:
    """A checkpoint of the last whole step."""
    with run.phase("save a checkpoint"):
        state = {
            "sums": summed(run.accelerator, run.sums),
            "skipped": run.skipped.state_dict(),
            "logged_skips": run.logged_skips,
        }
        write = partial(write_model, run)
        save_checkpoint(
            run.accelerator, write, run.out, run.step, state, run.record, run.config.keep_checkpoints
        )
    run.saved = run.step


def write_model(run: Run, folder: Path) -> None:
    """Weights, processor and card of the model as it is; all processes take part."""
    save_model(run.accelerator, run.model, run.processor, folder)
    if run.accelerator.is_main_process:
        run.card.write(folder)


def leave(run: Run) -> NoReturn:
    """Save the last whole step, if it is not yet saved, and exit as the signal says."""
    if run.saved != run.step:
        save(run)
    say(
        f"{run.stop.name}: saved {run.out / f'checkpoint-{run.step}'}; the same command with resume=auto goes on from"
        " there"
    )
    raise SystemExit(run.stop.exit_code)


def finish(run: Run) -> Path:
    """The trained model as `final/`; with LoRA the adapters in `adapter/`, and the whole model in `merged/`."""
    with run.phase("save the model"):
        if run.config.model.lora:
            with writing_folder(run.out / "adapter") as folder:
                save_adapter(run.accelerator, run.model, run.processor, folder)
        result = run.out / ("merged" if run.config.model.lora else "final")
        with writing_folder(result) as folder:
            write_model(run, folder)
        on_main(lambda: mark_finished(run.out, run.step, result))
    run.accelerator.end_training()
    say(f"reward model done: {result}, rewards sigmoid((score - {run.card.mean:.3g}) / {run.card.std:.3g})")
    return result

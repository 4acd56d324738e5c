"""A run around its steps: started, restored from a checkpoint, saved, finished."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from core.files.record import Record
from core.processes.exchange import alone, summed
from core.processes.ranks import say
from core.processes.watchdog import operation
from core.rows import Row
from core.training.finite import SkippedSteps
from core.training.optimizer import optimizer_for, prepare
from reward_models.card import Card
from reward_models.config import RewardModelConfig
from reward_models.encoding import prompt_key
from reward_models.loading import Pairs, PairSteps, model_folder
from reward_models.model import new_reward_model
from sft.order import Order, consecutive, share_of_step
from sft.supervised import run as supervised
from sft.supervised.run import SupervisedRun, begin_logs, count_steps, restored, save_result, save_step
from vlm.load import context_length
from vlm.packed.layout import DummyMedia, media_kinds
from vlm.weights import save_model

STATISTICS_ROWS = 1000
"""Training pairs from which the statistics of the scores are taken where there are no held-out ones."""


@dataclass(kw_only=True)
class Run(SupervisedRun):
    """What the loop works with.

    train, held_out, sample: this process's share of each step's pairs, of the held-out ones, and of the first STATISTICS_ROWS
    training pairs, the last two in steps_held_out and steps_sample batches. sums: since the last line in metrics.jsonl, of this
    process. card: what the checkpoint says about itself.
    """

    name: str = "reward model"
    config: RewardModelConfig
    pairs: Pairs
    train: PairSteps
    held_out: PairSteps
    sample: PairSteps
    steps_held_out: int
    steps_sample: int
    dummy: DummyMedia | None
    card: Card
    sums: list[float]


def record_of(config: RewardModelConfig, accelerator: Accelerator, rows: list[Row]) -> Record:
    """What the run is, for its folder and its checkpoints; all processes take part."""
    return supervised.record_of(config, accelerator, rows, model_folder(config), supervised.FREE)


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

    def steps_of(rows_of: Any) -> PairSteps:
        return PairSteps(
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
        steps=count_steps(config, order),
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
    begin_logs(run, "onsight-reward-model")
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
    state = restored(run, folder)
    if run.accelerator.is_main_process:  # it stands for what all of them had
        run.sums = list(state["sums"])


def save(run: Run) -> None:
    """A checkpoint of the last whole step."""
    with run.phase("save a checkpoint"):
        save_step(run, partial(write_model, run), {"sums": summed(run.accelerator, run.sums)})


def write_model(run: Run, folder: Path) -> None:
    """Weights, processor and card of the model as it is; all processes take part."""
    save_model(run.accelerator, run.model, run.processor, folder)
    if run.accelerator.is_main_process:
        run.card.write(folder)


def finish(run: Run) -> Path:
    """The trained model as `final/`; with LoRA the adapters in `adapter/`, and the whole model in `merged/`."""
    with run.phase("save the model"):
        result = save_result(run, partial(write_model, run))
    run.accelerator.end_training()
    say(f"reward model done: {result}, rewards sigmoid((score - {run.card.mean:.3g}) / {run.card.std:.3g})")
    return result

"""A run around its steps: started, restored from a checkpoint, saved, finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed

from core.errors import RunError
from core.files.checksums import damage
from core.files.model_card import Training, write_card
from core.files.record import Record
from core.processes.exchange import alone
from core.processes.ranks import on_main, say
from core.processes.watchdog import operation
from core.rows import Row
from core.training.checkpoints import load_checkpoint
from core.training.finite import SkippedSteps
from core.training.optimizer import optimizer_for, prepare
from sft.augmentation.augmenter import Augmented, Augmenter
from sft.best import Best, check_metric
from sft.config import SFTConfig
from sft.data import TraceError, check_end_token, prompt_media
from sft.loading import Encoder, Steps
from sft.metrics import Sums
from sft.order import Order, consecutive, share_of_step
from sft.rows import Rows, augmenter_of, cache_fits
from sft.supervised import run as supervised
from sft.supervised.run import (
    SupervisedRun,
    begin_logs,
    checkpoint_folder,
    count_steps,
    refuse_attention_dropout,
    restored,
    save_result,
    save_step,
)
from vlm.load import check_checkpoint, load_trainable
from vlm.packed.layout import DummyMedia, media_kinds
from vlm.weights import save_model

FREE = (
    *supervised.FREE,
    *("early_stopping.patience", "early_stopping.final"),
    *("data.max_tokens", "data.long_rows", "data.cache_rows", "data.cache_gb"),
)
"""What may change when a run is resumed (sft/supervised/run.py), SFT's own settings with it."""
LENGTH = (*supervised.LENGTH, "early_stopping.patience")


@dataclass(kw_only=True)
class Run(SupervisedRun):
    """What the loop works with.

    train, held_out: this process's share of each step's rows. sums: since the last line in metrics.jsonl. left_out: rows of
    this process that turned out to be unusable. best: evaluation so far.
    """

    name: str = "SFT"
    config: SFTConfig
    rows: Rows
    train: Steps
    held_out: Steps
    dummy: DummyMedia | None
    sums: Sums
    left_out: set[int] = field(default_factory=set)
    best: Best = field(default_factory=Best)

    @property
    def over(self) -> bool:
        """Whether the last step is done: by the length of the run, or because it stops early."""
        return super().over or self.best.enough(self.config.early_stopping)


def record_of(config: SFTConfig, accelerator: Accelerator, rows: list[Row]) -> Record:
    """What the run is, for its folder and its checkpoints; all processes take part."""
    return supervised.record_of(config, accelerator, rows, check_checkpoint(config.model.path), FREE)


def start(
    config: SFTConfig,
    accelerator: Accelerator,
    processor: Any,
    rows: Rows,
    record: Record,
    checkpoint: Path | None,
) -> Run:
    """Load the model, and restore the checkpoint if there is one."""
    check_end_token(processor)
    if config.early_stopping:
        check_metric(processor, config.early_stopping, rows.held_out)
    set_seed(config.seed)
    with operation("load the model", config.timeout_s):
        bare = load_trainable(config.model)
        refuse_attention_dropout(bare)
        model, optimizer = prepare(accelerator, bare, optimizer_for(bare, config.optimizer))
    keys = [prompt_media(row) or None for row in rows.train]
    order = Order(keys, config.rows_per_step, config.seed, config.data.rows_together)
    everything = [*rows.train, *rows.held_out]
    kinds = media_kinds(everything, bare, not alone(accelerator))
    dummy = DummyMedia.of_model(bare.config, kinds) if kinds else None
    cache = cache_fits(config, processor, rows.train)
    encoder = Encoder(processor, everything, max_frames=config.data.max_frames, cache=cache)
    ranks = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
    changes = None
    if config.data.augment:
        augmenter = augmenter_of(config, processor, rows.train)
        changes = partial(augmented, augmenter, rows.train, order.steps_per_epoch)
    held_out = partial(consecutive, len(rows.train), len(everything), config.rows_per_step)
    most = config.max_tokens_per_microbatch
    run = Run(
        config=config,
        accelerator=accelerator,
        processor=processor,
        model=model,
        optimizer=optimizer,
        rows=rows,
        order=order,
        train=Steps(
            encoder, partial(share_of_step, order.step, rows.lengths, **ranks), most, dummy, augment=changes
        ),
        held_out=Steps(encoder, partial(share_of_step, held_out, rows.lengths, **ranks), most, dummy),
        dummy=dummy,
        record=record,
        steps=count_steps(config, order),
        sums=Sums(accelerator),
        skipped=SkippedSteps(config.optimizer.max_skipped_steps),
    )
    if checkpoint is not None:
        with run.phase("restore a checkpoint"):
            restore(run, checkpoint)
    begin_logs(run, "onsight-sft")
    return run


def augmented(
    augmenter: Augmenter, rows: list[Row], steps_per_epoch: int, index: int, step: int
) -> Augmented:
    """Row `index` as a step (from 0) trains on it."""
    return augmenter(rows[index], index, step // steps_per_epoch)


def restore(run: Run, folder: Path) -> None:
    state = restored(run, folder)
    run.best = restored_best(run, state)
    if run.accelerator.is_main_process:  # it stands for what all of them had
        run.sums.restore(state["sums"])
        run.left_out = set(state["left_out"])


def restored_best(run: Run, state: dict[str, Any]) -> Best:
    """The best evaluation up to a checkpoint; a new search for it where its own checkpoint has been deleted since."""
    best = Best(**state.get("best", {}))
    if best.step and not on_main(checkpoint_folder(run, best.step).is_dir):
        say(
            f"checkpoint-{best.step}, the best until then, is not there any more: the best is now looked for from here on"
        )
        return Best()
    return best


def save(run: Run) -> None:
    """A checkpoint of the last whole step."""
    with run.phase("save a checkpoint"):
        state = {"sums": run.sums.total(), "left_out": all_left_out(run), "best": run.best.state_dict()}
        write = partial(save_model, run.accelerator, run.model, run.processor)
        save_step(run, write, state, best=run.best.step)


def all_left_out(run: Run) -> list[int]:
    """Rows of all processes that turned out to be unusable. TraceError, on all of them, if they are too many."""
    rows = {row for mine in gather_object([sorted(run.left_out)]) for row in mine}
    total = len(run.rows.train) + len(run.rows.held_out)
    if len(rows) > run.config.data.max_bad_rows * total:
        raise TraceError(
            f"{len(rows)} of {total} rows had to be left out (each was named), more than the share data.max_bad_rows ="
            f" {run.config.data.max_bad_rows:g}"
        )
    return sorted(rows)


def training(run: Run) -> Training:
    """What the final model's card says of the run."""
    config = run.config
    return Training(
        method="SFT",
        base=config.model.path,
        base_folder=check_checkpoint(config.model.path),
        data={"data.rows": config.data.rows, "data.eval_rows": config.data.eval_rows},
        rows=run.rows.train,
        steps=run.step,
        settings={
            "rows per step": config.rows_per_step,
            "learning rate": config.optimizer.learning_rate,
            "schedule": config.optimizer.schedule,
            "trained parts": f"{config.model.trainable}{', by LoRA' if config.model.lora else ''}",
            "dtype": config.model.dtype,
            "autocast": config.autocast,
            "processes": run.accelerator.num_processes,
            "seed": config.seed,
        },
    )


def finish(run: Run) -> Path:
    """The trained model as `final/`; with LoRA the adapters in `adapter/`, and the whole model in `merged/`."""
    with run.phase("save the model"):
        all_left_out(run)
        if run.config.early_stopping and run.config.early_stopping.final == "best":
            take_best(run)
        result = save_result(run, partial(write_model, run))
    run.accelerator.end_training()
    say(f"SFT done: {result}")
    return result


def write_model(run: Run, folder: Path) -> None:
    """Weights, processor and model card; all processes take part."""
    save_model(run.accelerator, run.model, run.processor, folder)
    on_main(lambda: write_card(folder, training(run), run.out / "metrics.jsonl"))


def take_best(run: Run) -> None:
    """Put the weights of the best checkpoint into the model. RunError if it is missing or damaged."""
    folder = checkpoint_folder(run, run.best.step)
    if run.best.step != run.step:
        problem = damage(folder) if on_main(folder.is_dir) else "it is not there"
        if problem:
            raise RunError(
                f"{folder}: expected the best checkpoint, to write it as the result, but {problem};"
                " early_stopping.final: last writes the last weights"
            )
        load_checkpoint(run.accelerator, folder)
    metric = run.config.early_stopping.metric if run.config.early_stopping else ""
    say(f"the result is of step {run.best.step}, the best of this run: {metric} {run.best.value:.4f}")

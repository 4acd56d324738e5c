"""A run on fixed rows: joined, its steps taken, left when asked to, saved, finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from core.errors import RunError
from core.files.disk import disk_explained
from core.files.hub.cache import used_commits
from core.files.hub.paths import PIN, TRAIN, fetch
from core.files.jsonl import append
from core.files.record import Record, model_identity, rows_identity
from core.files.run_folder import continue_logs, mark_finished, writing_folder
from core.processes.exchange import summed
from core.processes.ranks import on_main, refuse_different, say
from core.processes.stop import StopRequested, StopSignals
from core.processes.watchdog import operation, renew
from core.rows import Row
from core.trackers import check_installed, start_trackers
from core.training import joining
from core.training.checkpoints import load_checkpoint, save_checkpoint
from core.training.finite import SkippedSteps
from core.training.optimizer import learning_rate
from core.training.step import accumulating, apply_gradient, set_learning_rate
from sft.order import Order
from sft.supervised.config import SupervisedConfig, TrainingConfig
from vlm.weights import save_adapter

FREE = (
    *("steps", "epochs", "output_dir", "save_every", "keep_checkpoints", "resume", "log_every", "eval_every"),
    *("timeout_s", "report_to", "deepspeed", "max_tokens_per_microbatch", "optimizer.max_skipped_steps"),
    *("model.gradient_checkpointing", "data.limit", "data.bad_rows", "data.max_bad_rows"),
    *("data.eval_rows", "data.eval_limit", "data.workers"),
)
"""What may change when a run is resumed: its length (with it the schedule of the learning rate from there on),
bookkeeping, memory. Which rows are trained on is compared by their content."""
LENGTH = ("steps", "epochs")

Batch = TypeVar("Batch")
Rows = TypeVar("Rows")


@dataclass(kw_only=True)
class TrainingRun:
    """What the loops work with.

    name: of the kind of run, for messages. steps: of the whole run; step: those that are done. saved: step of the newest
    checkpoint. logged_skips: skipped steps that metrics.jsonl knows of.
    """

    name: str
    config: TrainingConfig
    accelerator: Accelerator
    processor: Any
    model: torch.nn.Module
    optimizer: Any
    record: Record
    steps: int
    step: int = 0
    saved: int = 0
    skipped: SkippedSteps
    logged_skips: int = 0
    stop: StopSignals = field(default_factory=StopSignals)

    @property
    def out(self) -> Path:
        return Path(self.config.output_dir)

    @property
    def over(self) -> bool:
        """Whether the last step is done."""
        return self.step >= self.steps

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A part of the run, which may not take longer than the configured time-out."""
        return operation(name, self.config.timeout_s)


@dataclass(kw_only=True)
class SupervisedRun(TrainingRun):
    """What the loops on fixed rows work with."""

    config: SupervisedConfig
    order: Order


def join(
    config: TrainingConfig, rows: Mapping[str, str | None], held_out: Mapping[str, str | None]
) -> Accelerator:
    """The processes of the launch, each with the model and the rows (by their keys in the config) within reach."""
    check_installed(config.report_to)
    fetch({"model.path": config.model.path}, rows, TRAIN)
    fetch({}, held_out)
    accelerator = joining.join_processes(
        dtype=config.model.dtype,
        autocast=config.autocast,
        precision_setting=config.PRECISION_SETTING,
        zero_values=config.zero_values,
        limit_s=config.timeout_s,
        output_dir=config.output_dir,
        deepspeed=config.deepspeed,
        report_to=config.report_to,
    )
    refuse_different(used_commits(), PIN)
    return accelerator


def record_of(
    config: SupervisedConfig, accelerator: Accelerator, rows: list[Row], model: Path, free: Sequence[str]
) -> Record:
    """What the run is, for its folder and its checkpoints; all processes take part. model: folder of the checkpoint that it
    starts from. free: settings that may change when it is resumed."""

    def content() -> dict[str, str]:
        return {"data.rows": rows_identity(rows, config.data.rows), "model.path": model_identity(model)}

    return joining.record_of_run(config, accelerator, content, free)


def count_steps(config: SupervisedConfig, order: Order) -> int:
    """Steps of the whole run."""
    return config.steps or math.ceil(config.epochs * order.steps_per_epoch)


def read_ahead(dataset: Dataset, steps: Sequence[int], workers: int) -> Iterator[Any]:
    """What `dataset` has for these steps, in order."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        # fresh processes: a copy of one that has threads may wait for ever for a lock that one of these held
        multiprocessing_context="spawn" if workers else None,
        collate_fn=_unchanged,
        generator=torch.Generator(),  # the run's own random numbers stay as they are
    )
    return iter(loader)


def _unchanged(item: Any) -> Any:
    return item


@contextmanager
def taking_steps(run: TrainingRun, save: Callable[[], None]) -> Iterator[tqdm]:
    """The progress bar of the loop; a StopRequested that leaves the block ends the run as the signal says, saved by `save`."""
    main = run.accelerator.is_main_process
    bar = tqdm(
        total=run.steps, initial=run.step, desc=run.name, unit="step", mininterval=1.0, disable=not main
    )
    try:
        yield bar
    except StopRequested:
        leave(run, save)
    finally:
        bar.close()


def take_gradient(
    run: TrainingRun, batches: Sequence[Batch], summed_loss: Callable[[Batch], Tensor], count: float
) -> dict[str, float]:
    """One optimizer step; a step that is not finite is skipped by all processes. Returns learning rate and gradient norm.

    summed_loss: of a micro-batch, summed over what `count`, the number in the step on this process, counts: the gradient
    is that of the mean over all processes. All processes have the same number of batches.
    """
    config, accelerator = run.config, run.accelerator
    (total,) = summed(accelerator, [count])
    rate = learning_rate(config.optimizer, run.step, run.steps)
    set_learning_rate(run.optimizer, rate)
    for i, batch in enumerate(batches):
        renew(f"micro-batch {i + 1} of {len(batches)}")
        with accumulating(accelerator, run.model, last=i == len(batches) - 1):
            loss = summed_loss(batch)
            if loss.requires_grad:  # not if the vision tower trains alone, in one process, on text
                # DDP and ZeRO average gradients over the processes
                accelerator.backward(loss * (accelerator.num_processes / max(1.0, total)))
    renew("optimizer step")
    norm = apply_gradient(accelerator, run.optimizer, config.optimizer.max_grad_norm)
    if skipped := run.skipped.look(run.step + 1, {"learning rate": rate, "gradient norm": norm}):
        say(skipped)
    return {"learning_rate": rate, "grad_norm": norm}


def progress_metrics(
    run: SupervisedRun, tokens: float, computed: float, seconds: float
) -> dict[str, int | float]:
    """For a line in metrics.jsonl: tokens of all rows, each as if alone, and those that went through the model, since the
    last line, which was `seconds` ago."""
    since, run.logged_skips = run.logged_skips, run.skipped.total
    return {
        "epoch": run.step / run.order.steps_per_epoch,
        "steps/skipped": run.skipped.total - since,
        "tokens/shared": 1 - computed / max(1.0, tokens),
        "tokens_per_second": round(tokens / seconds, 1),
    }


def write(run: TrainingRun, metrics: dict[str, Any]) -> None:
    """One line in metrics.jsonl, by the main process, and the same to the trackers."""
    if run.accelerator.is_main_process:
        path = run.out / "metrics.jsonl"
        with disk_explained(path):
            append(path, [{"step": run.step} | metrics])
    if run.config.report_to:
        run.accelerator.log({k: v for k, v in metrics.items() if isinstance(v, float)}, step=run.step)


def begin_logs(run: TrainingRun, project: str) -> None:
    """metrics.jsonl up to where the run stands, and the trackers."""
    continue_logs(run.out, ("metrics.jsonl",), run.step, say)
    start_trackers(run.accelerator, run.config, run.config.report_to, project)


def restored(run: TrainingRun, folder: Path) -> dict[str, Any]:
    """Restore a checkpoint, and return what the loop saved in it. RunError if the run is now shorter than that."""
    state = load_checkpoint(run.accelerator, folder)
    run.step = run.saved = state["step"]
    if run.step > run.steps:
        raise RunError(
            f"steps: expected {run.step} or more, since {folder} is at that step, got {run.steps}"
            " (from epochs, where steps is null)"
        )
    run.skipped.load_state_dict(state["skipped"])
    run.logged_skips = state["logged_skips"]
    return state


def refuse_attention_dropout(model: torch.nn.Module) -> None:
    """Raise ValueError where the language model drops attention weights: packed attention does not."""
    rate = getattr(model.config.get_text_config(), "attention_dropout", 0.0)
    if rate:
        raise ValueError(f"{model.config.name_or_path}: expected attention_dropout 0, got {rate}")


def checkpoint_folder(run: TrainingRun, step: int) -> Path:
    return run.out / f"checkpoint-{step}"


def save_step(
    run: TrainingRun, write_model: Callable[[Path], None], state: dict[str, Any], best: int = 0
) -> None:
    """A checkpoint of the last whole step, with `state` in it; that of step `best` is kept."""
    state = {"skipped": run.skipped.state_dict(), "logged_skips": run.logged_skips} | state
    keep = run.config.keep_checkpoints
    save_checkpoint(run.accelerator, write_model, run.out, run.step, state, run.record, keep, best=best)
    run.saved = run.step


def leave(run: TrainingRun, save: Callable[[], None]) -> NoReturn:
    """Save the last whole step, if it is not yet saved, and exit as the signal says."""
    if run.saved != run.step:
        save()
    say(
        f"{run.stop.name}: saved {checkpoint_folder(run, run.step)}; the same command with resume=auto goes on from"
        " there"
    )
    raise SystemExit(run.stop.exit_code)


def save_result(run: TrainingRun, write_model: Callable[[Path], None]) -> Path:
    """The trained model as `final/`; with LoRA the adapters in `adapter/`, and the whole model in `merged/`."""
    if run.config.model.lora:
        with writing_folder(run.out / "adapter") as folder:
            save_adapter(run.accelerator, run.model, run.processor, folder)
    result = run.out / ("merged" if run.config.model.lora else "final")
    with writing_folder(result) as folder:
        write_model(folder)
    on_main(lambda: mark_finished(run.out, run.step, result))
    return result

"""What a run shows and keeps: phase lines, a progress bar, metrics.jsonl."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from core.errors import RunError
from core.files.disk import disk_explained
from core.files.jsonl import append
from core.processes.stop import StopSignals
from core.processes.watchdog import operation, renew


def say(text: str) -> None:
    """A plain line, from the first process alone."""
    if os.environ.get("RANK", "0") == "0":
        tqdm.write(text)


class Progress(TrainerCallback):
    """A progress bar over steps with the latest loss."""

    bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="SFT", unit="step", mininterval=1.0
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class Watch(TrainerCallback):
    """Tells the watchdog which step this is; none of its parts may take longer than `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.now = ExitStack()

    def at(self, name: str) -> None:
        self.now.close()
        self.now.enter_context(operation(name, self.limit_s))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.at("start of training")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.at(f"step {state.global_step + 1}")

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        renew("next micro-batch")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        renew("optimizer step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.at(f"logging, evaluation or checkpoint after step {state.global_step}")

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        renew("evaluation")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.now.close()


class Metrics(TrainerCallback):
    """One JSON object per log in metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs and ("loss" in logs or "eval_loss" in logs):
            names = [k for k in logs if not k.startswith("eval_") or k.startswith("eval_loss")]
            record = {"step": state.global_step} | {k: logs[k] for k in names if k not in ("step",)}
            with disk_explained(self.path):
                append(self.path, [record])


class StopWhenAsked(TrainerCallback):
    """Saves and ends the training after the step in which a signal came to any process (stopped: whether one did), and
    before the first where the checkpoint is past the last."""

    def __init__(self, stop: StopSignals) -> None:
        self.stop, self.stopped = stop, False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > state.max_steps:
            raise RunError(
                f"optim.max_steps: expected {state.global_step} or more, since the checkpoint is at that step, got"
                f" {state.max_steps} (from optim.epochs, where max_steps is null)"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stop.agreed():
            self.stopped = control.should_save = control.should_training_stop = True

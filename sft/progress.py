"""What a run shows and keeps: phase lines, a progress bar, metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from core.jsonl import append, keep_until


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


class Metrics(TrainerCallback):
    """One JSON object per log in metrics.jsonl; a resumed run first drops the lines after its checkpoint."""

    def __init__(self, path: Path, resume: Path | None) -> None:
        self.path = path
        if os.environ.get("RANK", "0") != "0":
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        last = json.loads((resume / "trainer_state.json").read_text())["global_step"] if resume else 0
        keep_until(path, last)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs and ("loss" in logs or "eval_loss" in logs):
            names = [k for k in logs if not k.startswith("eval_") or k.startswith("eval_loss")]
            record = {"step": state.global_step} | {k: _json(logs[k]) for k in names if k not in ("step",)}
            append(self.path, [record])


def _json(value: Any) -> Any:
    """Infinity and not-a-number, which JSON lacks, as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

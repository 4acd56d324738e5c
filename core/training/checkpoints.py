"""Checkpoints to resume from: a folder that transformers loads, with the trainer's state inside (written atomically, with
checksums: core/files/run_folder.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from core.files.record import Record
from core.files.run_folder import writing_checkpoint

STATE = "trainer_state"
PROGRESS = "loop.json"


def save_checkpoint(
    accelerator: Accelerator,
    save_model: Callable[[Path], None],
    run: Path,
    step: int,
    state: dict[str, Any],
    record: Record,
    keep: int | None,
    best: int = 0,
) -> None:
    """Write `run/checkpoint-<step>` and delete all but the newest `keep` (None: none) and that of step `best`; all
    processes take part.

    save_model: writes the model into a folder, for other programs. state: what the loop needs besides model, optimizer
    and random numbers, as JSON; that of the main process is kept.
    """
    with writing_checkpoint(run, step, record, keep, best) as folder:
        save_model(folder)
        accelerator.save_state(str(folder / STATE))
        if accelerator.is_main_process:
            (folder / STATE / PROGRESS).write_text(json.dumps({"step": step, **state}) + "\n")


def load_checkpoint(accelerator: Accelerator, folder: Path) -> dict[str, Any]:
    """Restore model, optimizer and random numbers; return what `save_checkpoint` was given as `state`, and `step`."""
    accelerator.load_state(str(folder / STATE))
    state: dict[str, Any] = json.loads((folder / STATE / PROGRESS).read_text())
    return state

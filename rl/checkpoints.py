"""Checkpoints: a folder that vLLM and transformers load, with the trainer's state inside, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

STATE = "trainer_state"


def save_model(accelerator: Accelerator, model: Any, processor: Any, folder: Path) -> None:
    """Weights (adapters merged) and processor, by the main process; all processes take part in gathering them."""
    from rl.weights import named_weights

    bare = accelerator.unwrap_model(model)
    gather_here = accelerator.is_main_process
    tied = bare.config.tie_word_embeddings
    # A copy of each weight: it lives only while the iterator stands on it. On all but the main process nothing is kept.
    state = {
        name: weight.cpu().clone()
        for name, weight in named_weights(bare)
        if gather_here and not (tied and name == "lm_head.weight")
    }
    if gather_here:
        model_to_save = bare.get_base_model() if hasattr(bare, "get_base_model") else bare
        model_to_save.save_pretrained(folder, state_dict=state)
        processor.save_pretrained(folder)
    accelerator.wait_for_everyone()


def save_checkpoint(
    accelerator: Accelerator,
    model: Any,
    processor: Any,
    run: Path,
    step: int,
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write `run/checkpoint-<step>` under another name, rename it, delete all but the newest `keep`."""
    folder, partial = run / f"checkpoint-{step}", run / f".checkpoint-{step}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    save_model(accelerator, model, processor, partial)
    accelerator.save_state(str(partial / STATE))
    accelerator.wait_for_everyone()  # each process writes its own part; only then may the folder get its name
    if accelerator.is_main_process:
        (partial / STATE / "loop.json").write_text(json.dumps({"step": step, **state}) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        for old in checkpoints(run)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return folder


def load_checkpoint(accelerator: Accelerator, folder: Path) -> dict[str, Any]:
    """Restore model, optimizer and random numbers; return what `save_checkpoint` was given as `state`, and `step`."""
    file = folder / STATE / "loop.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: expected a checkpoint with {STATE}/loop.json to resume from")
    accelerator.load_state(str(folder / STATE))
    return json.loads(file.read_text())


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [p for p in run.glob("checkpoint-*") if (p / STATE / "loop.json").is_file()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")))


def find_resume(resume: str, run: Path) -> Path | None:
    """The checkpoint that the config's `resume` means.

    Raises FileExistsError if a run is there and `resume` is "never"; FileNotFoundError if the named one is not there.
    """
    there = checkpoints(run)
    if resume == "auto":
        return there[-1] if there else None
    if resume == "never":
        if there or (run / "metrics.jsonl").exists():
            raise FileExistsError(
                f"{run} already holds a run; remove it, choose another output_dir, or resume: auto"
            )
        return None
    if not Path(resume).is_dir():
        raise FileNotFoundError(f"resume: no checkpoint at {resume}")
    return Path(resume)

"""Checkpoints: a folder that vLLM and transformers load, with the trainer's state inside (whole or not at all, and with
checksums: core/files/run_folder.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from core.files.record import Record, model_identity, rows_identity
from core.files.run_folder import writing_checkpoint
from core.processes.ranks import on_main
from core.rows import Row
from rl.config import GRPOConfig
from vlm.load import check_checkpoint

STATE = "trainer_state"
FREE = (
    *("steps", "output_dir", "save_every", "keep_checkpoints", "resume", "report_to", "checks", "timeouts"),
    *(
        "prompts.limit",
        "prompts.bad_rows",
        "prompts.max_bad_rows",
        "model.gradient_checkpointing",
        "optimizer.max_skipped_steps",
        "max_tokens_per_microbatch",
    ),
    *("rollout.overlap_rewards", "rewards.workers", "rewards.timeout_s", "rewards.start_timeout_s"),
    *("rewards.max_failure_rate", "rewards.failure_window", "rewards.failure_min"),
    *("engine.max_model_len", "engine.max_num_seqs", "engine.max_num_batched_tokens", "engine.block_size"),
    *("engine.gpu_memory_utilization", "engine.cpu_kvcache_gb", "engine.enforce_eager", "engine.sleep"),
    *("engine.images_per_prompt", "engine.videos_per_prompt", "engine.threads"),
)
"""What may change when a run is resumed: its length, bookkeeping, memory, limits. `prompts.limit` is seen in the rows."""


def record_of(config: GRPOConfig, accelerator: Accelerator, rows: list[Row]) -> Record:
    """What the run is, for its folder and its checkpoints; all processes take part."""
    plugin = accelerator.state.deepspeed_plugin
    parallel = f"ZeRO-{plugin.zero_stage}" if plugin is not None else accelerator.distributed_type.value
    content = on_main(
        lambda: {
            "prompts.rows": rows_identity(rows, config.prompts.rows),
            "model.path": model_identity(check_checkpoint(config.model.path)),
        }
    )
    return Record(config, content | {"processes": f"{accelerator.num_processes}, {parallel}"}, FREE)


def save_model(accelerator: Accelerator, model: Any, processor: Any, folder: Path) -> None:
    """Weights (adapters merged) and processor, by the main process; all processes take part in gathering them."""
    from engines.weights import named_weights

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
    record: Record,
    keep: int,
) -> None:
    """Write `run/checkpoint-<step>` and delete all but the newest `keep`."""
    with writing_checkpoint(run, step, record, keep) as folder:
        save_model(accelerator, model, processor, folder)
        accelerator.save_state(str(folder / STATE))
        if accelerator.is_main_process:
            (folder / STATE / "loop.json").write_text(json.dumps({"step": step, **state}) + "\n")


def load_checkpoint(accelerator: Accelerator, folder: Path) -> dict[str, Any]:
    """Restore model, optimizer and random numbers; return what `save_checkpoint` was given as `state`, and `step`."""
    accelerator.load_state(str(folder / STATE))
    state: dict[str, Any] = json.loads((folder / STATE / "loop.json").read_text())
    return state

"""The record of a GRPO run, which its folder and checkpoints carry and a resume is compared with."""

from __future__ import annotations

from accelerate import Accelerator

from core.files.record import Record, model_identity, rows_identity
from core.rows import Row
from core.training.joining import record_of_run
from rl.config import GRPOConfig
from rl.distillation.config import CheckpointTeacherConfig
from vlm.load import check_checkpoint

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
    *(
        f"distillation.teacher.{name}"
        for name in ("url", "api_key_env", "concurrency", "timeout_s", "retry_for_s")
    ),
)
"""Settings that may change when a run is resumed: length, bookkeeping, memory, limits. `prompts.limit` shows in the rows."""


def teacher_path(config: GRPOConfig) -> dict[str, str]:
    """{setting: path} of the teacher's checkpoint; empty if it is none."""
    if config.distillation is None or not isinstance(config.distillation.teacher, CheckpointTeacherConfig):
        return {}
    return {"distillation.teacher.path": config.distillation.teacher.path}


def record_of(config: GRPOConfig, accelerator: Accelerator, rows: list[Row]) -> Record:
    """The config, and the identity of rows and model. All processes must call it."""
    models = {"model.path": config.model.path} | teacher_path(config)

    def content() -> dict[str, str]:
        identities = {name: model_identity(check_checkpoint(path)) for name, path in models.items()}
        return {"prompts.rows": rows_identity(rows, config.prompts.rows), **identities}

    return record_of_run(config, accelerator, content, FREE)

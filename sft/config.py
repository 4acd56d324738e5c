"""Configuration of `sft.py`: one typed model, every field explained, unknown keys refused."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.files.paths import PathText
from core.training.precision import training_precision
from core.training.zero import ZeroValues
from vlm.checkpoint import hidden_size
from vlm.load import ModelConfig


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(_Strict):
    """Rows with traces to train on, and how they become batches."""

    train: PathText
    """Rows with a `trace` (core/rows.py): a .jsonl or .parquet file, a folder of .parquet files, a `datasets` folder."""
    eval: PathText | None = None
    """Held-out rows with a `trace`; their loss is logged as eval_loss every `eval_steps`. null: no evaluation."""
    limit: int | None = Field(None, ge=1)
    """Train on the first so many rows; null: all."""
    eval_limit: int | None = Field(None, ge=1)
    """Evaluate on the first so many rows; null: all."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest allowed row, in tokens of prompt, media and trace. Rows are never truncated. null: no limit."""
    long_rows: Literal["error", "drop"] = "error"
    """What to do with rows above `max_tokens`: stop with their ids, or leave them out, counted and listed."""
    bad_rows: Literal["error", "drop"] = "error"
    """Rows that the look before the run finds unusable (media that do not decode, traces that cannot be targets, special
    tokens in texts, more tokens than the model's context): error stops with their ids and reasons; drop leaves them out,
    counted and listed."""
    max_bad_rows: float = Field(0.01, ge=0, le=1)
    """Largest share of the rows that may be left out: by `bad_rows: drop` at the start, or because they turn out to be
    unusable during the run (files that have changed). Above it the run stops."""
    max_frames: int = Field(256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate over their whole length."""
    sort_within_step: bool = True
    """Deal each step's rows to its micro-batches in order of length: less padding. The rows of a step, and so its
    gradient, stay the same; it matters only with gradient_accumulation_steps > 1 or several processes."""
    cache_rows: bool | Literal["auto"] = "auto"
    """Keep encoded rows (tokens and pixels) in memory after the first use. auto: if all fit into `cache_gb`."""
    cache_gb: float = Field(2.0, gt=0)
    """Memory one process may use for the cache under `cache_rows: auto`, in GB."""
    workers: int = Field(0, ge=0)
    """Processes per trainer process that decode and encode rows ahead of the training; 0: in the trainer itself."""


class OptimConfig(_Strict):
    """Length of the run, batch, optimiser and schedule."""

    epochs: float = Field(1.0, gt=0)
    """Passes over the training rows; not used if `max_steps` is set."""
    max_steps: int | None = Field(None, ge=1)
    """Optimiser steps of the run, in place of `epochs`; null: by epochs."""
    per_device_batch_size: int = Field(8, ge=1)
    """Rows per process and micro-batch."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Micro-batches per step. A step's loss is the mean over all its target tokens, however they are divided."""
    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Form of the decay after the warm-up."""
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Learning rate at the end, as a share of `learning_rate`."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay (not on norms and biases)."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's decay of the first moment."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """AdamW's decay of the second moment."""
    epsilon: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this norm; 0: no clipping."""
    max_skipped_steps: int = Field(3, ge=0)
    """A step whose learning rate, loss or gradient is not finite is skipped; more than so many in a row stop the run."""
    autocast: Literal["none", "bfloat16"] = "none"
    """bfloat16: compute in bfloat16 with the weights kept as loaded (mixed precision)."""
    seed: int = 0
    """Order of the rows, dropout, fresh adapters."""


class SFTConfig(_Strict):
    """Everything `sft.py` needs."""

    PRECISION_SETTING: ClassVar[str] = "optim.autocast"

    model: ModelConfig
    """The model to start from and the parts of it that train."""
    data: DataConfig
    """Rows and batches."""
    optim: OptimConfig = OptimConfig()
    """Length of the run, batch, optimiser and schedule."""
    output_dir: PathText
    """Folder of the run: checkpoints, metrics.jsonl, and at the end `final/` (or `adapter/` and `merged/` with LoRA)."""
    save_steps: int | None = Field(None, ge=1)
    """A checkpoint to resume from every so many steps; null: none."""
    save_total_limit: int | None = Field(None, ge=1)
    """Checkpoints kept, the newest ones; null: all."""
    resume: Literal["auto"] | PathText | Literal[False] = False
    """false: a fresh run (an old one in `output_dir` is then an error); auto: from the newest whole checkpoint in
    `output_dir`, if there is one; or a checkpoint's path. Settings that decide the numbers must be as they were."""
    logging_steps: int = Field(10, ge=1)
    """A line in metrics.jsonl every so many steps."""
    eval_steps: int = Field(500, ge=1)
    """Evaluation every so many steps, where `data.eval` is set."""
    timeout_s: float = Field(1800, gt=0)
    """Longest that a micro-batch, an evaluation batch or a checkpoint may take, waiting for other processes included; then
    the run is ended, with an error that names rank and step (core/processes/watchdog.py)."""
    report_to: Literal["none", "tensorboard", "wandb"] = "none"
    """Where metrics go beside metrics.jsonl."""
    deepspeed: PathText | None = None
    """DeepSpeed config (launch/deepspeed/*.json), unless `accelerate launch` brings one; null: none."""

    @model_validator(mode="after")
    def _consistent(self) -> SFTConfig:
        if self.optim.max_steps and self.optim.warmup_steps > self.optim.max_steps:
            raise ValueError(
                f"optim.warmup_steps ({self.optim.warmup_steps}) exceeds optim.max_steps ({self.optim.max_steps})"
            )
        return self

    def zero_values(self, processes: int) -> ZeroValues:
        """What DeepSpeed's config leaves to the run."""
        optim = self.optim
        return ZeroValues(
            precision=training_precision(self.model.dtype, optim.autocast),
            processes=processes,
            micro_batch=optim.per_device_batch_size,
            accumulation=optim.gradient_accumulation_steps,
            learning_rate=optim.learning_rate,
            betas=(optim.beta1, optim.beta2),
            epsilon=optim.epsilon,
            weight_decay=optim.weight_decay,
            max_grad_norm=optim.max_grad_norm,
            hidden_size=partial(hidden_size, self.model.path),
        )

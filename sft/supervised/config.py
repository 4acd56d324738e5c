"""Settings of every run that trains on fixed rows: SFT's, and a reward model's."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from core.config.section import Section
from core.files.paths import PathText
from core.training.optimizer import OptimizerConfig
from core.training.precision import training_precision
from core.training.zero import ZeroValues
from vlm.checkpoint import hidden_size
from vlm.load import ModelConfig


class SupervisedDataConfig(Section):
    """Rows to train on, and held-out ones."""

    rows: PathText
    """Rows to train on: a .jsonl or .parquet file, a folder of .parquet files, a `datasets` folder, or a Hub id
    (docs/hub.md)."""
    eval_rows: PathText | None = None
    """Held-out rows, evaluated every `eval_every` steps; null: no evaluation."""
    limit: int | None = Field(None, ge=1)
    """Train on the first N rows; null: all."""
    eval_limit: int | None = Field(None, ge=1)
    """Evaluate on the first N rows; null: all."""
    max_bad_rows: float = Field(0.01, ge=0, le=1)
    """Largest share of the rows that may be left out; above it the run stops."""
    max_frames: int = Field(256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate over their whole length."""
    workers: int = Field(0, ge=0)
    """Processes per trainer process that decode and encode rows ahead of the training; 0: in the trainer itself."""


class _Parts(Section):
    """What is trained, and on what."""

    model: ModelConfig
    """The model to start from and the parts of it that train."""
    data: Section
    """Which rows, and how they are prepared."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How the gradient is applied."""


class TrainingConfig(_Parts):
    """Settings of every run that trains a model on rows."""

    PRECISION_SETTING: ClassVar[str] = "autocast"

    autocast: Literal["none", "bfloat16"] = "none"
    """bfloat16: compute in bfloat16 with the weights kept as loaded (mixed precision)."""
    seed: int = 0
    """Random seed for the order of rows, dropout and new adapters."""
    output_dir: PathText
    """Run folder: metrics.jsonl, checkpoint-*/, and at the end final/ (or adapter/ and merged/ with LoRA)."""
    save_every: int | None = Field(None, ge=1)
    """Steps between checkpoints; null: only when the run is stopped by a signal."""
    keep_checkpoints: int | None = Field(2, ge=1)
    """Number of newest checkpoints to keep; null: all."""
    resume: Literal["auto", "never"] | PathText = "auto"
    """auto: from the newest whole checkpoint in output_dir, if there is one; never: start a new run (an old run in
    output_dir is then an error); or the path of a checkpoint. Settings that affect the numbers must be unchanged."""
    log_every: int = Field(10, ge=1)
    """Steps between lines in metrics.jsonl."""
    eval_every: int = Field(500, ge=1)
    """Steps between evaluations, where `data.eval_rows` is set; there is one after the last step, too."""
    timeout_s: float = Field(1800, gt=0)
    """Longest that a micro-batch, an evaluation batch or a checkpoint may take, waiting for other processes included; after
    that the run is ended with an error that names rank and step (core/processes/watchdog.py)."""
    report_to: list[Literal["tensorboard", "wandb"]] = []
    """Trackers used through accelerate, in addition to metrics.jsonl; their packages must be installed. WANDB_PROJECT names
    the project."""
    deepspeed: PathText | None = None
    """DeepSpeed config (launch/deepspeed/*.json), unless `accelerate launch` brings one; null: none."""

    def zero_values(self, processes: int) -> ZeroValues:
        """Values for the "auto" entries of DeepSpeed's config."""
        precision = training_precision(self.model.dtype, self.autocast)
        return self.optimizer.zero_values(precision, processes, partial(hidden_size, self.model.path))


class _FixedRows(_Parts):
    """How fixed rows become steps."""

    epochs: float = Field(1.0, gt=0)
    """Passes over the training rows; ignored if `steps` is set."""
    steps: int | None = Field(None, ge=1)
    """Number of optimizer steps, instead of `epochs`; null: use `epochs`."""
    rows_per_step: int = Field(32, ge=1)
    """Rows of one optimizer step, over all processes; the last step of an epoch takes the remaining ones."""
    max_tokens_per_microbatch: int = Field(16384, ge=1)
    """Tokens that go through the model at a time (what several rows share counts once); the result does not depend on it,
    memory does. A row longer than this is a micro-batch by itself."""

    @model_validator(mode="after")
    def _warm_up_fits(self) -> _FixedRows:
        if self.steps and self.optimizer.warmup_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps ({self.optimizer.warmup_steps}) exceeds steps ({self.steps})"
            )
        return self


class SupervisedConfig(
    TrainingConfig, _FixedRows
):  # fields come in the order of the bases from the last one on
    """Settings of every run that trains on fixed rows."""

    data: SupervisedDataConfig
    """Which rows, and how they are prepared."""

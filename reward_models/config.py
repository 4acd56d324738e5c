"""Configuration of `reward_model.py`: one typed model, every field explained, unknown keys refused."""

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


class PairsConfig(Section):
    """Preference rows (core/pairs.py), and how they become batches."""

    rows: PathText
    """Preference rows to train on: a .jsonl or .parquet file, a folder of .parquet files, a `datasets` folder."""
    eval_rows: PathText | None = None
    """Held-out preference rows: accuracy by source, calibration and length bias every `eval_every` steps and at the end,
    when the statistics of the scores are taken from them too. null: no evaluation, and statistics of the training rows."""
    limit: int | None = Field(None, ge=1)
    """Train on the first N rows; null: all."""
    eval_limit: int | None = Field(None, ge=1)
    """Evaluate on the first N rows; null: all."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest allowed sequence: prompt, media and one response. It is kept in the checkpoint, and longer responses are not
    scored by it. null: the model's context."""
    bad_rows: Literal["error", "drop"] = "error"
    """Rows that the check before the run finds unusable (media that do not decode, special tokens in texts, more than
    `max_tokens`): error stops with their ids and reasons; drop leaves them out, counted and listed."""
    max_bad_rows: float = Field(0.01, ge=0, le=1)
    """Largest share of the rows that may be left out; above it the run stops."""
    max_frames: int = Field(256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate over their whole length."""
    rows_together: int = Field(8, ge=1)
    """Largest number of pairs about the same prompt that the seeded order keeps together: the prompt, its media and equal
    responses are then computed once for all of them."""
    workers: int = Field(0, ge=0)
    """Processes per trainer process that decode and encode rows ahead of the training; 0: in the trainer itself."""


class RewardOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule, with the usual values of reward models."""

    learning_rate: float = Field(default=5e-6, gt=0)
    """Peak learning rate, at the end of the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Form of the decay after the warm-up, down to `min_lr_ratio` at the last step."""


class RewardModelConfig(Section):
    """Everything `reward_model.py` needs."""

    PRECISION_SETTING: ClassVar[str] = "autocast"

    kind: Literal["multimodal", "text"]
    """multimodal: the whole vision-language model of `model.path`. text: its language model alone, or a causal language model
    of transformers in `model.path`; rows with images or videos are then unusable."""
    model: ModelConfig
    """The model to start from (usually an SFT checkpoint) and the parts of it that train; the head always does."""
    data: PairsConfig
    """Which rows, and how they are prepared."""
    margin_scale: float = Field(0.0, ge=0)
    """The scores of a pair should differ by this times the row's `margin` (a row without one: 0). 0: no margin."""
    centre_coefficient: float = Field(0.01, ge=0)
    """Weight of (chosen + rejected)^2 in the loss, which keeps scores around 0. 0: nothing fixes their level."""
    optimizer: RewardOptimizerConfig = RewardOptimizerConfig()
    """How the gradient is applied."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the training rows; ignored if `steps` is set. Reward models are commonly trained for one."""
    steps: int | None = Field(None, ge=1)
    """Number of optimizer steps, instead of `epochs`; null: use `epochs`."""
    rows_per_step: int = Field(64, ge=1)
    """Pairs of one optimizer step, over all processes; a step's loss is the mean over them, however they are divided."""
    max_tokens_per_microbatch: int = Field(16384, ge=1)
    """Tokens that go through the model at a time (what several pairs share counts once); the result does not depend on it,
    memory does. A pair longer than this is a micro-batch by itself."""
    autocast: Literal["none", "bfloat16"] = "none"
    """bfloat16: compute in bfloat16 with the weights kept as loaded (mixed precision). The head computes in float32."""
    seed: int = 0
    """Random seed for the order of rows, dropout and new adapters."""
    output_dir: PathText
    """Run folder: metrics.jsonl, evaluation.json, checkpoint-*/, and at the end final/ (or adapter/ and merged/)."""
    save_every: int | None = Field(None, ge=1)
    """Steps between checkpoints; null: only when the run is stopped by a signal."""
    keep_checkpoints: int | None = Field(2, ge=1)
    """Number of newest checkpoints to keep; null: all."""
    resume: Literal["auto", "never"] | PathText = "auto"
    """auto: from the newest whole checkpoint in output_dir, if there is one; never: start a new run (an old run in
    output_dir is then an error); or the path of a checkpoint. Settings that affect the numbers must be unchanged."""
    log_every: int = Field(10, ge=1)
    """Steps between lines in metrics.jsonl."""
    eval_every: int = Field(200, ge=1)
    """Steps between evaluations, where `data.eval_rows` is set."""
    timeout_s: float = Field(1800, gt=0)
    """Longest that a micro-batch, an evaluation batch or a checkpoint may take, waiting for other processes included; after
    that the run is ended with an error that names rank and step (core/processes/watchdog.py)."""
    report_to: list[Literal["tensorboard", "wandb"]] = []
    """Trackers used through accelerate, in addition to metrics.jsonl; their packages must be installed."""
    deepspeed: PathText | None = None
    """DeepSpeed config (launch/deepspeed/*.json), unless `accelerate launch` brings one; null: none."""

    @model_validator(mode="after")
    def _consistent(self) -> RewardModelConfig:
        if self.kind == "text" and self.model.trainable not in ("all", "language"):
            raise ValueError(
                f"model.trainable: expected all or language for kind: text, got {self.model.trainable}"
            )
        if self.steps and self.optimizer.warmup_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps ({self.optimizer.warmup_steps}) exceeds steps ({self.steps})"
            )
        return self

    def zero_values(self, processes: int) -> ZeroValues:
        """Values for the "auto" entries of DeepSpeed's config."""
        precision = training_precision(self.model.dtype, self.autocast)
        return self.optimizer.zero_values(precision, processes, partial(hidden_size, self.model.path))

"""Configuration of `reward_model.py`: one typed model, every field explained, unknown keys refused."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from core.files.paths import PathText
from core.training.optimizer import OptimizerConfig
from sft.supervised.config import SupervisedConfig, SupervisedDataConfig


class PairsConfig(SupervisedDataConfig):
    """Preference rows (core/pairs.py), and how they become batches."""

    rows: PathText
    """Preference rows to train on: a .jsonl or .parquet file, a folder of .parquet files, a `datasets` folder."""
    eval_rows: PathText | None = None
    """Held-out preference rows: accuracy by source, calibration and length bias every `eval_every` steps and at the end,
    when the statistics of the scores are taken from them too. null: no evaluation, and statistics of the training rows."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest allowed sequence: prompt, media and one response. It is kept in the checkpoint, and longer responses are not
    scored by it. null: the model's context."""
    bad_rows: Literal["error", "drop"] = "error"
    """Rows that the check before the run finds unusable (media that do not decode, special tokens in texts, more than
    `max_tokens`): error stops with their ids and reasons; drop leaves them out, counted and listed."""
    rows_together: int = Field(8, ge=1)
    """Largest number of pairs about the same prompt that the seeded order keeps together: the prompt, its media and equal
    responses are then computed once for all of them."""


class RewardOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule, with the usual values of reward models."""

    learning_rate: float = Field(default=5e-6, gt=0)
    """Peak learning rate, at the end of the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Form of the decay after the warm-up, down to `min_lr_ratio` at the last step."""


class RewardModelConfig(SupervisedConfig):
    """Everything `reward_model.py` needs."""

    kind: Literal["multimodal", "text"]
    """multimodal: the whole vision-language model of `model.path`. text: its language model alone, or a causal language model
    of transformers in `model.path`; rows with images or videos are then unusable."""
    data: PairsConfig
    """Which rows, and how they are prepared."""
    margin_scale: float = Field(0.0, ge=0)
    """The scores of a pair should differ by this times the row's `margin` (a row without one: 0). 0: no margin."""
    centre_coefficient: float = Field(0.01, ge=0)
    """Weight of (chosen + rejected)^2 in the loss, which keeps scores around 0. 0: nothing fixes their level."""
    optimizer: RewardOptimizerConfig = RewardOptimizerConfig()
    """How the gradient is applied."""
    rows_per_step: int = Field(64, ge=1)
    """Pairs of one optimizer step, over all processes; a step's loss is the mean over them, however they are divided."""
    autocast: Literal["none", "bfloat16"] = "none"
    """bfloat16: compute in bfloat16 with the weights kept as loaded (mixed precision). The head computes in float32."""
    output_dir: PathText
    """Run folder: metrics.jsonl, evaluation.json, checkpoint-*/, and at the end final/ (or adapter/ and merged/)."""
    eval_every: int = Field(200, ge=1)
    """Steps between evaluations, where `data.eval_rows` is set."""

    @model_validator(mode="after")
    def _consistent(self) -> RewardModelConfig:
        if self.kind == "text" and self.model.trainable not in ("all", "language"):
            raise ValueError(
                f"model.trainable: expected all or language for kind: text, got {self.model.trainable}"
            )
        return self

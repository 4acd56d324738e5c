"""Configuration of `sft.py`: one typed model, every field explained, unknown keys refused."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from core.config.section import Section
from core.files.paths import PathText
from core.training.optimizer import OptimizerConfig
from sft.supervised.config import SupervisedConfig, SupervisedDataConfig


class AugmentConfig(Section):
    """Random changes of training images (torchvision.transforms.v2). Boxes and points of a row move with the pixels, also where
    its texts name them; a change that would make a text wrong is refused for the row."""

    flip: float = Field(0.0, ge=0, le=1)
    """Probability of a horizontal flip. Refused for texts with sides (left, right), clocks and written text."""
    crop: float = Field(0.0, ge=0, le=1)
    """Probability of a random resized crop. It holds all boxes and points of the row whole; refused for rows without any, and for
    texts with places or counts. What a text names without a box may leave the image."""
    crop_scale: tuple[float, float] = (0.5, 1.0)
    """Smallest and largest share of the image's area that a crop holds."""
    crop_ratio: tuple[float, float] = (0.75, 1.3333)
    """Smallest and largest aspect ratio of a crop, as a multiple of the image's: it is enlarged to the image's size."""
    jitter: float = Field(0.0, ge=0, le=1)
    """Probability of colour jitter. Refused for texts with colours or light."""
    brightness: float = Field(0.4, ge=0)
    """Of the jitter: a factor from 1 - this to 1 + this."""
    contrast: float = Field(0.4, ge=0)
    """Of the jitter: a factor from 1 - this to 1 + this."""
    saturation: float = Field(0.4, ge=0)
    """Of the jitter: a factor from 1 - this to 1 + this."""
    hue: float = Field(0.1, ge=0, le=0.5)
    """Of the jitter: a shift of up to this share of the colour circle, either way."""
    refuse_words: list[str] = []
    """More words that make a row unfit for all changes, for example those of another language."""
    refused: Literal["error", "skip"] = "error"
    """What to do with rows that a change is refused for: stop with their ids and reasons, or train on them without that change,
    counted and listed."""

    @property
    def wanted(self) -> dict[str, float]:
        """Probability of each change that is asked for."""
        shares = {"flip": self.flip, "crop": self.crop, "jitter": self.jitter}
        return {change: share for change, share in shares.items() if share}

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """Of `refuse_words`."""
        words = "|".join(map(re.escape, self.refuse_words))
        return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None

    @model_validator(mode="after")
    def _consistent(self) -> AugmentConfig:
        if not self.wanted:
            raise ValueError("augment: expected flip, crop or jitter above 0, got none")
        for name, (low, high), most in (
            ("crop_scale", self.crop_scale, 1.0),
            ("crop_ratio", self.crop_ratio, 100.0),
        ):
            if not 0 < low <= high <= most:
                raise ValueError(
                    f"{name}: expected [smallest, largest] above 0, at most {most:g}, got {[low, high]}"
                )
        return self


class DataConfig(SupervisedDataConfig):
    """Rows with traces to train on, and how they become batches."""

    rows: PathText
    """Rows with a `trace` (core/rows.py): a .jsonl or .parquet file, a folder of .parquet files, a `datasets` folder,
    or a Hub id (docs/hub.md)."""
    eval_rows: PathText | None = None
    """Held-out rows with a `trace`; their loss is logged as eval_loss every `eval_every` steps. null: no evaluation."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest allowed row, in tokens of prompt, media and trace. Rows are never truncated. null: no limit."""
    long_rows: Literal["error", "drop"] = "error"
    """What to do with rows above `max_tokens`: stop with their ids, or leave them out, counted and listed."""
    bad_rows: Literal["error", "drop"] = "error"
    """Rows that the check before the run finds unusable (media that do not decode, traces that cannot be targets, special
    tokens in texts, more tokens than the model's context): error stops with their ids and reasons; drop leaves them out,
    counted and listed."""
    max_bad_rows: float = Field(0.01, ge=0, le=1)
    """Largest share of the rows that may be left out: by `bad_rows: drop` at the start, or because they turn out to be
    unusable during the run (files that have changed). Above it the run stops."""
    rows_together: int = Field(8, ge=1)
    """Largest number of rows about the same media that the seeded order keeps together: their media, and the tokens before
    and in them, are then computed once for all of them. 1: rows are shuffled one by one; rows that happen to be in the
    same micro-batch still share."""
    augment: AugmentConfig | None = None
    """Random changes of the images of `rows` (not of `eval_rows`), drawn anew for every row and epoch; null: none."""
    cache_rows: bool | Literal["auto"] = "auto"
    """Keep encoded rows (tokens and pixels) in memory after the first use. auto: if all fit into `cache_gb`. A row that
    `augment` has changed is encoded anew every time."""
    cache_gb: float = Field(2.0, gt=0)
    """Memory one process may use for the cache under `cache_rows: auto`, in GB."""


class SFTOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule, with SFT's usual values."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate, at the end of the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Form of the decay after the warm-up, down to `min_lr_ratio` at the last step."""


class EarlyStopping(Section):
    """Which checkpoint is the best by a loss on the held-out rows, and when a run stops because none is better. The best
    checkpoint is kept beside the `keep_checkpoints` newest ones."""

    metric: Literal[
        "eval_loss",
        "eval_loss/summary",
        "eval_loss/caption",
        "eval_loss/reasoning",
        "eval_loss/conclusion",
        "eval_loss/turns",
        "eval_loss/end",
    ] = "eval_loss"
    """The loss on all targets, or on those of one stage; lower is better."""
    patience: int | None = Field(3, ge=1)
    """The run stops after this many evaluations in a row without an improvement; null: it never stops early."""
    min_delta: float = Field(0.0, ge=0)
    """The smallest improvement that counts for `patience`. The best checkpoint is the lowest in any case."""
    final: Literal["best", "last"] = "best"
    """Weights that the result (final/, or adapter/ and merged/) holds: those of the best checkpoint, or the last ones."""


class SFTConfig(SupervisedConfig):
    """Everything `sft.py` needs."""

    RENAMED: ClassVar[dict[str, str]] = {
        "optim.epochs": "epochs",
        "optim.max_steps": "steps",
        "optim.per_device_batch_size": "rows_per_step (rows of a whole step, over all processes)",
        "optim.gradient_accumulation_steps": "rows_per_step (rows of a whole step, over all processes)",
        "optim.beta1": "optimizer.betas (both in one list)",
        "optim.beta2": "optimizer.betas (both in one list)",
        "optim.autocast": "autocast",
        "optim.seed": "seed",
        "optim": "optimizer",
        "data.train": "data.rows",
        "data.eval": "data.eval_rows",
        "data.sort_within_step": "data.rows_together (there is no padding any more; this keeps rows about the same media together)",
        "save_steps": "save_every",
        "save_total_limit": "keep_checkpoints",
        "logging_steps": "log_every",
        "eval_steps": "eval_every",
    }

    data: DataConfig
    """Which rows, and how they are prepared."""
    optimizer: SFTOptimizerConfig = SFTOptimizerConfig()
    """How the gradient is applied."""
    rows_per_step: int = Field(32, ge=1)
    """Rows of one optimizer step, over all processes; the last step of an epoch takes the remaining ones. A step's loss is
    the mean over all its target tokens, however they are divided."""
    early_stopping: EarlyStopping | None = None
    """Keep the checkpoint with the lowest loss on `data.eval_rows`, and stop when it falls no more; null: neither."""

    @model_validator(mode="after")
    def _consistent(self) -> SFTConfig:
        if self.early_stopping and not self.data.eval_rows:
            raise ValueError(
                "early_stopping: expected held-out rows to evaluate on (data.eval_rows), got none"
            )
        return self

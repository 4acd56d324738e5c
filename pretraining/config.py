"""Configuration of `pretrain.py`: one stage of training on a mixture of documents and instruction rows."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from core.config.section import Section
from core.files.paths import PathText
from sft.supervised.config import TrainingConfig


class SourceConfig(Section):
    """One kind of data in the mixture."""

    rows: PathText
    """Rows with a `document`, or with `prompt` and `trace` (docs/data_format.md): a .jsonl or .parquet file, a folder of
    shards, a `datasets` folder, or a Hub id. Streamed, never read whole into memory."""
    tokens: float = Field(gt=0)
    """Tokens of this kind in the stage, visual ones included. More than the rows have: they are read again, in another
    order."""
    eval_rows: PathText | None = None
    """Held-out rows of this kind; their loss is logged as eval_loss/KIND. null: none."""


class MixtureConfig(Section):
    """Which data, in which shares, and how it becomes windows."""

    sources: dict[str, SourceConfig] = Field(min_length=1)
    """By kind of data: {captions: {rows: …, tokens: 3e9}, interleaved: …}. The stage's length is the sum of their tokens."""
    window: int = Field(8192, ge=2)
    """Tokens of a window, into which documents are packed one behind the other, without padding and without attention across
    them. Longer documents are split between paragraphs, lines, sentences or words; images are never cut."""
    tokens_per_step: int = Field(ge=2)
    """Tokens of one optimizer step, over all processes. A step takes whole sequences, and the next one makes up for what it took
    too much, so that the sum is exact to one sequence per process."""
    shuffle_rows: int = Field(10_000, ge=1)
    """Rows of a source that are held in memory and shuffled; the order of its pieces is shuffled, too."""
    eval_limit: int = Field(256, ge=1)
    """Evaluate on the first N held-out rows of each kind."""
    media: list[Literal["image", "video"]] = ["image"]
    """Kinds of media that the rows have. Several processes run the same modules in every window, so a row with another kind is
    unusable."""
    max_frames: int = Field(256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate over their whole length."""
    max_bad_rows: float = Field(0.0, ge=0, le=1)
    """Largest share of the rows read so far that may turn out to be unusable; they are named and left out. Above it the run
    stops."""
    workers: int = Field(0, ge=0)
    """Threads of a process that decode and encode rows in advance; 0: none."""

    @property
    def budgets(self) -> dict[str, float]:
        """Tokens of each kind."""
        return {kind: source.tokens for kind, source in self.sources.items()}


class PretrainConfig(TrainingConfig):
    """Everything `pretrain.py` needs: one stage."""

    data: MixtureConfig
    """Which data, in which shares, and how it becomes windows."""

    @property
    def tokens(self) -> float:
        """Of the whole stage."""
        return sum(self.data.budgets.values())

    @property
    def steps(self) -> int:
        """Optimizer steps of the stage."""
        return math.ceil(self.tokens / self.data.tokens_per_step)

    @model_validator(mode="after")
    def _consistent(self) -> PretrainConfig:
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps ({self.optimizer.warmup_steps}) exceeds the {self.steps} steps of"
                " data.sources' tokens"
            )
        if self.model.lora:
            raise ValueError(
                "model.lora: expected null, since a stage writes the whole model for the next one"
            )
        return self

"""Configuration of `evaluate.py`: which checkpoints answer which rows, and how they are scored."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.files.paths import PathText
from engines.config import EngineConfig, VLLMConfig
from rewards.config import RewardsConfig


class EvaluationConfig(BaseModel):
    """Settings of `evaluate.py`. All checkpoints answer the same rows with the same decoding budget."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    checkpoints: dict[str, PathText] = Field(min_length=1)
    """Checkpoint folders (or Hub ids in the local cache) by their names in tables. The order matters: each is compared with
    those before it. The report has headings for the names `untrained`, `sft` and `rl`."""
    rows: PathText
    """Held-out rows with answers (core/rows.py): a .jsonl or .parquet file, a folder of them, a `datasets` folder."""
    limit: int | None = Field(None, ge=1)
    """Evaluate only the first `limit` rows; null: all."""
    rewards: RewardsConfig
    """Reward functions by task, as in training."""
    output: PathText
    """Folder for eval.json and eval_rollouts.jsonl; made if missing."""
    max_tokens: int = Field(256, ge=1)
    """Maximum length of an answer in tokens; longer answers are cut off."""
    samples: int = Field(0, ge=0)
    """Answers sampled per row at temperature 1, in addition to the greedy one; 0: greedy only."""
    seed: int = 0
    """Seed of the sampled answers. Greedy answers do not depend on it."""
    batch_rows: int = Field(256, ge=1)
    """Number of rows encoded and passed to the engine at a time; limits the memory for images and videos."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the engine's weights."""
    min_pixels: int | None = Field(None, ge=784)
    """Images with a smaller area, in pixels, are enlarged; null: the first checkpoint's own limit. Must be the same as in
    training."""
    max_pixels: int | None = Field(None, ge=784)
    """Images with a larger area, in pixels, are shrunk; null: the first checkpoint's own limit."""
    video_min_pixels: int | None = Field(None, ge=784)
    """The same for one frame of a video."""
    video_max_pixels: int | None = Field(None, ge=784)
    """The same for one frame of a video."""
    max_frames: int = Field(256, ge=2)
    """Maximum number of frames of a video; longer clips are sampled at a lower rate over their whole length."""
    engine: EngineConfig = VLLMConfig()
    """The rollout engine that generates the answers."""

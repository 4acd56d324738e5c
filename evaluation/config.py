"""Configuration of `evaluate.py`: which checkpoints answer which rows, and how they are scored."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.files.paths import PathText
from engines.config import EngineConfig
from rewards.config import RewardsConfig


class EvaluationConfig(BaseModel):
    """Everything `evaluate.py` needs. All checkpoints answer the same rows with the same decoding budget."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    checkpoints: dict[str, PathText] = Field(min_length=1)
    """Folders (or Hub ids in the local cache) of the checkpoints by the name they get in tables. The order matters:
    differences are taken of each against those before it. `untrained`, `sft` and `rl` are the names the report knows."""
    rows: PathText
    """Held-out rows with answers (core/rows.py): a .jsonl or .parquet file, a folder of them, a `datasets` folder."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many rows; null: all."""
    rewards: RewardsConfig
    """Reward functions by task, as in training."""
    output: PathText
    """Folder for eval.json and eval_rollouts.jsonl; made if missing."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens; longer ones are cut off there."""
    samples: int = Field(0, ge=0)
    """Answers sampled per row at temperature 1, beside the greedy one; 0: greedy only."""
    seed: int = 0
    """Seed of the sampled answers. Greedy answers do not depend on it."""
    batch_rows: int = Field(256, ge=1)
    """Rows that are encoded and handed to the engine at a time; bounds the memory for images and videos."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the engine's weights."""
    min_pixels: int | None = Field(None, ge=784)
    """Images with a smaller area, in pixels, are enlarged; null: as the first checkpoint's processor says. Must be
    what training used."""
    max_pixels: int | None = Field(None, ge=784)
    """Images with a larger area, in pixels, are shrunk; null: as the processor says."""
    video_min_pixels: int | None = Field(None, ge=784)
    """The same for one frame of a video."""
    video_max_pixels: int | None = Field(None, ge=784)
    """The same for one frame of a video."""
    max_frames: int = Field(256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate over their whole length."""
    engine: EngineConfig = EngineConfig()
    """The rollout engine that generates the answers."""

"""Configuration of `evaluate.py`: which checkpoints answer which rows, and how they are scored."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from core.config import Section
from core.files.paths import PathText
from engines.config import EngineConfig, VLLMConfig
from rewards.config import RewardsConfig
from vlm.load import LoadingConfig


class EvaluationConfig(Section):
    """Settings of `evaluate.py`. All checkpoints answer the same rows with the same decoding budget."""

    RENAMED: ClassVar[dict[str, str]] = {
        "output": "output_dir",
        **{name: f"model.{name}" for name in LoadingConfig.model_fields},
    }

    checkpoints: dict[str, PathText] = Field(min_length=1)
    """Checkpoint folders or Hub ids (docs/hub.md) by their names in tables. The order matters: each is compared with
    those before it. The report has headings for the names `untrained`, `sft` and `rl`."""
    model: LoadingConfig = LoadingConfig()
    """How each of them is loaded."""
    rows: PathText
    """Held-out rows with answers (core/rows.py): a .jsonl or .parquet file, a folder of them, a `datasets` folder, or a Hub id
    (docs/hub.md)."""
    limit: int | None = Field(None, ge=1)
    """Evaluate only the first `limit` rows; null: all."""
    rewards: RewardsConfig
    """Reward functions by task, as in training."""
    output_dir: PathText
    """Folder for eval.json and eval_rollouts.jsonl; made if missing."""
    max_tokens: int = Field(256, ge=1)
    """Maximum length of an answer in tokens; longer answers are cut off."""
    samples: int = Field(0, ge=0)
    """Answers sampled per row at temperature 1, in addition to the greedy one; 0: greedy only."""
    seed: int = 0
    """Seed of the sampled answers. Greedy answers do not depend on it."""
    batch_rows: int = Field(256, ge=1)
    """Number of rows encoded and passed to the engine at a time; limits the memory for images and videos."""
    max_frames: int = Field(256, ge=2)
    """Maximum number of frames of a video; longer clips are sampled at a lower rate over their whole length."""
    engine: EngineConfig = VLLMConfig()
    """The rollout engine that generates the answers."""

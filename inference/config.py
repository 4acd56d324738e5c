"""Configuration of `python -m inference`: which model answers which rows, and how it searches."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from core.config import Section
from core.files.paths import PathText
from engines.config import EngineConfig, VLLMConfig
from rewards.config import RewardsConfig
from vlm.load import CheckpointConfig, LoadingConfig


class InferenceConfig(Section):
    """Settings of `python -m inference`. Every method answers the same rows with the same token limit per answer; costs are
    given in generated tokens."""

    RENAMED: ClassVar[dict[str, str]] = {
        "output": "output_dir",
        **{name: f"model.{name}" for name in LoadingConfig.model_fields},
    }

    model: CheckpointConfig
    """The checkpoint that answers."""
    rows: PathText
    """Rows to answer (core/rows.py): a .jsonl or .parquet file, a folder of them, a `datasets` folder."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many rows; null: all."""
    rewards: RewardsConfig
    """Reward functions by task: they score every answer. `rewards.grammar` is the grammar of the answers."""
    output_dir: PathText
    """Folder for answers.jsonl and inference.json; made if missing."""
    candidates: int = Field(4, ge=2)
    """Answers per row for best-of-N, and candidates per stage for the stage beam: about as many tokens for both."""
    temperature: float = Field(1.0, gt=0)
    """Of all candidates. The first answer, `greedy`, has none. LLaVA-CoT samples at 0.6 (with top-p 0.9)."""
    best_of: list[str] = ["majority", "mean_logprob", "reward"]
    """Selectors for best-of-N, all of them on the same candidates: `majority` (most frequent conclusion), `mean_logprob`
    (of the model), `reward` (see `selection_rewards`), or a function `select(row, prefix, candidates) -> index` as
    package.module:function or file.py:function."""
    stage_beam: list[str] = ["mean_logprob"]
    """Selectors for the stage beam, one search each: `mean_logprob`, or such a function. Empty: no search by stages."""
    selection_rewards: RewardsConfig | None = None
    """Rewards by which the selector `reward` chooses; null: those of `rewards`. Where they read the ground truth this is
    pass@N, an upper bound and not a result; a reward model behind `http` is a result."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens; of the stage beam too, all stages together."""
    seed: int = 0
    """Seed of the candidates. The greedy answers do not depend on it."""
    batch_rows: int = Field(256, ge=1)
    """Rows that are encoded and handed to the engine at a time; bounds the memory for images and videos."""
    max_frames: int = Field(256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate over their whole length."""
    engine: EngineConfig = VLLMConfig()
    """The rollout engine that generates the answers."""

    @model_validator(mode="after")
    def _check(self) -> InferenceConfig:
        if self.stage_beam and self.rewards.grammar == "none":
            raise ValueError("stage_beam: answers without a grammar (rewards.grammar: none) have no stages")
        for name in ("majority", "reward"):
            if name in self.stage_beam:
                raise ValueError(
                    f"stage_beam: '{name}' reads the conclusion, which the first stages do not have yet; expected"
                    " mean_logprob, package.module:function or file.py:function"
                )
        for field in ("best_of", "stage_beam"):
            names = getattr(self, field)
            if len(set(names)) < len(names):
                raise ValueError(f"{field}: a selector is named twice in {names}")
        if self.selection_rewards and "reward" not in self.best_of:
            raise ValueError("selection_rewards: nothing chooses by them; add 'reward' to best_of")
        return self

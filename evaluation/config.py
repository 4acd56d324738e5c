"""Configuration of `evaluate.py`: which checkpoints answer which rows, and how they are scored."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from core.config import Section
from core.files.paths import PathText
from data_recipes.config import Source
from engines.config import EngineConfig, VLLMConfig
from environments.config import EnvironmentConfig
from evaluation.benchmarks.config import BenchmarkConfig
from evaluation.best_of_n import BestOfNConfig
from evaluation.pass_at_k.config import PassAtKConfig
from rewards.config import RewardsConfig
from vlm.load import LoadingConfig


class DetectorConfig(Section):
    """An object detector to compare with: a checkpoint that is run, or its results."""

    path: PathText | None = None
    """A transformers checkpoint for object detection (DETR, RT-DETR, …): its folder, or a Hub id (docs/hub.md). It looks at
    the images of every data set with boxes."""
    results: dict[str, PathText] = {}
    """COCO results files (a JSON array of image_id, category_id, bbox, score) by data set."""
    names: dict[str, str] = {}
    """The data set's name of a label of the checkpoint, where they differ, e.g. {tvmonitor: tv}."""
    batch_size: int = Field(8, ge=1)
    """Images passed to the checkpoint at a time. DETR pads them to one size, which changes its scores in the third digit; 1 avoids it."""

    @model_validator(mode="after")
    def _one_of_both(self) -> DetectorConfig:
        if bool(self.path) == bool(self.results):
            raise ValueError("expected either path or results")
        return self


class EvaluationConfig(Section):
    """Settings of `evaluate.py`. All checkpoints answer the same rows with the same decoding budget."""

    RENAMED: ClassVar[dict[str, str]] = {
        "output": "output_dir",
        **{name: f"model.{name}" for name in LoadingConfig.model_fields},
    }

    checkpoints: dict[str, PathText] = {}
    """Checkpoint folders or Hub ids (docs/hub.md) by their names in tables. The order matters: each is compared with
    those before it. The report has headings for the names `untrained`, `sft` and `rl`."""
    model: LoadingConfig = LoadingConfig()
    """How each of them is loaded."""
    detectors: dict[str, DetectorConfig] = {}
    """Object detectors to compare with on data sets with boxes, by their names in tables."""
    rows: PathText | None = None
    """Held-out rows with answers (core/rows.py): a .jsonl or .parquet file, a folder of them, a `datasets` folder, or a Hub id
    (docs/hub.md)."""
    limit: int | None = Field(None, ge=1)
    """Evaluate only the first `limit` rows of `rows`; null: all."""
    data_sets: list[Source] = []
    """Data sets in public formats, read as published (`python -m data_recipes formats`). Each is a line of the table. Formats of
    annotated objects ask for every category in every image, as COCO's evaluation does, and keep crowd regions: `options:
    {absent: false}` asks only for what is there, which is cheaper, and for policies alone easier."""
    benchmarks: list[BenchmarkConfig] = []
    """Official benchmarks, by their official rules (docs/benchmarks.md), answered greedily by every checkpoint."""
    rewards: RewardsConfig | None = None
    """Reward functions by task, as in training; needed where checkpoints answer rows or data_sets."""
    output_dir: PathText
    """Folder for eval.json and eval_rollouts.jsonl; made if missing."""
    max_tokens: int = Field(256, ge=1)
    """Maximum length of an answer in tokens; longer answers are cut off."""
    samples: int = Field(0, ge=0)
    """Answers sampled per row at temperature 1, in addition to the greedy one; 0: greedy only."""
    pass_at_k: PassAtKConfig | None = None
    """Compute pass@k, maj@k, mean@k and statistics of the sampled answers; null: none. Needs `samples` of 2 or more."""
    best_of_n: BestOfNConfig | None = None
    """Choose the best of n sampled answers by one reward and measure it by another: the over-optimisation curve of a reward model;
    null: none. Needs `samples` of 2 or more."""
    seed: int = 0
    """Seed of the sampled answers. Greedy answers do not depend on it."""
    batch_rows: int = Field(256, ge=1)
    """Number of rows encoded and passed to the engine at a time; limits the memory for images and videos."""
    max_frames: int = Field(256, ge=2)
    """Maximum number of frames of a video; longer clips are sampled at a lower rate over their whole length."""
    engine: EngineConfig = VLLMConfig()
    """The rollout engine that generates the answers."""
    environment: EnvironmentConfig | None = None
    """Tools that the policy may call in several turns, as in training; null: each answer is one turn. max_tokens is then that
    of a turn."""
    turn_budgets: list[int] = []
    """With an environment: accuracy by budget of turns, e.g. [1, 2, 4, 6, 8, 12, 16, 32], and what each turn is worth. The rows
    are answered greedily once more, with the largest budget."""
    answer_prefix: str = Field("<answer>", min_length=1)
    """Begins the answers that are asked for at every turn, to see what the policy would have answered there."""
    attention_maps: int | list[str] = 0
    """With turn_budgets: episodes for which it is computed where each turn looked, for attention.jsonl and the report: those of
    the first so many rows of each data set, or of the rows with these ids. Takes one forward pass of the model for each."""

    @model_validator(mode="after")
    def _complete(self) -> EvaluationConfig:
        if not self.checkpoints and not self.detectors:
            raise ValueError("expected checkpoints or detectors to evaluate, got neither")
        if self.rows is None and not self.data_sets and not self.benchmarks:
            raise ValueError("expected rows, data_sets or benchmarks to evaluate on, got none of them")
        if self.benchmarks and not self.checkpoints:
            raise ValueError("benchmarks: expected checkpoints that answer them, got none")
        if self.turn_budgets and (self.environment is None or min(self.turn_budgets) < 1):
            raise ValueError("turn_budgets: expected an environment, and budgets of at least one turn")
        if self.attention_maps and not self.turn_budgets:
            raise ValueError("attention_maps: expected turn_budgets, under which the episodes are played")
        if isinstance(self.attention_maps, int) and self.attention_maps < 0:
            raise ValueError(f"attention_maps: expected a number of 0 or more, got {self.attention_maps}")
        if self.environment is not None:
            self.environment.check_engine(self.engine.images_per_prompt)
        if self.checkpoints and self.rewards is None and (self.rows is not None or self.data_sets):
            raise ValueError(
                "rewards: expected the reward functions by task, which score the checkpoints' answers to rows and data_sets"
            )
        names = [source.name for source in self.data_sets] + (["rows"] if self.rows is not None else [])
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"data_sets: expected unique names other than 'rows', got {twice[0]!r} again")
        if both := sorted(self.checkpoints.keys() & self.detectors.keys()):
            raise ValueError(f"detectors: expected names other than those of checkpoints, got {both[0]!r}")
        for name, detector in self.detectors.items():
            if unknown := sorted(detector.results.keys() - set(names)):
                raise ValueError(f"detectors.{name}.results: expected names of data_sets, got {unknown[0]!r}")
        titles = [one.name or one.benchmark for one in self.benchmarks]
        if again := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"benchmarks: expected unique names, got {again[0]!r} again: give one a `name`")
        if self.pass_at_k and (self.samples < 2 or not self.checkpoints or self.rewards is None):
            raise ValueError(
                f"pass_at_k: expected checkpoints, rewards, and samples of 2 or more, got {self.samples} samples"
            )
        if self.best_of_n and (self.samples < 2 or not self.checkpoints or self.rewards is None):
            raise ValueError(
                f"best_of_n: expected checkpoints, rewards, and samples of 2 or more, got {self.samples} samples"
            )
        return self

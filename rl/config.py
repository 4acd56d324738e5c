"""Configuration of on-policy GRPO."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from core.config import Section
from core.files.paths import PathText
from core.training.optimizer import OptimizerConfig
from core.training.precision import training_precision
from core.training.zero import ZeroValues
from engines.config import EngineConfig, VLLMConfig
from environments.config import EnvironmentConfig
from rewards.config import RewardsConfig
from rewards.hacking import HackingConfig
from rl.advantages import Estimator, OverTurnMask
from rl.distillation.config import DistillationConfig, ServerTeacherConfig
from rl.interference.config import InterferenceConfig
from vlm.checkpoint import hidden_size
from vlm.load import ModelConfig


class PromptsConfig(Section):
    """Which rows are trained on."""

    rows: PathText
    """Rows with typed answers: a JSONL file, Parquet, a `datasets` folder (docs/data_format.md), or a Hub id
    (docs/hub.md)."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first N rows; null: all."""
    max_frames: int = Field(default=256, ge=2)
    """Most frames of one video; longer clips are sampled at a lower rate."""
    bad_rows: Literal["error", "drop"] = "error"
    """Rows that the check before the run finds unusable (media that do not decode, prompts that the engine has no room for,
    special tokens in texts): error stops with their ids and reasons; drop leaves them out, counted and listed."""
    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Largest share of the rows that may be left out: by `drop` at the start, or because they turn out to be unusable
    during the run (files that have changed). Above it the run stops."""


class RolloutConfig(Section):
    """How much is generated per step. Temperature is the only shaping of the distribution (docs/algorithm.md)."""

    prompts_per_step: int = Field(default=32, ge=1)
    """Prompts of one optimizer step over all processes; a multiple of the number of processes."""
    completions_per_prompt: int = Field(default=8, ge=2)
    """Group size G."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens; with an environment, longest turn."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling, and of the log-probs that are trained."""
    overlap_rewards: bool = True
    """Rewards are scored as rollouts finish, while others are still being generated; false: after the last one, in one
    call. The rewards are the same (rl/scoring.py)."""


class SamplingConfig(Section):
    """Which prompts fill a step; everything stays on-policy (rl/prompts/sampling.py)."""

    dynamic: bool = False
    """Sample further prompts in the place of groups without a signal, until the step has `prompts_per_step` groups
    with one (DAPO §3.2, MiMo-7B §3.3)."""
    max_resampling: int = Field(default=3, ge=0)
    """With `dynamic`: rounds of sampling beyond the first; then the step uses the groups it has."""
    easy_pool: float = Field(default=0.0, ge=0, lt=1)
    """Prompts that every rollout solved are moved to a pool, from which a prompt is drawn with this probability (MiMo-7B:
    0.1); 0: no pool."""


class ChecksConfig(Section):
    """When a run is stopped. The limits are of the gap between the engine's and the trainer's log-probs; null: by dtype
    (`rl.checks.GapLimits`)."""

    max_mean_gap: float | None = Field(default=None, gt=0)
    """Limit of the mean absolute difference over the tokens of a step, in nats."""
    max_gap: float | None = Field(default=None, gt=0)
    """Limit of the largest difference on any token, in nats."""
    max_kl: float | None = Field(default=None, gt=0)
    """Limit of the KL per token, in nats, whatever the noise floor."""
    min_ess: float | None = Field(default=None, gt=0, le=1)
    """Limit of the effective sample size, as a share."""
    max_noise: float | None = Field(default=None, gt=1)
    """Limit of the KL as a multiple of what rounding alone does to this model, which is measured in the first step; the
    mean must be above the root of this multiple too."""
    sample_tokens: int = Field(default=4096, ge=1)
    """Tokens of each process on which the gap is measured where no group has a signal, and rounding in the first step."""
    hacking: HackingConfig | None = None
    """Watch a reward model against a verifiable reward of the same rollouts, and stop when it is hacked (rewards/hacking.py)."""


class TimeoutsConfig(Section):
    """When a run that hangs is ended, with an error that names rank and operation (core/processes/watchdog.py)."""

    exchange_s: float = Field(default=1800, gt=0)
    """Longest wait of a process for the others: joining, an exchange, a micro-batch, a checkpoint. Processes also wait
    for the one that generates longest."""
    engine_s: float = Field(default=3600, gt=0)
    """Longest call of the rollout engine: its start, a round of generation, a sync; also of scoring a round."""


class GRPOConfig(Section):
    """Fully on-policy GRPO: every step samples from the current weights and takes exactly one optimizer step at them."""

    PRECISION_SETTING: ClassVar[str] = "model.dtype"

    model: ModelConfig
    """The policy and which of its parts train."""
    prompts: PromptsConfig
    """The rows."""
    rewards: RewardsConfig
    """Reward functions by task."""
    engine: EngineConfig = VLLMConfig()
    """What generates the rollouts."""
    rollout: RolloutConfig = RolloutConfig()
    """How much is generated."""
    environment: EnvironmentConfig | None = None
    """What answers the policy's turns, so that a rollout is an episode of several; null: rollouts are single completions."""
    sampling: SamplingConfig = SamplingConfig()
    """Which prompts fill a step."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How the gradient is applied."""
    advantage: Estimator = "group_std"
    """How a reward becomes an advantage: group_std (GRPO, MiMo-VL), no_std (Dr.GRPO), task_std (EMA-GRPO)."""
    task_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Factors of the tasks in the objective; 1 for those that are not named (rl/coefficients.py)."""
    interference: InterferenceConfig = InterferenceConfig()
    """How tasks pull against each other is measured, and treated (docs/mixed_tasks.md)."""
    distillation: DistillationConfig | None = None
    """A teacher whose log-probs are learned from, alone or beside the rewards (docs/distillation.md); null: none."""
    over_turn: OverTurnMask = "completed"
    """What becomes of episodes that went over a budget of the environment: completed leaves them out of baseline, loss and
    normaliser (Mini-o3), loss_only out of the loss alone (its released code), none treats them as any other
    (rl/advantages.py)."""
    correction: Literal["auto", "none", "token", "sequence"] = "auto"
    """Importance weights for what engine and trainer round differently (rl/update/correction.py): by token, by whole completion,
    or none. auto: none in float32, where the gap is 1e-6; token in half precision."""
    correction_limit: float = Field(default=2.0, ge=1)
    """Larger weights are truncated to this."""
    max_tokens_per_microbatch: int = Field(default=16384, ge=1)
    """Tokens (each prompt once, and its completions) that go through the model at a time; the result does not depend
    on it (gradients are added up in float32, whatever model.dtype), memory does."""
    checks: ChecksConfig = ChecksConfig()
    """Limits of disagreement between engine and trainer, beyond which the run stops."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """Limits of waiting for a process or the engine, beyond which the run stops."""
    steps: int = Field(ge=1)
    """Optimizer steps."""
    seed: int = 0
    """Of the order of prompts and of sampling."""
    output_dir: PathText
    """Run folder: metrics.jsonl, rollouts.jsonl, checkpoint-*/ and final/."""
    save_every: int = Field(default=50, ge=1)
    """Steps between checkpoints; the last step is always saved."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Older checkpoints are deleted."""
    resume: Literal["auto", "never"] | PathText = "auto"
    """auto: from the last checkpoint in output_dir, if there is one; never: start afresh (an old run in output_dir is
    then an error); or the path of a checkpoint."""
    report_to: list[Literal["tensorboard", "wandb"]] = []
    """Trackers used through accelerate, in addition to metrics.jsonl; their packages must be installed. WANDB_PROJECT names the
    project (onsight-grpo)."""

    @model_validator(mode="after")
    def _fits(self) -> GRPOConfig:
        if self.rollout.max_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"rollout.max_tokens ({self.rollout.max_tokens}) leaves no room for a prompt within"
                f" engine.max_model_len ({self.engine.max_model_len})"
            )
        if self.environment is not None:
            self.environment.check_engine(self.engine.images_per_prompt)
        if self.checks.hacking is not None:
            self.checks.hacking.check(self.rewards)
        if unknown := sorted(set(self.task_weights) - set(self.rewards.tasks)):
            raise ValueError(
                f"task_weights: expected tasks of rewards.tasks ({', '.join(self.rewards.tasks)}), got {', '.join(unknown)}"
            )
        if self.distillation is not None:
            self._check_distillation(self.distillation)
        return self

    def _check_distillation(self, distillation: DistillationConfig) -> None:
        if self.sampling.dynamic and not distillation.reward_weight:
            raise ValueError(
                "sampling.dynamic chooses prompts by their rewards, which distillation.reward_weight: 0 leaves out of the"
                " objective; give them a weight, or switch it off"
            )
        if isinstance(distillation.teacher, ServerTeacherConfig) and self.rollout.temperature != 1:
            raise ValueError(
                f"rollout.temperature: expected 1, at which a vLLM server gives prompt log-probs, got"
                f" {self.rollout.temperature:g}; distillation.teacher.kind: checkpoint has no such limit"
            )

    def zero_values(self, processes: int) -> ZeroValues:
        """Values for the "auto" entries of DeepSpeed's config."""
        precision = training_precision(self.model.dtype)
        return self.optimizer.zero_values(precision, processes, partial(hidden_size, self.model.path))

"""Configuration of a run's rewards: which functions score which task, with what weights and limits.

rewards:
  grammar: stages
  tasks:
    math: [math]
    grounding:
      - {function: giou, weight: 0.9}
      - {function: my_rewards.py:concise, weight: 0.1, max_words: 40}
    judged: [{function: http, url: "http://10.0.0.7:8600", name: judge}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from core.config import Section
from rewards.errors import PluginError


class FunctionConfig(Section):  # type: ignore[no-redef]  # `kwargs` is a field, beside **kwargs
    """One reward function of one task. Other keys are passed to the function as keyword arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    function: str
    """Short name of a built-in, dotted path `package.module:function`, file `path/to/file.py:function`, or the
    name of an entry point in the group `onsight.rewards` of an installed package."""
    weight: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Weight in the task's reward, which is the sum of weight x value. Weights that add up to 1 keep the reward
    in [0, 1]. Weight 0: the value is only logged, and a failure does not cost the rollout its reward."""
    component: str | None = None
    """Name in logs and in `Score.components`. Default: the function's own name (for `http` the remote one)."""
    text: Literal["conclusion", "full"] | None = None
    """What the function reads under grammar `stages`: the text of the CONCLUSION stage, or the whole completion
    (for functions that score form). Default: the whole completion if the function has the attribute
    `whole_text = True`, else the conclusion."""
    style: Literal["auto", "sample", "batch", "easyr1", "verl"] = "auto"
    """How the function is called: `sample` f(completion, answer, **row); `batch` f(prompts, completions,
    completion_ids, **columns) as in TRL; `easyr1` compute_score(reward_inputs); `verl` compute_score(data_source,
    solution_str, ground_truth, extra_info). `auto` tells them apart by the parameters' names."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """Range of the values the function returns, mapped linearly onto [0, 1]; e.g. [-1, 1] for a function that
    returns -1 for a wrong answer. A value outside the range counts as a failure."""
    whole_groups: bool | None = None
    """Batch functions only. true: every call gets all rollouts of exactly one prompt. Default: the function's
    attribute `whole_groups` if it has one, else false."""
    isolate: bool | None = None
    """Run in a worker process that can be killed when it hangs. Default: true except for built-ins. false saves
    about 0.1 ms per call but gives up the time limit; only for functions that you trust not to hang."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Time limit of one call in seconds, instead of the common `timeout_s`."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments whose names are taken by the fields above."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"function": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> FunctionConfig:
        low, high = self.value_range
        if not low < high:
            raise ValueError(
                f"value_range: expected [low, high] with low < high, got {list(self.value_range)}"
            )
        twice = sorted(set(self.kwargs) & set(self.model_extra or {}))
        if twice:
            raise ValueError(f"arguments given twice, beside and inside kwargs: {', '.join(twice)}")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments passed to the function in every call."""
        return {**(self.model_extra or {}), **self.kwargs}

    @property
    def name(self) -> str:
        """Name of this component in logs."""
        if self.component:
            return self.component
        remote = self.arguments.get("name") if self.function == "http" else None
        return str(remote) if remote else self.function.replace(":", ".").rsplit(".", 1)[-1]


class RewardsConfig(Section):
    """Rewards of a run, routed by the rows' `task`."""

    model_config = ConfigDict(frozen=True)

    grammar: Literal["stages", "think", "none"] = "stages"
    """`stages`: completions must follow the stage grammar, and functions read only the conclusion; a text that
    breaks the grammar gets 0. `think`: the same with <think>…</think><answer>…</answer>, where functions read the
    answer. `none`: functions read the whole completion."""
    tasks: dict[str, list[FunctionConfig]] = Field(min_length=1)
    """Functions by task; a single name or mapping stands for a list of one."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Time limit in seconds of one call of an isolated function (one rollout for per-sample functions, one batch
    for batch functions). A call that exceeds it is killed, and its rollouts get no reward (None)."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    """Time limit in seconds for starting a worker process and importing a plugin in it."""
    workers: int = Field(default=2, ge=1)
    """Worker processes shared by all isolated functions, started when first needed."""
    max_failure_rate: float = Field(default=0.1, ge=0.0, le=1.0)
    """Largest share of failed rollouts (exception, time-out, crash, bad value) of a function among its last
    `failure_window`; above it the run stops with the last traceback. 1.0: never."""
    failure_window: int = Field(default=256, ge=1)
    """Number of a function's most recent rollouts over which the share of failures is computed."""
    failure_min: int = Field(default=16, ge=1)
    """Number of rollouts that a function must have scored before its share of failures counts."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        tasks = value.get("tasks") if isinstance(value, dict) else None
        if not isinstance(tasks, dict):
            return value
        listed = {task: [f] if isinstance(f, str | dict | FunctionConfig) else f for task, f in tasks.items()}
        return {**value, "tasks": listed}

    @model_validator(mode="after")
    def _check(self) -> RewardsConfig:
        for task, functions in self.tasks.items():
            if not functions:
                raise ValueError(f"tasks.{task}: expected at least one reward function, got none")
            names = [function.name for function in functions]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(
                    f"tasks.{task}: two functions named {', '.join(twice)}; give each a `component` name"
                )
            if not any(function.weight for function in functions):
                raise ValueError(f"tasks.{task}: every weight is 0, so no rollout could get a reward")
        return self


def check_pixel_limits(config: RewardsConfig, limits: Mapping[str, int]) -> None:
    """Raise PluginError if a function is configured with other pixel limits than the model's (`vlm.load.pixel_limits`): it would
    read boxes of frame `resized` in an image that the model never saw. Limits that are left out are the model's."""
    for task, functions in config.tasks.items():
        for function in functions:
            for name, value in limits.items():
                given = function.arguments.get(name)
                if given is not None and given != value:
                    raise PluginError(
                        f"rewards.tasks.{task}: {function.name}'s {name} is {given}, the model's {value}; leave it out to use the model's"
                    )

"""Configuration of episodes: which tools or environment, and the budgets of an episode.

environment:
  tools: [zoom, my_tools.py:look_up]
  max_turns: 6
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from core.config import Section
from environments.dialogue import MAX_PIXELS, MIN_PIXELS


class ToolConfig(Section):
    """One tool; a name alone stands for {tool: name}."""

    tool: str
    """Short name of a built-in (zoom, rotate, frames, image_zoom_in_tool), dotted path `package.module:function`, file
    `path/to/file.py:function`, or the name of an entry point in the group `onsight.tools` of an installed package."""
    isolate: bool | None = None
    """Run in a worker process that can be killed when it hangs. Default: true except for built-ins. false gives up the time
    limit; only for functions that you trust not to hang."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"tool": value} if isinstance(value, str) else value


class EnvironmentConfig(Section):
    """Episodes of several turns (docs/environments.md). Either `tools` or `name`."""

    tools: list[ToolConfig] = []
    """What the policy may call."""
    name: str | None = None
    """A class with `reset(row)` and `respond(state, text)` instead of tools: dotted path, `path/to/file.py:Class`, or an entry
    point of the group `onsight.environments`."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of that class."""
    describe_tools: bool = True
    """Add the tools' signatures to each prompt's system message, in Qwen's format; false where the rows' prompts say how to
    call them, as those of `synthetic_search` and of Mini-o3 do."""
    frame: Literal["norm1", "norm1000", "resized", "pixel"] = "norm1"
    """Frame of the boxes in calls: norm1 (0 to 1, Mini-o3), norm1000 (0 to 1000, Qwen3-VL), resized (pixels of the image as
    the processor resizes it, Qwen2.5-VL and DeepEyes), pixel (of the image in full resolution)."""
    max_turns: int = Field(default=6, ge=1)
    """Turns of an episode at most; one that still calls in its last turn is over the budget."""
    max_images: int | None = Field(default=None, ge=1)
    """Images of an episode at most, the prompt's included; null: engine.images_per_prompt, which it may not exceed."""
    max_failed_calls: int | None = Field(default=None, ge=0)
    """Failed calls of an episode at most; one more ends it, as an answer that its reward judges. Without a limit, a policy that writes
    no more than broken calls goes over its turns, and where `over_turn` masks such episodes nothing discourages it; null: no limit."""
    seconds_per_call: float = Field(default=10.0, gt=0)
    """Time limit of one call in a worker process, which is killed beyond it."""
    late_call: Literal["error", "over_turn"] = "error"
    """What a call beyond its time limit does: error tells the policy, as for any failed call; over_turn ends the episode."""
    min_pixels: int = Field(default=MIN_PIXELS, ge=1)
    """Smaller observations are enlarged to this area."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    """Larger observations are reduced to this area. The model's own pixel limits apply after it."""
    workers: int = Field(default=2, ge=1)
    """Worker processes of the isolated tools, or of the environment, started when first needed."""
    threads: int = Field(default=4, ge=1)
    """Threads that run tools and preprocess observations beside generation."""

    @model_validator(mode="after")
    def _check(self) -> EnvironmentConfig:
        if bool(self.tools) == bool(self.name):
            raise ValueError("expected either `tools` or the `name` of an environment's class")
        if self.arguments and not self.name:
            raise ValueError("arguments: they are those of an environment's class, and `name` gives none")
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is above max_pixels ({self.max_pixels})")
        return self

    def check_engine(self, images_per_prompt: int) -> None:
        """Raise ValueError if the engine takes fewer images than an episode may have."""
        if self.max_images is not None and self.max_images > images_per_prompt:
            raise ValueError(
                f"environment.max_images ({self.max_images}) is above engine.images_per_prompt ({images_per_prompt})"
            )

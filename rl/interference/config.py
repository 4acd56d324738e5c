"""Configuration of several tasks in one run: how often their gradients are compared, and the remedies in use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from core.config import Section

Remedy = Literal["task_tokens", "length_baseline", "pcgrad", "task_steps"]


class InterferenceConfig(Section):
    """How tasks pull against each other is measured, and treated (docs/mixed_tasks.md)."""

    every: int = Field(default=0, ge=0)
    """Steps between measurements of the cosine between the gradients of each pair of tasks; 0: never. A step that is
    measured takes the same gradient as any other; it needs memory for the gradients of all tasks."""
    remedies: list[Remedy] = []
    """Any of: task_tokens (a task weighs by its prompts, not by its tokens), length_baseline (the mean reward of a group is
    weighed by lengths; OPO), pcgrad (gradients of tasks that conflict are projected), task_steps (all prompts of a step are of
    one task). One scale of rewards per task is `advantage: task_std`."""

    @model_validator(mode="after")
    def _check(self) -> InterferenceConfig:
        if len(set(self.remedies)) < len(self.remedies):
            raise ValueError(f"remedies: expected each once, got {', '.join(self.remedies)}")
        if "task_steps" in self.remedies and ("pcgrad" in self.remedies or self.every):
            raise ValueError(
                "remedies: with task_steps a step has one task, so pcgrad has nothing to project and `every` nothing to compare"
            )
        return self

    @property
    def by_task(self) -> bool:
        """Whether gradients of single tasks are needed, at some step."""
        return bool(self.every) or "pcgrad" in self.remedies

    def measured(self, step: int) -> bool:
        """Whether step `step` (from 1) is one of those that are measured."""
        return bool(self.every) and step % self.every == 0

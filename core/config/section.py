"""The base of every config model."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A config, or a part of one: unknown keys and non-finite numbers are errors, the docstring under a field is its help.

    RENAMED: keys of former versions, dotted from this model on, and the keys that replace them: {"optim.lr":
    "optimizer.learning_rate"}. After the new key, in parentheses, a note if the value changed too: {"beta1":
    "optimizer.betas (both in one list)"}. A former section covers all its keys that have no entry of their own. A
    former key in a config is an error that names the new one.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    RENAMED: ClassVar[dict[str, str]] = {}

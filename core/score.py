"""The score of one completion, as scoring, training, evaluation and search pass it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """Result of the reward functions of one completion.

    reward: weighted sum of the components; None if no function applies or one failed: such a completion is not trained on
        and is in no mean.
    components: value in [0, 1] by component, before weighting.
    in_grammar: whether the completion follows the grammar.
    reason: why `reward` is None, which rule of the grammar is broken, or what a function gave as its reason.
    extra: what functions returned besides their value, by `component/key`.
    """

    reward: float | None
    components: dict[str, float | None]
    in_grammar: bool
    reason: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

"""Format reward: does the whole completion follow the stage grammar, and if not, which rule did it break first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.gold import whole_text
from rewards.stages import STAGES, parse


@whole_text
def stage_format_reward(
    completion: str, answer: Mapping[str, Any] | None = None, *, names: Sequence[str] = STAGES, **row: Any
) -> float:
    """1 if the whole completion follows the grammar of the named blocks, else 0. Anchored: nothing may stand outside."""
    return 1.0 if parse(completion, names).stages is not None else 0.0


def broken_rule(completion: str, names: Sequence[str] = STAGES) -> str | None:
    """Name of the first rule broken (see `stages.RULES`), None if the completion follows the grammar."""
    return parse(completion, names).broken

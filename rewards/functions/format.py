"""Format reward: does the whole completion follow the stage grammar with something in every stage, and if not, what is wrong?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.reading.gold import whole_text
from rewards.reading.unicode import plain_characters
from rewards.stages import STAGES, parse


@whole_text
def stage_format_reward(
    completion: str, answer: Mapping[str, Any] | None = None, *, names: Sequence[str] = STAGES, **row: Any
) -> float:
    """1 if the whole completion follows the grammar of the named blocks and no block is blank, else 0.

    Nothing may stand outside the blocks. A block without a letter or digit of any script is blank; in the last block, which
    holds the answer, any visible character is enough (`[]` says that nothing was found).
    """
    return 1.0 if broken_rule(completion, names) is None else 0.0


def broken_rule(completion: str, names: Sequence[str] = STAGES) -> str | None:
    """Name of the first rule broken (see `stages.RULES`, or `blank:NAME`), None if the completion earns the reward."""
    parsed = parse(completion, names)
    if parsed.stages is None:
        return parsed.broken
    for name, text in parsed.stages.items():
        visible = plain_characters(text).strip()
        if not visible or (name != names[-1] and not any(char.isalnum() for char in visible)):
            return f"blank:{name}"
    return None

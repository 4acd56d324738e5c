"""Penalties for over-long and repetitive completions, written as rewards in [0, 1]. Off by default: MiMo-VL uses none.

The usual forms lie in [-1, 0]; here 1 is added. Inside a group of rollouts a constant changes no advantage. Both read the whole
completion, and give 0 to an empty one so that silence never pays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.gold import whole_text

MAX_WORDS = 20_000


@whole_text
def soft_overlong_reward(
    completion: str,
    answer: Mapping[str, Any] | None = None,
    *,
    max_tokens: int,
    cache_tokens: int,
    completion_ids: Sequence[int] | None = None,
    **row: Any,
) -> float | None:
    """1 + the soft over-long punishment of DAPO, eq. 13 (Yu et al. 2025), of a completion of |y| tokens:

    1 if |y| <= max_tokens - cache_tokens; falls linearly to 0 at max_tokens; 0 beyond. None where the tokens are not given.
    """
    if not 0 < cache_tokens <= max_tokens:
        raise ValueError(
            f"soft_overlong: expected 0 < cache_tokens <= max_tokens, got {cache_tokens} and {max_tokens}"
        )
    if completion_ids is None:
        return None
    length = len(completion_ids)
    if length == 0:
        return 0.0
    return min(1.0, max(0.0, (max_tokens - length) / cache_tokens))


@whole_text
def repetition_reward(
    completion: str, answer: Mapping[str, Any] | None = None, *, ngram: int = 4, **row: Any
) -> float:
    """Share of distinct word n-grams among all (1 + the repetition penalty of Yeo et al. 2025): 1 if none is repeated.

    A text shorter than one n-gram scores 1, an empty one 0. The last MAX_WORDS words are read.
    """
    if ngram < 1:
        raise ValueError(f"repetition: expected ngram >= 1, got {ngram}")
    words = completion[-16 * MAX_WORDS :].lower().split()[-MAX_WORDS:] if isinstance(completion, str) else []
    if not words:
        return 0.0
    count = len(words) - ngram + 1
    if count <= 0:
        return 1.0
    return len({tuple(words[i : i + ngram]) for i in range(count)}) / count

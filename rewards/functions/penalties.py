"""Penalties for overlong and repetitive completions, as rewards in [0, 1]. Off by default: MiMo-VL uses none.

The usual forms lie in [-1, 0]; here 1 is added, which changes no advantage within a group of rollouts. Both read the whole
completion and give 0 to an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.reading.gold import whole_text

MAX_TOKENS = 20_000


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
    """1 + DAPO's soft overlong punishment (Yu et al. 2025, eq. 13) for a completion of |y| tokens:

    1 if |y| <= max_tokens - cache_tokens, then falling linearly to 0 at max_tokens; 0 beyond. None without token ids.
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


# Used without token ids: words in pieces of up to eight letters, and every other visible character alone. Loops without
# spaces ("ababab…", "哈哈哈…", "=====") then repeat their pieces, whatever their period, as they repeat their tokens.
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[^\W\d_{_CJK}]{{1,8}}|\S")


@whole_text
def repetition_reward(
    completion: str,
    answer: Mapping[str, Any] | None = None,
    *,
    ngram: int = 4,
    completion_ids: Sequence[int] | None = None,
    **row: Any,
) -> float:
    """Share of distinct n-grams of tokens (1 + the repetition penalty of Yeo et al. 2025): 1 if none is repeated.

    Tokens are the sampled ones (`completion_ids`) if given, else pieces of the text: words cut every eight letters, and other
    single characters. A text shorter than one n-gram scores 1, an empty one 0. Only the last MAX_TOKENS tokens are read.
    """
    if ngram < 1:
        raise ValueError(f"repetition: expected ngram >= 1, got {ngram}")
    if not isinstance(completion, str) or not completion.strip():
        return 0.0
    tokens: Sequence[Any]
    if completion_ids is not None and len(completion_ids):
        tokens = list(completion_ids[-MAX_TOKENS:])
    else:
        tokens = _TOKEN.findall(completion[-16 * MAX_TOKENS :].lower())[-MAX_TOKENS:]
    count = len(tokens) - ngram + 1
    if count <= 0:
        return 1.0
    return len({tuple(tokens[i : i + ngram]) for i in range(count)}) / count

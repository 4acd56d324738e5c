"""Tokens that end a completion and tokens that are never sampled, for all engines and the trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm.families import family_of_processor


def suppressed_token_ids(processor: Any, vocab_size: int) -> tuple[int, ...]:
    """Ids whose logits are -inf, in sampling and in the trainer's log-probs alike, ascending.

    They are the media placeholders (a sampled one would ask for an image that is not there) and the rows of the
    embedding that no token uses (vocabularies are padded to round sizes; such a row has no text).

    vocab_size: rows of the LM head (`model.config.text_config.vocab_size`).
    """
    tokenizer = processor.tokenizer
    used = set(tokenizer.get_vocab().values())
    media = set(tokenizer.convert_tokens_to_ids(list(family_of_processor(processor).media_tokens)))
    return tuple(i for i in range(vocab_size) if i in media or i not in used)


def suppress_(logits: Tensor, suppressed: Tensor) -> Tensor:
    """Set the suppressed columns of `logits` (..., vocabulary) to -inf, in place. suppressed: (n,) int64 ids."""
    return logits.index_fill_(-1, suppressed, -torch.inf)


def stop_token_ids(processor: Any, model_path: str | Path) -> tuple[int, ...]:
    """Ids that end a completion: the tokenizer's end token and those of the checkpoint's generation config."""
    ids = {processor.tokenizer.eos_token_id}
    file = Path(model_path) / "generation_config.json"
    if file.is_file():
        listed = json.loads(file.read_text()).get("eos_token_id")
        ids |= set(listed if isinstance(listed, list) else [listed])
    return tuple(sorted(i for i in ids if i is not None))


# ------------------------------------------------------------------------------------------------------- stop strings
# One rule for both engines: a completion is cut behind the first token with which its text, decoded without special
# tokens, holds a stop string. (vLLM's own check decodes as a stream, which holds back a token that also begins a
# character of several bytes, so it may stop a few tokens late; the rule decides.)


def stop_length(tokenizer: Any, ids: Sequence[int], stop: Sequence[str]) -> int | None:
    """How many of `ids` there are up to and with the token that completes the first stop string; None: no stop string."""

    def holds(count: int) -> bool:
        text = tokenizer.decode(list(ids[:count]), skip_special_tokens=True)
        return any(string in text for string in stop)

    if not holds(len(ids)):
        return None
    short, long = (
        0,
        len(ids),
    )  # the text of `short` ids has none, that of `long` ids does: more ids only add text
    while long - short > 1:
        middle = (short + long) // 2
        short, long = (short, middle) if holds(middle) else (middle, long)
    return long


def stop_watch(tokenizer: Any, stop: Sequence[str]) -> Callable[[Sequence[Sequence[int]]], list[bool]]:
    """The same rule for completions that grow by a token at a time: the function says for each whether its last token
    completed a stop string. It decodes the last few tokens alone, so a step costs the same however long they are."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    # Every other token has at least one byte; one token more keeps the space that some decoders strip in front.
    window = 1 + max(len(string.encode()) for string in stop)

    def completed(completions: Sequence[Sequence[int]]) -> list[bool]:
        tails = [
            list(islice((i for i in reversed(ids) if i not in special), window))[::-1] for ids in completions
        ]
        texts = tokenizer.batch_decode(tails, skip_special_tokens=True)
        return [any(string in text for string in stop) for text in texts]

    return completed

"""Which tokens end a completion, and which are never sampled: the same for both engines and for the trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm.inputs import MEDIA_TOKENS


def suppressed_token_ids(processor: Any, vocab_size: int) -> tuple[int, ...]:
    """Ids whose logits are -inf, in sampling and in the trainer's log-probs alike, ascending.

    They are the media placeholders (a sampled one would ask for an image that is not there) and the rows of the
    embedding that no token uses (vocabularies are padded to round sizes; such a row has no text).

    vocab_size: rows of the LM head (`model.config.text_config.vocab_size`).
    """
    tokenizer = processor.tokenizer
    used = set(tokenizer.get_vocab().values())
    media = {tokenizer.convert_tokens_to_ids(token) for token in MEDIA_TOKENS}
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

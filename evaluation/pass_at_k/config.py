"""Settings of pass@k, a section of the config of `evaluate.py`."""

from __future__ import annotations

from pydantic import Field

from core.config import Section


class PassAtKConfig(Section):
    """pass@k, maj@k, mean@k for k from 1 to `samples`, and statistics of the sampled answers."""

    correct_at: dict[str, float] = {}
    """Reward from which on an answer is correct, by task; 1 for tasks without an entry. For graded rewards, such as the overlap of
    boxes, say what counts: 0.75 of (GIoU + 1) / 2 is a GIoU of 0.5."""
    orders: int = Field(200, ge=1)
    """Random orders of the samples over which maj@k is averaged."""
    revision_words: list[str] = []
    """Words and phrases that say that an answer revises itself, beside the common ones (evaluation/pass_at_k/reflection.py)."""

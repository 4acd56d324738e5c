"""Data types of generation: the request to an engine, and the rollout it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.rows import Row
from vlm.inputs import Encoded

Finish = Literal["stop", "length", "over_turn", "error"]


@dataclass(frozen=True)
class Sampling:
    """How to sample. Temperature is the only shaping there is: top-p, top-k or penalties would make the trainer's
    log-probs those of another distribution.

    temperature: 0 is greedy. max_tokens: per completion. seed: of the whole call; None draws afresh.
    stop: texts that end a completion, besides the end token. It ends with the token that completes one of them, which
        is kept whole: where that token reads `><`, `<` follows the stop text. Special tokens have no text.
    """

    temperature: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self):
        if not isinstance(self.stop, tuple) or not all(self.stop):
            raise ValueError(f"stop: expected a tuple of texts, none of them empty, got {self.stop!r}")


@dataclass(frozen=True)
class Request:
    """`n` completions of one row's prompt. prompt: the row's, encoded (`vlm.inputs.encode_row`)."""

    row: Row
    prompt: Encoded
    n: int = 1

    @property
    def row_id(self) -> str:
        return self.row["id"]


@dataclass(frozen=True)
class Rollout:
    """One sampled completion, token for token as the engine sampled it.

    completion_ids: sampled ids (never re-tokenised), with the end token, or the tokens of the stop text, if `finish` is
        "stop".
    loss_mask: 1 where the policy sampled the token, 0 where an environment wrote it; as long as completion_ids.
    logprobs: the engine's log-probability of each token at the sampling temperature; 0.0 where loss_mask is 0.
    text: completion without special tokens.
    policy_version: version of the weights that sampled it.
    sequence: only where the completion carries media (observations of an environment): prompt and completion as one
        Encoded; completion_ids are then the model's, placeholders expanded. None: the completion is text.
    """

    row_id: str
    prompt: Encoded
    completion_ids: tuple[int, ...]
    loss_mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    policy_version: int
    finish: Finish
    turns: int = 1
    sequence: Encoded | None = None

    def __post_init__(self):
        if not len(self.completion_ids) == len(self.loss_mask) == len(self.logprobs):
            raise ValueError(
                f"rollout of row {self.row_id!r}: {len(self.completion_ids)} ids, {len(self.loss_mask)} loss mask, "
                f"{len(self.logprobs)} log-probs; all three must be equally long"
            )


def by_request(requests: Sequence[Request], rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
    """The rollouts of each request, from the flat list that `Engine.generate` returns."""
    rest = iter(rollouts)
    return [[next(rest) for _ in range(request.n)] for request in requests]

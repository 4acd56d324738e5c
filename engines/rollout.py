"""Data types of generation: the request to an engine, and the rollout it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

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
class Turn:
    """One turn of an episode: what the policy wrote, and what it was shown next.

    text: without special tokens. start, end: of its tokens in `Rollout.completion_ids`.
    observation: texts and images (as shown) that followed; empty after the last turn.
    call: the tool call as read, {"name", "arguments"}; error: why it failed. details: of the environment, e.g. the box of a
        zoom, {"box": pixels of the full-resolution source, "source": its name}.
    """

    text: str
    start: int
    end: int
    observation: tuple[str | Image.Image, ...] = ()
    call: Mapping[str, Any] | None = None
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """One sampled completion, token for token as the engine sampled it. With an environment: an episode of several turns.

    completion_ids: sampled ids (never re-tokenised), with the end token, or the tokens of the stop text, if `finish` is
        "stop".
    loss_mask: 1 where the policy sampled the token, 0 where an environment wrote it; as long as completion_ids.
    logprobs: the engine's log-probability of each token at the sampling temperature; 0.0 where loss_mask is 0.
    text: completion without special tokens; of an episode what the policy wrote, one turn after the other on new lines.
    policy_version: version of the weights that sampled it.
    over_turn: with finish "over_turn" the budget that the episode went over ("turns", "images", "context", "seconds").
    turns: of an episode; empty for a single completion.
    sequence: only where the completion carries media (observations of an environment): prompt and completion as one
        Encoded; completion_ids are then the model's, placeholders expanded. None: the completion is text.
    outcome: what the environment says came of the episode, a JSON value; rewards get it as the row's column `outcome`.
    """

    row_id: str
    prompt: Encoded
    completion_ids: tuple[int, ...]
    loss_mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    policy_version: int
    finish: Finish
    sequence: Encoded | None = None
    over_turn: str | None = None
    turns: tuple[Turn, ...] = ()
    outcome: Any = None

    def __post_init__(self):
        if not len(self.completion_ids) == len(self.loss_mask) == len(self.logprobs):
            raise ValueError(
                f"rollout of row {self.row_id!r}: {len(self.completion_ids)} ids, {len(self.loss_mask)} loss mask, "
                f"{len(self.logprobs)} log-probs; all three must be equally long"
            )

    def judged(self, row: Row) -> Row:
        """The row as rewards see it with this rollout."""
        return row if self.outcome is None else {**row, "outcome": self.outcome}

    @property
    def sampled_ids(self) -> list[int]:
        """The ids that the policy sampled."""
        return [token for token, mask in zip(self.completion_ids, self.loss_mask, strict=True) if mask]


def by_request(requests: Sequence[Request], rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
    """The rollouts of each request, from the flat list that `Engine.generate` returns."""
    rest = iter(rollouts)
    return [[next(rest) for _ in range(request.n)] for request in requests]

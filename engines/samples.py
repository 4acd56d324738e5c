"""Samples and groups: rollouts with their row and their score, as training, evaluation and search handle them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core.rows import FRAME_COLUMNS, Row
from core.score import Score
from engines.rollout import Request, Rollout, Turn

ScoreFunction = Callable[[Sequence[Row], Sequence[str], Sequence[Sequence[int]], Sequence[str]], list[Score]]
"""`rewards.router.Router.score`: of rows, completions, their token ids and the ids of their groups."""


@dataclass(frozen=True)
class Sample:
    """One rollout, the row whose prompt it completes, and what the rewards say about it."""

    row: Row
    rollout: Rollout
    score: Score


@dataclass(frozen=True)
class Group:
    """The samples of one prompt.

    advantages: one for each sample (`rl.advantages`). None for a sample that is not trained on: it has no reward, its group
        has no signal or is not in the step's batch, or (the default) advantages have not been computed.
    coefficients: one for each sample (`rl.coefficients`): what the log-probs of its tokens are multiplied by in the objective,
        (completion tokens,) float32; None for a sample that adds nothing. Empty: each token's is the sample's advantage.
    """

    samples: tuple[Sample, ...]
    advantages: tuple[float | None, ...] = ()
    coefficients: tuple[Tensor | None, ...] = ()

    def __post_init__(self):
        if not self.advantages:
            object.__setattr__(self, "advantages", (None,) * len(self.samples))
        if len(self.advantages) != len(self.samples):
            raise ValueError(f"{len(self.samples)} samples, but {len(self.advantages)} advantages")
        if self.coefficients and len(self.coefficients) != len(self.samples):
            raise ValueError(f"{len(self.samples)} samples, but coefficients of {len(self.coefficients)}")

    @property
    def row(self) -> Row:
        return self.samples[0].row

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        return tuple(sample.rollout for sample in self.samples)

    @property
    def rewards(self) -> tuple[float | None, ...]:
        return tuple(sample.score.reward for sample in self.samples)


def grouped(requests: Sequence[Request], rollouts: Sequence[Rollout], scores: Sequence[Score]) -> list[Group]:
    """One group for each request. rollouts, scores: `request.n` for each request, in the order of the requests.

    Raises ValueError if there are more or fewer of them, or a rollout is of another row.
    """
    count = sum(request.n for request in requests)
    if not count == len(rollouts) == len(scores):
        raise ValueError(f"expected {count} rollouts and scores, got {len(rollouts)} and {len(scores)}")
    pairs = iter(zip(rollouts, scores, strict=True))
    groups = []
    for request in requests:
        samples = tuple(Sample(request.row, *next(pairs)) for _ in range(request.n))
        if others := [s.rollout.row_id for s in samples if s.rollout.row_id != request.row_id]:
            raise ValueError(f"expected rollouts of row {request.row_id!r}, got one of row {others[0]!r}")
        groups.append(Group(samples))
    return groups


def scored(score: ScoreFunction, requests: Sequence[Request], rollouts: Sequence[Rollout]) -> list[Group]:
    """The rollouts of each request, scored. score: a router's `score`; it sees each group whole."""
    asked = [request.row for request in requests for _ in range(request.n)]
    rows = [rollout.judged(row) for row, rollout in zip(asked, rollouts, strict=True)]
    texts = [rollout.text for rollout in rollouts]
    ids = [rollout.sampled_ids for rollout in rollouts]
    return grouped(requests, rollouts, score(rows, texts, ids, [rollout.row_id for rollout in rollouts]))


def rollout_record(sample: Sample) -> dict[str, Any]:
    """A sample as a line of JSON: media by reference, text as sampled."""
    row, rollout, score = sample.row, sample.rollout, sample.score
    return {
        "row_id": rollout.row_id,
        "task": row["task"],
        "prompt": prompt_text(row),
        "images": [_reference(medium) for medium in row.get("images") or ()],
        "videos": [_reference(medium) for medium in row.get("videos") or ()],
        "answer": row.get("answer"),
        "completion": rollout.text,
        "tokens": sum(rollout.loss_mask),
        "finish": rollout.finish,
        **(
            {}
            if not rollout.turns
            else {"over_turn": rollout.over_turn, "turns": [turn_record(t) for t in rollout.turns]}
        ),
        **({} if rollout.outcome is None else {"outcome": rollout.outcome}),
        "reward": score.reward,
        "components": score.components,
        "in_grammar": score.in_grammar,
        "reason": score.reason,
        **{name: row[name] for name in FRAME_COLUMNS if row.get(name) is not None},
    }


def turn_record(turn: Turn) -> dict[str, Any]:
    """A turn of an episode as JSON; images of the observation as `[image]`."""
    observation = [part if isinstance(part, str) else "[image]" for part in turn.observation]
    return {
        "text": turn.text,
        "tokens": turn.end - turn.start,
        "call": turn.call,
        "error": turn.error,
        "details": dict(turn.details),
        "observation": "".join(observation),
    }


def prompt_text(row: Row) -> str:
    """The text of the prompt's messages, media as `[image]` and `[video]`."""
    texts = []
    for message in row["prompt"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts.append(" ".join(p["text"] if p["type"] == "text" else f"[{p['type']}]" for p in parts))
    return "\n".join(texts)


def _reference(medium: Any) -> Any:
    """A medium as JSON: its path, or how large the bytes are that came in its place."""
    if isinstance(medium, bytes):
        return f"{len(medium)} bytes"
    if isinstance(medium, Mapping):
        return {k: _reference(v) for k, v in medium.items() if v is not None}
    return medium if isinstance(medium, str | int | float) else str(medium)

"""Configuration of the arena: who answers which questions, and who judges."""

from __future__ import annotations

from pydantic import Field, model_validator

from core.config import Section
from core.files.paths import PathText


class Contestant(Section):
    """One that answers: the answers in a file, or an endpoint that is asked."""

    answers: PathText | None = None
    """JSON lines with answers: `eval_rollouts.jsonl` of `evaluate.py`, its `predictions/…`, or any with `id` and `response`."""
    checkpoint: str | None = None
    """Which checkpoint's answers, in an `eval_rollouts.jsonl`; null: the contestant's name."""
    endpoint: PathText | None = None
    """YAML file of an endpoint (base_url, model, …) that answers the rows."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Contestant:
        if bool(self.answers) == bool(self.endpoint):
            raise ValueError("expected either answers or endpoint")
        return self


class ArenaConfig(Section):
    """Settings of `python -m evaluation.arena`."""

    rows: PathText
    """The questions: rows (core/rows.py), which need no true answers."""
    limit: int | None = Field(None, ge=1)
    """Use only the first `limit` rows; null: all."""
    contestants: dict[str, Contestant] = Field(min_length=2)
    """By their names in tables. Every pair is judged on every row, in both orders."""
    judge: PathText
    """YAML file of the endpoint that judges; it must take images where rows have them."""
    grammar: str = Field("stages", pattern="^(stages|think|none)$")
    """Only the conclusion of an answer in this grammar is judged; of any other answer all of it."""
    seed: int = 0
    """Seed of the bootstrap."""
    resamples: int = Field(1000, ge=100)
    """Bootstrap samples of the rows, for the intervals of ratings."""
    output_dir: PathText
    """Folder for judgements.jsonl, arena.json and arena.md, and the cache of replies; made if missing."""

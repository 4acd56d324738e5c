"""The pairs of a run: read, looked at before the model is loaded, encoded and packed step by step ahead of the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from core.files.hub.paths import TRAIN
from core.pairs import check_pair
from core.processes.ranks import say
from core.rows import Row, read_rows
from reward_models.config import RewardModelConfig
from reward_models.encoding import encode_pairs, pair_length, processor_of
from reward_models.packing import PairBatch, pair_batches
from sft.supervised.run import read_ahead
from vlm.checkpoint import resolve_checkpoint
from vlm.load import check_checkpoint, context_length
from vlm.packed.layout import DummyMedia
from vlm.preflight import look_at_rows, usable_rows


@dataclass(frozen=True)
class Pairs:
    """Rows to train on and held-out ones; lengths: tokens of each, one after the other."""

    train: list[Row]
    held_out: list[Row]
    lengths: list[int]


def model_folder(config: RewardModelConfig) -> Path:
    """Folder of the checkpoint that the run starts from; raises CheckpointError if it is unusable."""
    path = config.model.path
    return check_checkpoint(path) if config.kind == "multimodal" else resolve_checkpoint(path)


def read_pairs(config: RewardModelConfig) -> tuple[Any, Pairs]:
    """The processor, and all pairs that can be used. Raises RowError for a broken file, and with the first 20 pairs that cannot
    be used and the count of the rest, unless these are to be left out."""
    processor = processor_of(config.kind, config.model, model_folder(config))
    train, lengths = _load(config, processor, config.data.rows, config.data.limit, TRAIN)
    held_out: list[Row] = []
    if config.data.eval_rows:
        held_out, more = _load(config, processor, config.data.eval_rows, config.data.eval_limit)
        lengths = lengths + more
    say(
        f"reward model: {len(train):,} pairs from {config.data.rows}"
        + (f", {len(held_out):,} held out" if held_out else "")
    )
    return processor, Pairs(train, held_out, lengths)


def _load(
    config: RewardModelConfig, processor: Any, path: str, limit: int | None, split: str | None = None
) -> tuple[list[Row], list[int]]:
    data, rows = config.data, read_rows(path, limit=limit, split=split, check=check_pair)
    most = data.max_tokens or context_length(config.model.path)
    measure = partial(pair_length, processor, max_tokens=most, max_frames=data.max_frames)
    looked = look_at_rows(
        rows, measure, processor, what=f"pairs of {most} tokens", max_frames=data.max_frames
    )
    kept, message = usable_rows(
        rows, looked.problems, path, drop=data.bad_rows == "drop", most=data.max_bad_rows
    )
    if message:
        say(message)
    lengths = {row["id"]: length for row, length in zip(rows, looked.lengths, strict=True)}
    return kept, [lengths[row["id"]] for row in kept]


@dataclass(frozen=True)
class StepPairs:
    """What a process computes in a step. pairs: number of them. tokens: of all pairs, each as if alone; computed: that go through
    the model."""

    batches: list[PairBatch]
    pairs: int
    tokens: int
    computed: int


class PairSteps(Dataset):
    """The pairs of each step, encoded and packed. rows_of: numbers of this process's rows in a step."""

    def __init__(
        self,
        processor: Any,
        rows: Sequence[Row],
        rows_of: Callable[[int], Sequence[int]],
        config: RewardModelConfig,
        dummy: DummyMedia | None,
    ) -> None:
        self.processor, self.rows, self.rows_of, self.dummy = processor, rows, rows_of, dummy
        self.max_tokens, self.max_frames = config.max_tokens_per_microbatch, config.data.max_frames

    def __getitem__(self, step: int) -> StepPairs:
        numbered = [(number, self.rows[number]) for number in self.rows_of(step)]
        pairs = encode_pairs(self.processor, numbered, max_frames=self.max_frames)
        batches = pair_batches(pairs, self.max_tokens, self.dummy)
        return StepPairs(
            batches=batches,
            pairs=len(pairs),
            tokens=sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs),
            computed=sum(batch.packed.layout.total for batch in batches),
        )

    def read(self, steps: Sequence[int], workers: int) -> Iterator[StepPairs]:
        """The pairs of these steps in order."""
        return read_ahead(self, steps, workers)

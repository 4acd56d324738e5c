"""The rows of a run: read, looked at before the model is loaded, those that cannot be used named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.files.hub.paths import TRAIN
from core.processes.ranks import say
from core.rows import Row, read_rows
from sft.augmentation.augmenter import Augmenter, described
from sft.config import SFTConfig
from sft.data import TraceError, encode_example, example_bytes, row_length
from vlm.load import check_checkpoint, context_length, load_processor, pixel_limits
from vlm.preflight import look_at_rows, usable_rows


@dataclass(frozen=True)
class Rows:
    """Rows to train on and held-out ones; lengths: tokens of each, one after the other."""

    train: list[Row]
    held_out: list[Row]
    lengths: list[int]


def read(config: SFTConfig) -> tuple[Any, Rows]:
    """The processor, and all rows that can be used; raises what `load_rows` raises, and CheckpointError."""
    check_checkpoint(config.model.path)
    processor = load_processor(config.model)
    train, lengths = load_rows(config, processor, config.data.rows, config.data.limit, TRAIN)
    held_out: list[Row] = []
    if config.data.eval_rows:
        held_out, more = load_rows(config, processor, config.data.eval_rows, config.data.eval_limit)
        lengths = lengths + more
    say(
        f"SFT: {len(train):,} rows from {config.data.rows}"
        + (f", {len(held_out):,} held out" if held_out else "")
    )
    return processor, Rows(train, held_out, lengths)


def load_rows(
    config: SFTConfig, processor: Any, path: str, limit: int | None, split: str | None = None
) -> tuple[list[Row], list[int]]:
    """Rows that can be trained on, and their lengths in tokens; each is looked at before the model is loaded.

    Raises RowError with the first 20 rows that cannot be used (`bad_rows: error`), TraceError with the first 20 that are
    too long (`long_rows: error`), and the count of the rest.
    """
    data, rows = config.data, read_rows(path, limit=limit, split=split)
    measure = partial(row_length, processor, max_frames=data.max_frames)
    looked = look_at_rows(rows, measure, processor, what="traces", max_frames=data.max_frames)
    context = None if data.max_tokens else context_length(config.model.path)
    lengths = {row["id"]: length for row, length in zip(rows, looked.lengths, strict=True)}
    beyond = {
        name: f"row {name!r}: {length} tokens, expected at most {context}, the model's context"
        for name, length in lengths.items()
        if context and length > context
    }
    problems = looked.problems | beyond
    kept, message = usable_rows(rows, problems, path, drop=data.bad_rows == "drop", most=data.max_bad_rows)
    if message:
        say(message)
    long = [row["id"] for row in kept if data.max_tokens and lengths[row["id"]] > data.max_tokens]
    if long:
        listed = _listed([f"row {name!r}: {lengths[name]} tokens" for name in long])
        message = (
            f"{path}: {len(long)} of {len(rows)} rows are longer than data.max_tokens = {data.max_tokens}"
        )
        if data.long_rows == "error":
            raise TraceError(f"{message} (data.long_rows: drop leaves them out):\n{listed}")
        say(f"{message} and left out:\n{listed}")
        dropped = set(long)
        kept = [row for row in kept if row["id"] not in dropped]
        if not kept:
            raise TraceError(f"{path}: no row is left; expected some of at most {data.max_tokens} tokens")
    return kept, [lengths[row["id"]] for row in kept]


def _listed(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines[:20]) + (
        f"\n  and {len(lines) - 20} more" if len(lines) > 20 else ""
    )


def augmenter_of(config: SFTConfig, processor: Any, rows: list[Row]) -> Augmenter:
    """The configured changes of images, with what they are refused for said. TraceError if they are refused for any row
    (`augment.refused: error`)."""
    assert config.data.augment is not None
    augmenter = Augmenter(rows, config.data.augment, config.seed, pixel_limits(processor))
    said = described(augmenter)
    if augmenter.refused and config.data.augment.refused == "error":
        raise TraceError(
            f"{config.data.rows}: data.augment would make rows wrong (augment.refused: skip trains on them unchanged):\n{said}"
        )
    say(said)
    return augmenter


def cache_fits(config: SFTConfig, processor: Any, rows: list[Row]) -> bool:
    """Whether encoded rows stay in memory: as configured, or by the size of a few spread over the file."""
    if config.data.cache_rows != "auto":
        return config.data.cache_rows
    sample = rows[:: math.ceil(len(rows) / 16)]
    size = sum(
        example_bytes(encode_example(processor, row, max_frames=config.data.max_frames)) for row in sample
    )
    return size / len(sample) * len(rows) <= config.data.cache_gb * 1e9

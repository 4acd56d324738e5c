"""The records of one source, endlessly, for one process: every epoch in another order, and resumable to the record.

`datasets` reads the pieces of the files (core/files/pieces.py), shares them out to the processes and knows where it
stands. It was chosen over the two other libraries for such streams:

- mosaicml-streaming 0.13 resumes exactly too, but asks for transformers < 5 and numpy < 2.2, and for all data as its own
  MDS shards;
- webdataset 1.0 reads tar files alone and keeps no place to resume from: it draws shards at random instead of counting
  epochs.

Its shuffle buffer is not used, because what the buffer holds is lost when a run is resumed. Records are shuffled here,
within windows: a window is read again from its beginning, and its order follows from seed, epoch and number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import RowError
from core.files.hub.ids import hub_id
from core.files.hub.paths import TRAIN
from core.files.pieces import Piece, all_shards, pieces_of, read_piece
from core.files.records import read_records

Record = tuple[str, Any, Path]
"""Where the record stands, for messages; the record; the folder that its media paths start from."""
PIECES_PER_RANK = 8
LARGEST_PIECE = 4_000_000  # bytes


@dataclass(frozen=True)
class Place:
    """Where a stream stands.

    epoch: from 0. window: number of the window in it. start: state of `datasets` at the window's beginning, None at that
    of the epoch. done: records of the window that have been read.
    """

    epoch: int = 0
    window: int = 0
    start: dict[str, Any] | None = None
    done: int = 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)


class Stream:
    """The records of `rank`'s share of the pieces. buffer: records of a window. In an epoch every record comes exactly once
    in exactly one process.

    Raises RowError if there are fewer pieces than processes.
    """

    def __init__(
        self, pieces: Sequence[Piece], *, seed: int, rank: int = 0, ranks: int = 1, buffer: int = 10_000
    ) -> None:
        if len(pieces) < ranks:
            files = sorted({piece.file for piece in pieces})
            raise RowError(
                f"{files[0] if files else 'rows'}: expected at least {ranks} pieces to share out to {ranks} processes, got"
                f" {len(pieces)}; write more files, Parquet files of more row groups, or .jsonl that is not compressed"
            )
        self.pieces, self.seed, self.rank, self.ranks, self.buffer = pieces, seed, rank, ranks, buffer

    def read(self, place: Place | None = None) -> Iterator[tuple[Record, Place]]:
        """Records from `place` on, each with the place behind it. RowError if a whole epoch has none."""
        place = place or Place()
        while True:
            data, found = self._epoch(place.epoch), place.start is not None
            if place.start is not None:
                data.load_state_dict(place.start)
            records = iter(data)
            while window := [_record(r) for r in islice(records, self.buffer)]:
                found = True
                order = self._order(place, len(window))
                for done in range(place.done, len(window)):
                    yield window[order[done]], replace(place, done=done + 1)
                place = Place(place.epoch, place.window + 1, data.state_dict())
            if not found:
                raise RowError(
                    f"{self.pieces[0].file}: expected at least one row in this process's share, got none"
                )
            place = Place(place.epoch + 1)

    def _order(self, place: Place, size: int) -> list[int]:
        numbers = [self.seed, place.epoch, place.window, self.rank]
        return np.random.default_rng(numbers).permutation(size).tolist()

    def _epoch(self, epoch: int) -> Any:
        """This process's pieces in the order of an epoch, as `datasets` reads them."""
        from datasets import IterableDataset
        from datasets.distributed import split_dataset_by_node

        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pieces))
        data = IterableDataset.from_generator(
            _records, gen_kwargs={"pieces": [self.pieces[i] for i in order]}
        )
        return split_dataset_by_node(data, self.rank, self.ranks, strategy="shards")


def stream_of(path: str | Path, *, seed: int, rank: int = 0, ranks: int = 1, buffer: int = 10_000) -> Stream:
    """Of the rows of a file, folder or data set of the Hub, in pieces small enough for all processes."""
    total = sum(piece.end for piece in pieces_of(path, 1 << 62, TRAIN) if piece.file.endswith(".jsonl"))
    size = min(LARGEST_PIECE, max(1, total // (ranks * PIECES_PER_RANK))) if total else LARGEST_PIECE
    return Stream(pieces_of(path, size, TRAIN), seed=seed, rank=rank, ranks=ranks, buffer=buffer)


def refuse_other_form(path: str | Path, setting: str, split: str | None = None) -> None:
    """RowError where the first record of a file, folder or data set of the Hub is no row of `pretrain.py` but something else."""
    shard = all_shards(path, split)[0]
    record = next((record for _, record, _ in read_records(shard)), None)
    if not isinstance(record, Mapping) or "document" in record or isinstance(record.get("prompt"), list):
        return  # a row, or a broken one, of which its reader says what is wrong
    hub = hub_id(path, "dataset") is not None
    convert = (
        f"`python -m data_recipes rows {path}` makes rows of the forms it knows" if hub
        else "a recipe (`python -m data_recipes run`) makes rows of the forms that `python -m data_recipes formats` lists"
    )  # fmt: skip
    raise RowError(
        f"{setting}: {path}: expected rows with a document, or with prompt and trace (docs/data_format.md), got the columns"
        f" {', '.join(map(str, record))}. {convert}; `python -m data_recipes inspect {path}` shows what it is"
    )


def _records(pieces: list[Piece]) -> Iterator[dict[str, Any]]:
    """What `datasets` calls for its share of the pieces; it takes dicts alone."""
    for piece in pieces:
        for where, record, folder in read_piece(piece):
            yield {"where": where, "record": record, "folder": folder}


def _record(held: dict[str, Any]) -> Record:
    return held["where"], held["record"], held["folder"]

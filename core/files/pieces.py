"""Files of records in pieces that can each be read alone, so that no process reads what another one trains on.

| file | piece |
|---|---|
| `.jsonl` | about `piece_bytes` bytes; a line belongs to the piece in which it begins |
| `.jsonl.gz` | the whole file: it can be read from the start only |
| `.parquet` | a row group |
| `datasets` folder | about `piece_bytes` / 1,000 rows, mapped into memory |

The pieces of terabytes are listed from file sizes and footers; no record is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import RowError
from core.files.hub.ids import HubError
from core.files.hub.paths import rows_files
from core.files.records import parse_line, read_records, shards_of, without_filling

ROW_BYTES = 1000
"""Of a row in a `datasets` folder, about: its files do not say."""


@dataclass(frozen=True)
class Piece:
    """start, end: bytes of a .jsonl file, a row group of a Parquet file (and the one after it), rows of a `datasets` folder;
    0 and the size of a .jsonl.gz."""

    file: str
    start: int
    end: int


def pieces_of(path: str | Path, piece_bytes: int, split: str | None = None) -> list[Piece]:
    """All pieces of a file, folder, or data set of the Hub, in order. RowError where there is no record file."""
    return [piece for shard in all_shards(path, split) for piece in _pieces_of_shard(shard, piece_bytes)]


def all_shards(path: str | Path, split: str | None = None) -> list[Path]:
    """The files that hold the rows of a file, folder, or data set of the Hub. RowError where there are none."""
    try:
        return [shard for file in rows_files(path, split) for shard in shards_of(file)]
    except HubError as error:
        raise RowError(str(error)) from None


def read_piece(piece: Piece) -> Iterator[tuple[str, Any, Path]]:
    """(place, record, folder that relative media paths start from) of every record of a piece, in order, as
    `core.files.records.read_records` yields them; the place in a .jsonl file is its byte."""
    path = Path(piece.file)
    if path.is_dir():
        return _rows_of_folder(path, piece.start, piece.end)
    if path.name.endswith(".parquet"):
        return _row_group(path, piece.start)
    return _lines(path, piece.start, piece.end) if path.name.endswith(".jsonl") else read_records(path)


def _pieces_of_shard(shard: Path, piece_bytes: int) -> Iterator[Piece]:
    if shard.is_dir():
        yield from _spans(shard, len(_table(shard)), max(1, piece_bytes // ROW_BYTES))
    elif shard.name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        try:
            groups = pyarrow.parquet.read_metadata(shard).num_row_groups
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise RowError(f"{shard}: expected a Parquet file: {error}") from None
        yield from _spans(shard, groups, 1)
    else:
        size = shard.stat().st_size
        yield from _spans(shard, size, piece_bytes if shard.name.endswith(".jsonl") else max(1, size))


def _spans(shard: Path, total: int, step: int) -> Iterator[Piece]:
    for start in range(0, total, step):
        yield Piece(str(shard), start, min(start + step, total))


def _lines(path: Path, start: int, end: int) -> Iterator[tuple[str, Any, Path]]:
    folder = path.parent.resolve()
    with path.open("rb") as file:
        if start:  # the line that began before belongs to the piece before
            file.seek(start - 1)
            start += len(file.readline()) - 1
        while start < end and (line := file.readline()):
            if line.strip():
                yield f"{path} at byte {start:,}", parse_line(line), folder
            start += len(line)


def _row_group(path: Path, group: int) -> Iterator[tuple[str, Any, Path]]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    number = sum(file.metadata.row_group(i).num_rows for i in range(group))
    for batch in file.iter_batches(batch_size=256, row_groups=[group]):
        for record in batch.to_pylist():
            number += 1
            yield f"{path}:{number}", without_filling(record), path.parent.resolve()


def _rows_of_folder(path: Path, start: int, end: int) -> Iterator[tuple[str, Any, Path]]:
    table = _table(path).with_format("arrow")  # as stored: media columns stay undecoded
    for number in range(start, end):
        (record,) = table[number].to_pylist()
        yield f"{path}:{number + 1}", without_filling(record), path.resolve()


def _table(path: Path) -> Any:
    from datasets import load_from_disk

    return load_from_disk(str(path))

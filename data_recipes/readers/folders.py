"""Records of any path: a file, a folder of shards as on model hubs, or a folder written by `save_to_disk`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.files.records import SHARDS
from data_recipes.readers.files import json_records, kind_of, parquet_rows, table_rows
from data_recipes.records import Record, SourceError

SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "testmini", "eval")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")


def records(path: Path, split: str | None = None) -> Iterator[Record]:
    """Records in file order; the files of a folder are sorted by name.

    split: the split to read from a folder with several (`train-00000-of-00004.parquet`, `test-…`) or a `datasets.DatasetDict`.
    Raises SourceError for a folder without files of rows, or with several splits if `split` is None.
    """
    if not path.is_dir():
        yield from file_records(path)
    elif (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        yield from _saved(path, split)
    else:
        files = shards(path, split)
        for file in files:
            yield from (record.of_shard() if len(files) > 1 else record for record in file_records(file))


def file_records(path: Path) -> Iterator[Record]:
    """Records of one file: .parquet, .arrow, otherwise JSON in any layout, possibly compressed."""
    suffix = kind_of(path)
    if suffix == ".parquet":
        return parquet_rows(path)
    return _arrow_rows(path) if suffix == ".arrow" else json_records(path)


def shards(path: Path, split: str | None = None) -> list[Path]:
    """Files of rows in a folder: a recipe's own output, Parquet (also in one subfolder), or JSON."""
    found = sorted(path.glob(SHARDS)) or sorted(path.glob("rows-*.parquet"))
    if not found:
        found = sorted(f for f in path.rglob("*.parquet") if not _hidden(f.relative_to(path)))
        folders = sorted({str(f.parent.relative_to(path)) for f in found})
        if len(folders) > 1:
            raise SourceError(
                f"{path}: expected Parquet files in one folder, got them in {', '.join(folders)}: name one"
            )
    if not found:
        found = sorted(
            f for f in path.iterdir() if kind_of(f) in (".jsonl", ".json") and not f.name.startswith(".")
        )
    if not found:
        raise SourceError(
            f"{path}: expected a folder of .parquet, .jsonl or .json files, or one written by datasets' save_to_disk;"
            f" got {', '.join(sorted(f.name for f in path.iterdir())[:5]) or 'an empty one'}"
        )
    by_split: dict[str, list[Path]] = {}
    for file in found:
        by_split.setdefault(_split_of(file), []).append(file)
    named = [name for name in by_split if name]
    if split is not None:
        if split not in named:
            raise SourceError(f"{path}: expected the split '{split}', got {', '.join(named) or 'no splits'}")
        return by_split[split]
    if len(named) > 1:
        raise SourceError(
            f"{path}: expected files of one split, got {', '.join(named)}: name one with the option split"
        )
    return found


def _split_of(file: Path) -> str:
    """The split named by a file's name; "" if there is none."""
    stem = file.name.split(".")[0]
    if match := _SHARD.match(file.name):
        return "" if match.group(1) == "rows" else match.group(1)
    first = re.split(r"[-_]", stem)[0]
    return first if first in SPLITS else ""


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _saved(path: Path, split: str | None) -> Iterator[Record]:
    """Rows of a folder written by `save_to_disk`; `at` is the number from 1."""
    from datasets import load_from_disk

    if (path / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in path.iterdir() if (p / "state.json").is_file())
        if split is None and len(splits) != 1:
            raise SourceError(
                f"{path}: expected one split, got {', '.join(splits)}: name one with the option split"
            )
        if split is not None and split not in splits:
            raise SourceError(f"{path}: expected the split '{split}', got {', '.join(splits)}")
        path = path / (split or splits[0])
    try:
        table = load_from_disk(str(path)).with_format("arrow")  # as stored: media columns stay undecoded
    except (ValueError, OSError, KeyError) as error:
        raise SourceError(
            f"{path}: expected a folder written by datasets' save_to_disk, got: {error}"
        ) from None
    number = 0
    for batch in table.iter(batch_size=64):
        yield from table_rows(batch, path / "data", number)
        number += batch.num_rows


def _arrow_rows(path: Path) -> Iterator[Record]:
    """Rows of an Arrow stream or file, as `datasets` caches them."""
    import pyarrow as pa

    number = 0
    try:
        with pa.memory_map(str(path)) as source:
            for batch in _batches(source):
                yield from table_rows(batch, path, number)
                number += batch.num_rows
    except pa.ArrowException as error:
        yield Record(None, path, number + 1, f"expected an Arrow file, got one that does not decode: {error}")


def _batches(source: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        stream = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        file = pa.ipc.open_file(source)
        yield from (file.get_batch(i) for i in range(file.num_record_batches))
        return
    yield from stream

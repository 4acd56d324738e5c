"""Checks every row before a run: decodes its media, tokenises its texts, and records its length in tokens.

Rows are split among the ranks of a run and measured in worker processes. Rows that pass are cached by their content
(texts; path, size and modification time of each medium) in `$ONSIGHT_CACHE`, by default `~/.cache/onsight`, so that the
next start decodes nothing. Rows that fail are checked again at every start.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from core.rows import LISTED_ERRORS, Row, RowError
from vlm.families import family_of_processor

FORMAT = 1  # version of the cache; increase it when the checks become stricter
ROWS_PER_WORKER = 256  # starting a process does not pay for fewer
_LINE = re.compile(r"([0-9a-f]{32}) (\d+)\n")


@dataclass(frozen=True)
class Looked:
    """lengths: tokens of each row, in order; 0 for an unusable row. problems: what is wrong, by row id."""

    lengths: list[int]
    problems: dict[str, str]


def look_at_rows(
    rows: Sequence[Row], measure: Callable[[Row], int], processor: Any, *, what: str, max_frames: int
) -> Looked:
    """Measure all rows; every rank gets the same result.

    measure: returns the tokens of a row; raises ValueError, naming the row, if it is unusable. what: name of what is
        measured; together with the processor's settings and `max_frames` it is the cache's key.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = range(rank, len(rows), ranks)
    memory = _Memory(_settings(processor, what, max_frames), rank)
    known = memory.read()
    keys = {index: row_key(rows[index]) for index in mine}
    found: dict[int, int | str] = {index: known[key] for index, key in keys.items() if key in known}
    missing = [index for index in mine if index not in found]
    bar = tqdm(
        total=len(missing), desc="rows", unit="row", disable=rank > 0 or len(missing) < ROWS_PER_WORKER
    )
    with memory, bar:
        for index, result in _measured(rows, missing, measure):
            found[index] = result
            if isinstance(result, int):
                memory.add(keys[index], result)
            bar.update()
    everyone = [found]
    if ranks > 1:
        everyone = [{}] * ranks
        dist.all_gather_object(everyone, found)
    results = {index: result for one in everyone for index, result in one.items()}
    lengths = [n if isinstance(n := results[index], int) else 0 for index in range(len(rows))]
    problems = {rows[i]["id"]: r for i, r in sorted(results.items()) if isinstance(r, str)}
    return Looked(lengths, problems)


def usable_rows(
    rows: Sequence[Row], problems: Mapping[str, str], path: str, *, drop: bool, most: float
) -> tuple[list[Row], str | None]:
    """(rows without the unusable ones, a message about those).

    drop: leave unusable rows out if they are at most the share `most` of all rows. Otherwise raises RowError with the
    first 20 problems and the count of the rest.
    """
    if not problems:
        return list(rows), None
    lines = list(problems.values())
    listed = [f"  {line}" for line in lines[:LISTED_ERRORS]]
    if len(lines) > LISTED_ERRORS:
        listed.append(f"  and {len(lines) - LISTED_ERRORS} more")
    message = f"{path}: {len(problems)} of {len(rows)} rows cannot be used"
    if not drop:
        raise RowError("\n".join([f"{message} (bad_rows: drop would leave them out):", *listed]))
    if len(problems) == len(rows) or len(problems) > most * len(rows):
        raise RowError("\n".join([f"{message}, more than the share max_bad_rows = {most:g}:", *listed]))
    kept = [row for row in rows if row["id"] not in problems]
    return kept, "\n".join([f"{message} and are left out:", *listed])


def row_key(row: Row) -> str | None:
    """Hash of a row's prompt, trace or responses, and media; None if a file is missing."""
    try:
        media = [_identity(medium) for field in ("images", "videos") for medium in row[field]]
    except OSError:
        return None
    texts = [row.get(field) for field in ("trace", "chosen", "rejected")]
    parts = [row["prompt"], *(texts if texts[1] else texts[:1]), len(row["images"]), media]
    return sha256(
        json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    ).hexdigest()[:32]


def _identity(medium: Any) -> Any:
    if isinstance(medium, bytes):
        return sha256(medium).hexdigest()
    if isinstance(medium, Mapping):
        return {k: _identity(v) if k in ("bytes", "path") else v for k, v in medium.items() if v is not None}
    stat = os.stat(medium)
    return [str(medium), stat.st_size, stat.st_mtime_ns]


def _settings(processor: Any, what: str, max_frames: int) -> str:
    parts = [
        FORMAT,
        what,
        max_frames,
        family_of_processor(processor).model_type if hasattr(processor, "image_processor") else "text",
        processor.chat_template,
        processor.tokenizer.backend_tokenizer.to_str(),
        *(one.to_json_string() for one in _media_processors(processor)),
        *(version(package) for package in ("pillow", "av", "transformers")),
    ]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _media_processors(processor: Any) -> list[Any]:
    """None for a model that reads text alone."""
    names = ("image_processor", "video_processor")
    return [getattr(processor, name) for name in names if hasattr(processor, name)]


# ------------------------------------------------------------------------------------------------------------ workers


class _Rows(Dataset):
    def __init__(self, rows: Sequence[Row], indices: Sequence[int], measure: Callable[[Row], int]) -> None:
        self.rows, self.indices, self.measure = rows, indices, measure

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, int | str]:
        index = self.indices[place]
        try:
            return index, self.measure(self.rows[index])
        except ValueError as error:
            return index, str(error)


def _measured(
    rows: Sequence[Row], indices: Sequence[int], measure: Callable[[Row], int]
) -> Iterator[tuple[int, int | str]]:
    """(index, tokens or problem) of the given rows, in order; a small number is measured in this process."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    workers = min(cores, len(indices) // ROWS_PER_WORKER)
    loader = DataLoader(
        _Rows(rows, indices, measure),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers if workers > 1 else 0,
        generator=torch.Generator(),  # leaves the run's own random state unchanged
    )
    yield from loader


def _unchanged(item: Any) -> Any:
    return item


# -------------------------------------------------------------------------------------------------------------- cache


class _Memory:
    """Cached lengths of rows that passed, by `row_key`: one append-only file per settings and rank."""

    def __init__(self, settings: str, rank: int) -> None:
        cache = os.environ.get("ONSIGHT_CACHE") or Path(
            os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "onsight"
        )
        self._folder = Path(cache, "rows")
        self._settings = settings
        self._path = self._folder / f"{settings}-{rank}.txt"
        self._file: Any = None

    def read(self) -> dict[str | None, int]:
        """Results of all ranks of earlier runs; a line cut off by a crash is ignored."""
        known: dict[str | None, int] = {}
        for path in sorted(self._folder.glob(f"{self._settings}-*.txt")):
            with path.open(encoding="ascii", errors="replace") as file:
                known |= {m[1]: int(m[2]) for m in map(_LINE.fullmatch, file) if m}
        return known

    def __enter__(self) -> _Memory:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="ascii")
        except OSError:
            self._file = None  # without a writable folder the next start measures again
        return self

    def add(self, key: str | None, length: int) -> None:
        if self._file and key:
            self._file.write(f"{key} {length}\n")

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

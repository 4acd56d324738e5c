"""Compares pairs of media in several processes, each pair once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Any, TypeVar

from cachetools import LRUCache
from threadpoolctl import threadpool_limits

from data_recipes.operations import media_hashes
from data_recipes.operations.media_hashes import Comparison, Thresholds
from data_recipes.operations.near import NearIndex

FEW = 64
"""So many pairs at a time are judged here: starting processes would take longer."""
REMEMBERED = 1 << 18
"""Pairs whose verdict is kept: rows that ask several questions about an image meet each pair several times."""

Medium = tuple[str, tuple[int, ...]]  # kind, numbers of its frames' images
Item = TypeVar("Item")


def one_thread() -> threadpool_limits:
    """Let BLAS use one thread in this process: matrices are so small that more of them slow it down ten times."""
    return threadpool_limits(1, "blas")


class MediaJudge:
    """Judges lists of pairs of media. The verdicts do not depend on the number of workers."""

    def __init__(self, index: NearIndex, limits: Thresholds, workers: int) -> None:
        self._index, self._limits, self._workers = index, limits, workers
        self._pool: ProcessPoolExecutor | None = None
        self._known: LRUCache[tuple[Medium, Medium], Comparison] = LRUCache(REMEMBERED)
        self.judged = 0

    def __enter__(self) -> MediaJudge:
        self._threads = one_thread()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._threads.restore_original_limits()

    def __call__(self, rows: Sequence[Sequence[tuple[Medium, Medium]]]) -> list[list[Comparison]]:
        """The comparisons of each list of pairs."""
        new = dict.fromkeys(pair for pairs in rows for pair in pairs if pair not in self._known)
        compared = dict(zip(new, self._compare(list(new))))
        self.judged += len(new)
        found = [[compared[p] if p in compared else self._known[p] for p in pairs] for pairs in rows]
        self._known.update(compared)
        return found

    def _compare(self, pairs: list[tuple[Medium, Medium]]) -> Iterable[Comparison]:
        jobs = [(self._index.packed(a), self._index.packed(b), self._limits) for a, b in pairs]
        if self._workers == 1 or (len(jobs) < FEW and self._pool is None):
            return map(_compared, jobs)
        if self._pool is None:  # spawned: fresh, whatever threads and connections this process has
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), one_thread)
        return self._pool.map(_compared, jobs, chunksize=8)


def _compared(job: tuple[dict[str, Any], dict[str, Any], Thresholds]) -> Comparison:
    a, b, limits = job
    ours, theirs = media_hashes.unpack_media([a, b])
    return media_hashes.compare(ours, theirs, limits)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    rest = iter(items)
    while some := list(itertools.islice(rest, size)):
        yield some

"""Several sources as one stream of training sequences, in the shares of their token budgets."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from pretraining.documents import UnusableRow
from pretraining.stream import Place, Record, Stream
from vlm.packed.packing import Segment

AHEAD = 4
"""Rows of a source that are encoded in advance, where there are workers."""


@dataclass
class Counts:
    """Of one source in this process, so far. split: rows longer than the window."""

    tokens: int = 0
    rows: int = 0
    bad: int = 0
    split: int = 0


@dataclass
class Source:
    """One kind of data. place: behind the last row of which all sequences have been taken; taken: those of the next row."""

    stream: Stream
    place: Place = field(default_factory=Place)
    taken: int = 0
    counts: Counts = field(default_factory=Counts)
    coming: Iterator[Segment] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place.state_dict(), "taken": self.taken, "counts": asdict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.place, self.taken = Place(**state["place"]), state["taken"]
        self.counts, self.coming = Counts(**state["counts"]), None


class Mixture:
    """Sequences of all sources in this process, endlessly. The next one is of the source that lags furthest behind its share of
    the tokens, so that the shares hold at any time, to one row.

    sources, budgets: by kind of data. encode: a record to its sequences, or UnusableRow, which is named and counted.
    most_bad: largest share of a source's rows that may be unusable; one may be where it is above 0.
    pool: encodes rows in advance; None: each when it is asked for.
    """

    def __init__(
        self,
        sources: Mapping[str, Stream],
        budgets: Mapping[str, float],
        encode: Callable[..., list[Segment]],
        most_bad: float = 0.0,
        pool: Executor | None = None,
    ) -> None:
        self.sources = {kind: Source(stream) for kind, stream in sources.items()}
        self.budgets, self.encode, self.most_bad, self.pool = budgets, encode, most_bad, pool

    @property
    def tokens(self) -> int:
        """Of all sequences taken so far."""
        return sum(source.counts.tokens for source in self.sources.values())

    def take(self) -> tuple[str, Segment]:
        """The next sequence, and its kind of data."""
        kind = min(self.sources, key=lambda k: self.sources[k].counts.tokens / self.budgets[k])
        source = self.sources[kind]
        if source.coming is None:
            source.coming = self._segments(source)
        segment = next(source.coming)
        source.counts.tokens += len(segment)
        return kind, segment

    def take_until(self, tokens: float) -> list[tuple[str, Segment]]:
        """Sequences until `tokens` have been taken since the beginning; the last one may go beyond."""
        taken = []
        while self.tokens < tokens:
            taken.append(self.take())
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Where the mixture stands, as JSON."""
        return {kind: source.state_dict() for kind, source in self.sources.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for kind, source in self.sources.items():
            source.load_state_dict(state[kind])

    def _segments(self, source: Source) -> Iterator[Segment]:
        """The source's sequences from where it stands."""
        skip = source.taken
        for segments, behind in self._encoded(source):
            if isinstance(segments, UnusableRow):
                self._left_out(source.counts, segments)
                segments = []
            for number, segment in enumerate(segments[skip:], skip + 1):
                whole = number == len(segments)
                if whole:
                    self._row_done(source, behind, len(segments))
                else:
                    source.taken = number
                yield segment
            if not segments:
                self._row_done(source, behind, 0)
            skip = 0

    def _left_out(self, counts: Counts, error: UnusableRow) -> None:
        """Name and count a row. UnusableRow if there are too many."""
        counts.bad += 1
        if counts.bad > (max(1.0, self.most_bad * counts.rows) if self.most_bad else 0):
            raise UnusableRow(
                f"{error}\n{counts.bad} of the {counts.rows + 1:,} rows that this process has read of the source are unusable,"
                f" more than the share data.max_bad_rows = {self.most_bad:g}"
            )
        tqdm.write(f"left out: {error}", file=sys.stderr)

    def _row_done(self, source: Source, behind: Place, sequences: int) -> None:
        source.place, source.taken = behind, 0
        source.counts.rows += 1
        source.counts.split += sequences > 1

    def _encoded(self, source: Source) -> Iterator[tuple[list[Segment] | UnusableRow, Place]]:
        records = source.stream.read(source.place)
        if self.pool is None:
            yield from ((self._encode(record), behind) for record, behind in records)
            return
        waiting: deque[tuple[Any, Place]] = deque()
        for record, behind in records:
            waiting.append((self.pool.submit(self._encode, record), behind))
            if len(waiting) > AHEAD:
                future, place = waiting.popleft()
                yield future.result(), place

    def _encode(self, record: Record) -> list[Segment] | UnusableRow:
        try:
            return self.encode(*record)
        except UnusableRow as error:
            return error

"""What readers and operations exchange: records of public files, rows, and what was left out and why.

A reader is a `Format`: `read` splits a file into records, `convert` makes rows of one record or raises `Rejected`. An
operation is a function over rows: a `RowOperation` looks at one row at a time, a `SetOperation` compares rows with each
other by small signatures, so that no operation ever holds all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, field_validator

from core.config import Section
from core.rows import Row
from data_recipes.files.json_text import Piece, parse_json


class Rejected(ValueError):
    """A record that cannot become a row; the message names the field, what was expected and what came."""


class SourceError(ValueError):
    """A path or an option that makes all records of a source unreadable; the run ends."""


class Record:
    """One entry of a public file as it stands there.

    at: line (from 1), key or index in `file`. problem: set, with data None, where the entry could not be read at all.
    A record made by `unread` is parsed when first looked at, so that passing over records of other workers costs little.
    """

    __slots__ = ("_content", "_data", "_line", "_place", "_problem", "at", "file")

    def __init__(self, data: Any, file: Path, at: int | str, problem: str | None = None):
        self._data, self.file, self.at, self._problem = data, file, at, problem
        self._content: bytes | None = None
        self._line: int | None = None
        self._place = at

    @classmethod
    def unread(cls, content: bytes, file: Path, at: int | str) -> Record:
        """A record of the JSON text `content`."""
        record = cls(None, file, at)
        record._content = content
        return record

    @classmethod
    def piece(cls, piece: Piece, file: Path) -> Record:
        """A record of a piece of JSON text, or of what is wrong with it."""
        record = cls(None, file, piece.at, piece.problem)
        record._content = None if piece.problem else piece.content
        record._line = None if piece.at == piece.line else piece.line
        return record

    @property
    def data(self) -> Any:
        self._parse()
        return self._data

    @property
    def problem(self) -> str | None:
        self._parse()
        return self._problem

    @property
    def where(self) -> str:
        """FILE:AT, and the line where `at` is a key or an index."""
        line = "" if self._line is None else f" (line {self._line})"
        return f"{self.file}:{self._place}{line}"

    def of_shard(self) -> Record:
        """The record with an `at` that is unique over all files of the set."""
        self.at = f"{self.file.name.split('.')[0]}-{self._place}"
        return self

    def __repr__(self) -> str:
        return f"Record({self.where})"

    def _parse(self) -> None:
        if self._content is None:
            return
        content, self._content = self._content, None
        try:
            self._data = parse_json(content)
        except (ValueError, RecursionError) as error:  # JSON or UTF-8
            self._problem = f"expected one JSON value, got no valid JSON ({error})"


class Options(Section):
    """Options of a format or an operation in a recipe; each has its own subclass with a docstring under every field."""

    model_config = ConfigDict(frozen=True)

    @field_validator("*")
    @classmethod
    def _home(cls, value: Any) -> Any:
        return value.expanduser() if isinstance(value, Path) else value


@dataclass(frozen=True)
class Format:
    """A public file format.

    read(path, options): the file's (or folder's) records in order, streaming. It decides nothing.
    convert(record, options): the rows of one record, ids unique in the file, media paths absolute; raises Rejected, or
        yields one in place of a row where only a part of the record is wrong.
    looks_like(path, first): whether a file with this first record's data is of this format; for `inspect`.
    generates: the path is where media are written; nothing need be there.
    """

    name: str
    summary: str
    read: Callable[[Path, Any], Iterator[Record]]
    convert: Callable[[Record, Any], Iterable[Row | Rejected]]
    looks_like: Callable[[Path, Any], bool]
    options: type[Options] = Options
    generates: bool = False

    def rows(self, record: Record, options: Any) -> Iterator[Row | Rejected]:
        """Rows of a record, at least one. A record that cannot be read or converted gives a Rejected, whatever it holds.

        Raises only SourceError, where an option rather than the record is wrong.
        """
        if record.problem is not None:
            yield Rejected(record.problem)
            return
        made = 0
        try:
            for row in self.convert(record, options):
                made += 1
                yield row
        except Rejected as error:
            made += 1
            yield error
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001  a value that the reader did not think of costs its record alone
            made += 1
            yield Rejected(
                f"expected a record of the format '{self.name}', got one that it cannot take ({type(error).__name__}: {error})"
            )
        if not made:
            yield Rejected(f"expected a record of the format '{self.name}', got one without any row")


@dataclass(frozen=True)
class Removed:
    """A row that an operation takes out.

    rule: short name for counting, e.g. "image_duplicate". reason: one sentence with the figures. kept: id of the row
    that stays in its place, for duplicates. row: as it was.
    """

    row: Row
    rule: str
    reason: str
    kept: str | None = None


@dataclass(frozen=True)
class Several:
    """The rows that one row became, with different ids; from an operation that `splits` rows."""

    rows: tuple[Row, ...]


@dataclass
class Context:
    """What an operation may use besides its rows.

    folder: private to this operation, for caches: kept when a run is interrupted, and shared by all workers.
    counts: figures for the report; those of all workers are added up.
    workers: processes that a set operation may use while it decides.
    media: folder of images that an operation makes; they go where the output's media go. None: in `folder`.
    """

    folder: Path
    seed: int = 0
    workers: int = 1
    media: Path | None = None
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class RowOperation:
    """Rows in, the same rows in the same order out: changed, or as Removed. Never fewer, never more, but that one with `splits` may
    make Several of a row."""

    apply: Callable[[Iterator[Row], Any, Context], Iterator[Row | Removed | Several]]
    options: type[Options]
    splits: bool = False


@dataclass(frozen=True)
class Signature:
    """What a set operation knows of a row. data: small and JSON-able, from `sign`."""

    id: str
    task: str
    source: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """A set operation's verdict on a row that is to leave; fields as in Removed."""

    id: str
    rule: str
    reason: str
    kept: str | None = None


@dataclass(frozen=True)
class SetOperation:
    """Rows are signed where they are, in parallel; one process then decides from the signatures which rows leave.

    decide(signatures, options, context): `signatures()` starts a new pass over all of them, in the order of the rows.
    """

    sign: Callable[[Row, Any], Mapping[str, Any]]
    decide: Callable[[Callable[[], Iterator[Signature]], Any, Context], Iterator[Decision]]
    options: type[Options]

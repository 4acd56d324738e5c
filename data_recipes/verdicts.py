"""What a set operation decided about rows: an SQLite file that one process writes and the next stage's workers read."""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.records import Decision, Signature

Position = tuple[int, int, int]
"""Position of a row in the input: index of its source, of its record there, of the row in the record."""
DUPLICATE_ID = "duplicate_id"


@dataclass(frozen=True)
class Verdict:
    """Verdict on a row that is removed or repeated. copies: 0 removes it, n > 1 repeats it. why: (rule, reason, kept)."""

    copies: int
    operation: str
    why: tuple[str, str, str | None] = ("", "", None)


class Verdicts:
    """Verdicts by position; rows without one stay as they are."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[Verdicts]:
        """The file at `path`, for reading."""
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            yield cls(connection)
        finally:
            connection.close()

    @classmethod
    @contextmanager
    def written(cls, path: Path) -> Iterator[Verdicts]:
        """A new file, which gets its name when it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary)
        connection.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8000;
            CREATE TABLE ids (id TEXT PRIMARY KEY, source INT, record INT, row INT, origin TEXT) WITHOUT ROWID;
            CREATE TABLE verdicts (source INT, record INT, row INT, copies INT, operation TEXT, rule TEXT, reason TEXT,
                                   kept TEXT, PRIMARY KEY (source, record, row)) WITHOUT ROWID;
            """
        )
        try:
            yield cls(connection)
            connection.execute("DROP TABLE ids")
            connection.commit()
        finally:
            connection.close()
        temporary.replace(path)

    def of(self, position: Position) -> Verdict | None:
        found = self._connection.execute(
            "SELECT copies, operation, rule, reason, kept FROM verdicts WHERE source = ? AND record = ? AND row = ?",
            position,
        ).fetchone()
        return None if found is None else Verdict(found[0], found[1], found[2:])

    def add(self, position: Position, verdict: Verdict) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*position, verdict.copies, verdict.operation, *verdict.why),
        )

    def enter(self, signed: Signed) -> bool:
        """Remember where a row is; False, with a verdict, if another before it has the same id."""
        try:
            self._connection.execute(
                "INSERT INTO ids VALUES (?, ?, ?, ?, ?)",
                (signed.signature.id, *signed.position, signed.origin),
            )
        except sqlite3.IntegrityError:
            first = self._connection.execute(
                "SELECT origin FROM ids WHERE id = ?", (signed.signature.id,)
            ).fetchone()
            why = (DUPLICATE_ID, f"the id stands at {first[0]} already", signed.signature.id)
            self.add(signed.position, Verdict(0, "ids", why))
            return False
        return True

    def remove(self, decision: Decision, operation: str) -> None:
        """Carry a decision over to the row's place."""
        place = self._connection.execute(
            "SELECT source, record, row FROM ids WHERE id = ?", (decision.id,)
        ).fetchone()
        if place is None:
            raise RuntimeError(
                f"operation '{operation}' decided about an id that no row has: {decision.id!r}"
            )
        self.add(place, Verdict(0, operation, (decision.rule, decision.reason, decision.kept)))


@dataclass(frozen=True)
class Signed:
    """A signature with the place of its row."""

    position: Position
    origin: str
    signature: Signature


def signed_rows(files: list[Path]) -> Iterator[Signed]:
    """Signatures of all tasks in the order in which the rows were read, in constant memory."""
    return heapq.merge(*map(_signed, files), key=lambda signed: signed.position)


def _signed(path: Path) -> Iterator[Signed]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            entry: dict[str, Any] = json.loads(line)
            signature = Signature(entry["id"], entry["task"], entry["source"], entry.get("data", {}))
            yield Signed(tuple(entry["position"]), entry["origin"], signature)


def group_sizes(files: list[Path]) -> Counter[tuple[str, str]]:
    """Rows by (source, task)."""
    return Counter((s.signature.source, s.signature.task) for s in signed_rows(files))

"""An index on disk in which near-duplicates are found by parts of their hashes that agree, not by comparing all pairs.

A 64-bit hash is stored under its four 16-bit bands and looked up under each band and all its 16 neighbours at one bit
(multi-index hashing, Norouzi et al. 2012, arXiv 1307.2982). By the pigeonhole principle every pair that differs in at
most 7 bits is found; farther ones are found where one band differs in at most one bit, and are then judged like all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.operations import media_hashes, text_hashes
from data_recipes.operations.image_hashes import ImageHash
from data_recipes.operations.media_hashes import Hashed, Medium
from data_recipes.operations.text_hashes import TextHash

BANDS = 4
CERTAIN_BITS = 2 * BANDS - 1
"""Pairs of hashes that differ in so many bits are found for certain."""

_NEIGHBOURS = np.array([0] + [1 << bit for bit in range(16)], np.int64)
_SHIFTS = np.arange(BANDS, dtype=np.uint64) * np.uint64(16)
_BAND_PREFIX = (np.arange(BANDS, dtype=np.int64) << 16)[None, :, None]

_TABLES = """
CREATE TABLE names (no INTEGER PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE entries (no INTEGER PRIMARY KEY, numbers TEXT NOT NULL, text TEXT NOT NULL, media TEXT NOT NULL);
CREATE TABLE image_bands (key INTEGER, no INTEGER, slot INTEGER, hash INTEGER, PRIMARY KEY (key, no, slot, hash)) WITHOUT ROWID;
CREATE TABLE text_bands (key INTEGER, no INTEGER, PRIMARY KEY (key, no)) WITHOUT ROWID;
CREATE TABLE media_text_bands (key INTEGER, no INTEGER, PRIMARY KEY (key, no)) WITHOUT ROWID;
CREATE TABLE exact (digest TEXT PRIMARY KEY, no INTEGER) WITHOUT ROWID;
CREATE TABLE judged (no INTEGER, other INTEGER, PRIMARY KEY (no, other)) WITHOUT ROWID;
CREATE TABLE pairs (no INTEGER PRIMARY KEY, other INTEGER NOT NULL, reason TEXT NOT NULL);
"""


class NearIndex:
    """Entries by number, with what is needed to judge a pair. Memory: SQLite's cache, 8 MB, whatever the size."""

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        self.db = sqlite3.connect(path, isolation_level=None)
        # the file is made anew after a crash, so nothing need survive one
        self.db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8192;"
        )
        if new:
            self.db.executescript(_TABLES)
        self.db.execute("BEGIN")

    def close(self) -> None:
        self.db.execute("COMMIT")
        self.db.close()

    def add_name(self, no: int, name: str) -> None:
        self.db.execute("INSERT INTO names VALUES (?, ?)", (no, name))

    def name(self, no: int) -> str:
        return str(self.db.execute("SELECT id FROM names WHERE no = ?", (no,)).fetchone()[0])

    def add(
        self,
        no: int,
        data: Mapping[str, Any],
        hashed: Hashed,
        *,
        media: int | None,
        windows: bool = False,
        text: bool,
    ) -> None:
        """Store an entry; it can be found by its first `media` media (None: by all) and by its text if `text`.

        windows: also by the windows of its images, which crops of them are alike. Not needed where all pairs are looked
        up from both sides.
        """
        self.db.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?)",
            (no, hashed.text.numbers, json.dumps(data["text"]), json.dumps(data["media"])),
        )
        for at, medium in enumerate(hashed.media[:media]):
            for place, frame in enumerate(medium.frames):
                slot = at * 100 + place
                for window, stored in enumerate(frame.hashes.tolist() if windows else [int(frame.hashes[0])]):
                    rows = ((key, no, slot, _signed(stored)) for key in stored_keys(stored, window > 0))
                    self.db.executemany("INSERT OR IGNORE INTO image_bands VALUES (?, ?, ?, ?)", rows)
        if text:
            self._add_text("text_bands", no, hashed.text)

    def add_text_of_media(self, no: int, text: TextHash) -> None:
        """Let an entry with media be found by its text, too, apart from those without."""
        self._add_text("media_text_bands", no, text)

    def _add_text(self, table: str, no: int, text: TextHash) -> None:
        keys = ((key, no) for key in text_hashes.bands(text))
        self.db.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", keys)

    def same(self, digest: str, no: int) -> int:
        """The number of the first entry with this digest; `no` becomes it if there is none."""
        self.db.execute("INSERT OR IGNORE INTO exact VALUES (?, ?)", (digest, no))
        return int(self.db.execute("SELECT no FROM exact WHERE digest = ?", (digest,)).fetchone()[0])

    def has(self, no: int) -> bool:
        """Whether there is an entry of this number: rows that are the same as an earlier one have none."""
        return self.db.execute("SELECT 1 FROM entries WHERE no = ?", (no,)).fetchone() is not None

    def text(self, no: int) -> TextHash:
        (text,) = self.db.execute("SELECT text FROM entries WHERE no = ?", (no,)).fetchone()
        return text_hashes.unpack(json.loads(text))

    def media(self, no: int) -> tuple[Medium, ...]:
        (media,) = self.db.execute("SELECT media FROM entries WHERE no = ?", (no,)).fetchone()
        return media_hashes.unpack_media(json.loads(media))

    def first_time(self, no: int, other: int) -> bool:
        """Whether this pair is asked for the first time: most are found from both sides, and judging takes longest."""
        pair = (min(no, other), max(no, other))
        return self.db.execute("INSERT OR IGNORE INTO judged VALUES (?, ?)", pair).rowcount == 1

    def images_near(self, image: ImageHash, bits: int, numbers: str | None = None) -> list[tuple[int, int]]:
        """(number, medium) of the images that have, or of which a window has, a hash within `bits`, in order.

        Whole images are compared with this image's windows, windows with this whole image. numbers: only of entries
        whose text has these numbers.
        """
        near: set[tuple[int, int]] = set()
        for windows, hashes in ((False, image.hashes), (True, image.hashes[:1])):
            found = self.db.execute(
                "SELECT b.no, b.slot, b.hash FROM json_each(?1) AS k"
                " CROSS JOIN image_bands AS b ON b.key = k.value"
                " WHERE ?2 IS NULL OR (SELECT numbers FROM entries AS e WHERE e.no = b.no) = ?2",
                (json.dumps(probes(hashes, windows)), numbers),
            ).fetchall()
            if found:
                stored = np.array([row[2] for row in found], np.int64).view(np.uint64)
                close = np.bitwise_count(hashes[:, None] ^ stored[None]).min(axis=0) <= bits
                near.update((no, slot // 100) for (no, slot, _), ok in zip(found, close) if ok)
        return sorted(near)

    def texts_near(self, text: TextHash) -> list[int]:
        """Numbers of the entries whose text shares a band with this one, in order."""
        found = self.db.execute(
            "SELECT DISTINCT b.no FROM json_each(?) AS k CROSS JOIN text_bands AS b ON b.key = k.value",
            (json.dumps(text_hashes.bands(text)),),
        )
        return sorted(no for (no,) in found)

    def media_with_text_near(self, text: TextHash, at_most: int) -> list[int] | None:
        """Numbers of the entries with media whose text shares a band with this one, in order; None if they are more than
        `at_most`, as with a question that many images are asked about."""
        found = self.db.execute(
            "SELECT DISTINCT b.no FROM json_each(?) AS k CROSS JOIN media_text_bands AS b ON b.key = k.value LIMIT ?",
            (json.dumps(text_hashes.bands(text)), at_most + 1),
        ).fetchall()
        return sorted(no for (no,) in found) if len(found) <= at_most else None

    def remember(self, no: int, other: int, reason: str) -> None:
        """Why two entries are near-duplicates, for each the first time that it is one."""
        rows = [(no, other, reason), (other, no, reason)]
        self.db.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", rows)

    def remembered(self, no: int) -> tuple[int, str]:
        """(the other one, why)"""
        other, reason = self.db.execute("SELECT other, reason FROM pairs WHERE no = ?", (no,)).fetchone()
        return int(other), str(reason)


def stored_keys(stored: int, window: bool) -> list[int]:
    """Keys of a hash: number of the band (from 4 on for windows), then its 16 bits."""
    return [(band + BANDS * window) << 16 | (stored >> 16 * band) & 0xFFFF for band in range(BANDS)]


def probes(hashes: np.ndarray, windows: bool) -> list[int]:
    """Keys under which the neighbours of hashes (n,) are stored, among whole images or among windows."""
    values = ((hashes[:, None] >> _SHIFTS) & np.uint64(0xFFFF)).astype(np.int64)
    keys = _BAND_PREFIX + (BANDS << 16) * windows + (values[:, :, None] ^ _NEIGHBOURS)
    return [int(key) for key in np.unique(keys)]


def _signed(value: int) -> int:
    """SQLite's integers are signed."""
    return value - (1 << 64) if value >> 63 else value

"""An index on disk in which near-duplicates are found by parts of their hashes that agree, not by comparing all pairs.

Images by an HNSW graph of their hashes (`image_index.py`), texts by bands of their MinHash (Broder 1997). What is found for one
entry is bounded, so the time for each does not grow with their number.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_recipes.operations import image_hashes, media_hashes, text_hashes
from data_recipes.operations.image_index import ImageIndex
from data_recipes.operations.media_hashes import Hashed
from data_recipes.operations.text_hashes import TextHash

OF_A_BAND = 8
"""Texts before this one, nearest in the order of the rows, that are looked at under each band that it shares with them."""
OF_AN_IMAGE = 64
"""Rows of one image, as many questions about it with the same numbers, that are looked at."""

_TABLES = """
CREATE TABLE names (no INTEGER PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE entries (no INTEGER PRIMARY KEY, numbers TEXT NOT NULL, answer TEXT NOT NULL, text TEXT NOT NULL, media TEXT NOT NULL);
CREATE TABLE images (image INTEGER PRIMARY KEY, digest BLOB UNIQUE NOT NULL, side INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE places (image INTEGER, no INTEGER, at INTEGER, PRIMARY KEY (image, no, at)) WITHOUT ROWID;
CREATE TABLE text_bands (key INTEGER, no INTEGER, PRIMARY KEY (key, no)) WITHOUT ROWID;
CREATE TABLE exact (digest TEXT PRIMARY KEY, no INTEGER) WITHOUT ROWID;
CREATE TABLE pairs (no INTEGER PRIMARY KEY, other INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE unsure (closeness REAL NOT NULL, no INTEGER NOT NULL, other INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE vectors (saved BLOB NOT NULL);
"""


class NearIndex:
    """Entries by number, with what is needed to judge a pair. Memory: SQLite's cache, 8 MB, and 0.2 KB for each image."""

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        self.db = sqlite3.connect(path, isolation_level=None)
        # the file is made anew after a crash, so nothing need survive one
        self.db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8192;"
        )
        if new:
            self.db.executescript(_TABLES)
        saved = self.db.execute("SELECT saved FROM vectors").fetchone()
        self._images = ImageIndex(saved[0] if saved else None)
        self._near = lru_cache(maxsize=4096)(self._images_near)  # many rows may share an image
        self.sides = lru_cache(maxsize=1 << 16)(self._sides)
        self.db.execute("BEGIN")

    def save(self) -> None:
        """Keep the graph of images in the file, for an index that is used again."""
        self.db.execute("DELETE FROM vectors")
        self.db.execute("INSERT INTO vectors VALUES (?)", (self._images.saved(),))

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
        text: bool,
        numbers: bool,
        windows: bool = False,
    ) -> None:
        """Store an entry; it can be found by its first `media` media (None: by all), and by its text if `text`.

        numbers: texts must have the same numbers, signs and operators to be found. windows: images are also found by their
        windows, which crops of them are alike; not needed where all pairs are looked up from both sides.
        """
        kinds = [
            [medium["kind"], [self._image(frame, windows) for frame in medium["frames"]]]
            for medium in data["media"]
        ]
        self.db.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?)",
            (no, hashed.text.numbers, hashed.answer, json.dumps(data["text"]), json.dumps(kinds)),
        )
        rows = [(image, no, at) for at, (_, images) in enumerate(kinds[:media]) for image in images]
        self.db.executemany("INSERT OR IGNORE INTO places VALUES (?, ?, ?)", rows)
        if text:
            keys = ((key, no) for key in text_hashes.bands(hashed.text, numbers=numbers))
            self.db.executemany("INSERT OR IGNORE INTO text_bands VALUES (?, ?)", keys)

    def _image(self, packed: Mapping[str, str], windows: bool) -> int:
        """Number of an image; equal images have one."""
        image = image_hashes.unpack(dict(packed))
        digest = media_hashes.image_digest(image)
        found = self.db.execute("SELECT image FROM images WHERE digest = ?", (digest,)).fetchone()
        if found:
            return int(found[0])
        row = (None, digest, image.side, json.dumps(packed))
        number = int(self.db.execute("INSERT INTO images VALUES (?, ?, ?, ?)", row).lastrowid or 0)
        self._images.add(number, image.hashes, windows=windows)
        return number

    def same(self, digest: str, no: int) -> int:
        """The number of the first entry with this digest; `no` becomes it if there is none."""
        self.db.execute("INSERT OR IGNORE INTO exact VALUES (?, ?)", (digest, no))
        return int(self.db.execute("SELECT no FROM exact WHERE digest = ?", (digest,)).fetchone()[0])

    def text(self, no: int) -> tuple[TextHash, str]:
        """The text of an entry, and the digest of its answer."""
        text, answer = self.db.execute("SELECT text, answer FROM entries WHERE no = ?", (no,)).fetchone()
        return text_hashes.unpack(json.loads(text)), answer

    def media(self, no: int) -> list[tuple[str, tuple[int, ...]]]:
        """(kind, numbers of its frames' images) of each medium of an entry."""
        (media,) = self.db.execute("SELECT media FROM entries WHERE no = ?", (no,)).fetchone()
        return [(kind, tuple(images)) for kind, images in json.loads(media)]

    def _sides(self, no: int) -> tuple[int, ...]:
        """Of each medium of an entry the longest side, in pixels, that it can be compared at: its frames' shortest."""
        found = []
        for _, images in self.media(no):
            marks = ", ".join("?" * len(images))
            (side,) = self.db.execute(
                f"SELECT min(side) FROM images WHERE image IN ({marks})", images
            ).fetchone()
            found.append(side)
        return tuple(found)

    def packed(self, medium: tuple[str, tuple[int, ...]]) -> dict[str, Any]:
        """A medium as `media_hashes.unpack_media` takes it."""
        kind, images = medium
        found = [
            self.db.execute("SELECT data FROM images WHERE image = ?", (i,)).fetchone()[0] for i in images
        ]
        return {"kind": kind, "frames": [json.loads(data) for data in found]}

    def entries_near(
        self, hashes: list[Any], bits: int, numbers: str | None = None, before: int | None = None
    ) -> list[tuple[int, int]]:
        """(number, medium) of the entries with an image near one of these (hashes of the frames of a medium), nearest first.

        numbers: only of entries whose text has these numbers. before: only entries of lower numbers.
        """
        found: dict[tuple[int, int], None] = {}
        for frame in hashes:
            for image in self._near(frame.tobytes(), bits):
                rows = self.db.execute(
                    "SELECT p.no, p.at FROM places AS p JOIN entries AS e ON e.no = p.no"
                    " WHERE p.image = ?1 AND (?2 IS NULL OR e.numbers = ?2) AND (?3 IS NULL OR p.no < ?3)"
                    " ORDER BY p.no DESC LIMIT ?4",
                    (image, numbers, before, OF_AN_IMAGE),
                )
                found.update(dict.fromkeys((no, at) for no, at in rows))
        return list(found)

    def _images_near(self, hashes: bytes, bits: int) -> list[int]:
        return self._images.near(image_hashes.hashes_of(hashes), bits)

    def texts_near(self, text: TextHash, *, numbers: bool, before: int | None = None) -> list[int]:
        """Numbers of the entries whose text shares bands with this one, those that share most first.

        before: only entries of lower numbers.
        """
        shared: dict[int, int] = {}
        for key in text_hashes.bands(text, numbers=numbers):
            rows = self.db.execute(
                "SELECT no FROM text_bands WHERE key = ?1 AND (?2 IS NULL OR no < ?2) ORDER BY no DESC LIMIT ?3",
                (key, before, OF_A_BAND),
            )
            for (no,) in rows:
                shared[no] = shared.get(no, 0) + 1
        return sorted(shared, key=lambda no: (-shared[no], no))

    def remember(self, no: int, other: int, reason: str) -> None:
        """Why two entries are near-duplicates, for each the first time that it is one."""
        rows = [(no, other, reason), (other, no, reason)]
        self.db.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", rows)

    def remembered(self, no: int) -> tuple[int, str]:
        """(the other one, why)"""
        other, reason = self.db.execute("SELECT other, reason FROM pairs WHERE no = ?", (no,)).fetchone()
        return int(other), str(reason)

    def put_off(self, no: int, other: int, closeness: float, reason: str) -> None:
        """Store a pair of near-duplicates that may not be in one group."""
        self.db.execute("INSERT INTO unsure VALUES (?, ?, ?, ?)", (closeness, no, other, reason))

    def unsure(self) -> Iterator[tuple[int, int, str]]:
        """(number, the other one, why) of the pairs that were put off, the closest first."""
        yield from self.db.execute("SELECT no, other, reason FROM unsure ORDER BY closeness DESC, no, other")

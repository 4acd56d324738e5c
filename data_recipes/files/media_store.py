"""Files for media: bytes that came inside rows, and copies that travel with the output, named by their content."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.files.replacing import write_once, writing_together
from core.rows import Row

SIGNATURES = (
    (b"\x89PNG", 0, "png"),
    (b"\xff\xd8\xff", 0, "jpg"),
    (b"GIF8", 0, "gif"),
    (b"WEBP", 8, "webp"),
    (b"BM", 0, "bmp"),
    (b"ftyp", 4, "mp4"),
    (b"\x1a\x45\xdf\xa3", 0, "mkv"),
    (b"AVI ", 8, "avi"),
)
"""(bytes, where they stand in a file of the kind, its suffix)."""


def store_bytes(row: Row, folder: Path) -> Row:
    """The row with media that are bytes put into files under `folder`; media that are paths stay."""

    def stored(medium: Any) -> Any:
        if isinstance(medium, bytes):
            return str(_store(medium, folder))
        if isinstance(medium, dict) and medium.get("bytes"):
            rest = {
                key: value
                for key, value in medium.items()
                if key not in ("bytes", "path") and value is not None
            }
            path = str(_store(medium["bytes"], folder))
            return {"path": path} | rest if rest else path
        if isinstance(medium, dict) and set(medium) <= {"path", "bytes"}:
            return medium.get("path")
        return medium

    return map_media(row, stored)


def copy_media(row: Row, folder: Path, made: dict[str, str]) -> Row:
    """The row with its media copied to `folder`. made: copies of this process, so that each file is read once."""

    def copied(path: str) -> str:
        if path not in made:
            made[path] = str(_store_file(Path(path), folder))
        return made[path]

    return map_media(row, lambda medium: map_path(medium, copied))


def map_media(row: Row, change: Callable[[Any], Any]) -> Row:
    """The row with every image and video changed."""
    fields = {f: [change(m) for m in row[f]] for f in ("images", "videos") if isinstance(row.get(f), list)}
    return row | fields


def map_path(medium: Any, change: Callable[[str], str]) -> Any:
    """A medium (a path, or a dict with one) with its path changed."""
    return {**medium, "path": change(medium["path"])} if isinstance(medium, dict) else change(medium)


def _store(content: bytes, folder: Path) -> Path:
    """Write a file named by its content, unless it is there already."""
    path = _named(hashlib.sha256(content).hexdigest(), _suffix(content), folder)
    write_once(path, content)
    return path


def _store_file(source: Path, folder: Path) -> Path:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    path = _named(digest, source.suffix.lstrip(".").lower(), folder)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as file, writing_together(path) as copy:
            shutil.copyfileobj(file, copy)
    return path


def _named(digest: str, suffix: str, folder: Path) -> Path:
    return folder / digest[:2] / f"{digest[:32]}.{suffix}"


def _suffix(content: bytes) -> str:
    for mark, at, suffix in SIGNATURES:
        if content[at : at + len(mark)] == mark:
            return suffix
    return "bin"

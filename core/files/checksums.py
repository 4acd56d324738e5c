"""Checksums of the files of a folder, written with them and compared before they are used.

XXH3 (xxhash.com) does not protect against forgery; it detects damage by disks, copies and killed programs, at memory
speed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash

from core.processes.ranks import on_main, shared_out

FILE = "checksums.json"
_BLOCK = 1 << 22  # bytes read at a time


def write_checksums(folder: Path) -> None:
    """Write `checksums.json` for every file below the folder. The last file to be written; all processes take part."""
    names = on_main(lambda: _files(folder))
    sums = shared_out(names, lambda name: checksum(folder / name))
    on_main(lambda: (folder / FILE).write_text(json.dumps(dict(sorted(sums.items())), indent=1) + "\n"))


def damage(folder: Path) -> str | None:
    """What is wrong with the folder's files, the first thing found, or None. All processes take part."""

    def wanted() -> dict[str, dict[str, Any]] | None:
        try:
            return json.loads((folder / FILE).read_text())
        except (OSError, ValueError):
            return None

    sums = on_main(wanted)
    if not isinstance(sums, dict) or not sums:
        return f"{FILE} is missing or unreadable"
    found = shared_out(list(sums), lambda name: _difference(folder / name, sums[name]))
    return next((f"{name} {found[name]}" for name in sums if found[name]), None)


def checksum(file: Path) -> dict[str, Any]:
    """{"bytes": size, "xxh3_128": digest} of a file."""
    digest, size = xxhash.xxh3_128(), 0
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "xxh3_128": digest.hexdigest()}


def _files(folder: Path) -> list[str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != FILE)
    return sorted(p.relative_to(folder).as_posix() for p in files)


def _difference(file: Path, wanted: dict[str, Any]) -> str | None:
    try:
        size = file.stat().st_size
        if size != wanted["bytes"]:
            return f"has {size:,} bytes, expected {wanted['bytes']:,}"
        return None if checksum(file) == wanted else "does not match its checksum"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"

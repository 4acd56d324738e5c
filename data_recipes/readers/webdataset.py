"""Shards of webdataset: tar files in which consecutive files of one name are a sample. Rows are documents: an image, then its text.

    000123.jpg    000123.txt    000123.json          (img2dataset's layout; also .png, .webp, .jpeg)

What stands before the first dot of a file's name is the sample's key. The text is the file .txt, or a field of .json (option
`caption`). Folders of shards are read in the order of names; .tar.gz is read, too.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from core.rows import Row
from data_recipes.readers.chat import SourceOptions, source
from data_recipes.readers.files import show
from data_recipes.records import Format, Record, Rejected, SourceError

IMAGES = ("jpg", "jpeg", "png", "webp")
ENDINGS = (".tar", ".tar.gz", ".tgz")
LARGEST = 256 << 20
"""Bytes of one file in a shard; a sample with a larger one is rejected."""


class WebDatasetOptions(SourceOptions):
    """Options of the format webdataset."""

    caption: str | None = None
    """Field of the sample's .json that holds the text; null: the text is its .txt."""


def read(path: Path, options: WebDatasetOptions) -> Iterator[Record]:
    """Samples in the order of the shards; `at` is the key. A damaged shard's rest is one record that says so."""
    shards = shards_of(path)
    if not shards:
        raise SourceError(f"{path}: expected a .tar file, or a folder of them, got none")
    for shard in shards:
        key = ""
        try:
            with tarfile.open(shard, "r|*") as tar:
                files = ((*_split(member.name), member) for member in tar if member.isfile())
                for key, group in groupby(files, key=lambda file: file[0]):
                    record = Record(
                        {ending: _content(tar.extractfile(m), m) for _, ending, m in group}, shard, key
                    )
                    yield record.of_shard() if len(shards) > 1 else record
        except (tarfile.TarError, EOFError, OSError) as error:
            yield Record(
                None, shard, f"behind {key or 'the start'}", f"expected a readable tar file, got: {error}"
            )


def shards_of(path: Path) -> list[Path]:
    """The shard itself, or those of a folder in the order of their names."""
    return [path] if path.is_file() else sorted(f for f in path.glob("*") if f.name.endswith(ENDINGS))


def convert(record: Record, options: WebDatasetOptions) -> Iterable[Row]:
    """One document."""
    data = record.data
    images = [data[ending] for ending in IMAGES if ending in data]
    if len(images) != 1:
        raise Rejected(
            f"expected one of the files .{', .'.join(IMAGES)}, got {len(images)} (.{', .'.join(data)})"
        )
    if not isinstance(images[0], bytes) or not images[0]:
        raise Rejected(
            f"the image: expected 1 byte to {LARGEST >> 20} MiB, got {'none' if images[0] == b'' else 'more'}"
        )
    columns = _columns(data)
    text = columns.get(options.caption) if options.caption else _text(data.get("txt"), "txt")
    if not isinstance(text, str) or not text.strip():
        where = f"field '{options.caption}' of .json" if options.caption else "file .txt"
        raise Rejected(f"{where}: expected a text, got {show(text)}")
    row: Row = {
        "id": str(record.at),
        "task": "document",
        "document": [{"type": "image"}, {"type": "text", "text": f"\n{text.strip()}"}],
        "images": [{"bytes": images[0]}],
        "source": source(options, "webdataset", "unknown"),
    }
    return [row | ({"url": columns["url"]} if isinstance(columns.get("url"), str) else {})]


def _split(name: str) -> tuple[str, str]:
    """Key and ending of a file: ("a/000", "jpg") of a/000.jpg."""
    folder, slash, file = name.rpartition("/")
    key, _, ending = file.partition(".")
    return f"{folder}{slash}{key}", ending.lower()


def _content(file: IO[bytes] | None, member: tarfile.TarInfo) -> bytes | None:
    """None for a file that is too large."""
    return file.read() if file is not None and member.size <= LARGEST else None


def _columns(data: dict[str, Any]) -> dict[str, Any]:
    """Of the sample's .json; {} where it has none."""
    if "json" not in data:
        return {}
    try:
        columns = json.loads(_text(data["json"], "json"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, Rejected):
            raise
        raise Rejected(f"file .json: expected an object, got no valid JSON ({error})") from None
    if not isinstance(columns, dict):
        raise Rejected(f"file .json: expected an object, got {show(columns)}")
    return columns


def _text(content: Any, ending: str) -> str:
    if not isinstance(content, bytes):
        raise Rejected(f"file .{ending}: expected a text, got {show(content)}")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Rejected(f"file .{ending}: expected UTF-8, got other bytes") from None


def looks_like(path: Path, first: Any) -> bool:
    """True for a .tar file, or a folder with one. Compressed tar files may be any archive."""
    return path.name.endswith(".tar") if path.is_file() else any(path.glob("*.tar"))


FORMATS = (
    Format(
        "webdataset",
        "webdataset's tar shards: images with texts",
        read,
        convert,
        looks_like,
        WebDatasetOptions,
    ),
)

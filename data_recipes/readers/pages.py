"""Pages of the web and of PDFs as records, and which of their images carry something.

A source is one page, a folder (all pages under it, in the order of their paths), a text file with a path on each line, or
webdataset's tar shards in which a sample is a page and its images. Pages may be compressed (.gz).

Images that carry nothing are left out of the document: trackers, icons and spacers by their size, rules and banners by their
aspect, flat ones by their colours, logos by the number of pages that have them. OBELICS (Laurençon et al. 2023, arXiv
2306.16527) takes images of at least 150 pixels and an aspect of at most 2, and those on at most 10 pages; figures of documents
are smaller and wider than photographs of the web, so the limits on sides here are lower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field

from core.rows import Row
from data_recipes.readers import webdataset
from data_recipes.readers.chat import source
from data_recipes.readers.files import BROKEN, kind_of, opened, text_lines
from data_recipes.readers.interleaved import InterleavedOptions, Part
from data_recipes.records import Record, Rejected, SourceError
from vlm.media import MediaError, load_image

LISTS = (".txt", ".lst")
LARGEST = webdataset.LARGEST
"""Bytes of one page, uncompressed."""
FLAT = 16
"""Of 255: an image whose channels all vary by less is of one colour."""


class PageOptions(InterleavedOptions):
    """Options of the formats html_pages and pdf_pages."""

    need_image: bool = False
    """Reject pages of which no image is left; false: keep their text."""
    min_side: int = Field(64, ge=1)
    """Images with a shorter side, in pixels of the file, are left out: trackers, icons, bullets."""
    max_aspect: float = Field(6.0, ge=1)
    """Images whose longer side is more than so many times the shorter are left out: rules and banners."""
    max_pages: int | None = Field(10, ge=1)
    """Images that stand on more pages are left out: logos. Pages of a folder or of all shards are counted for html_pages, in a first
    pass over them, and those of the document for pdf_pages. null: no limit."""


@dataclass(frozen=True)
class Entry:
    """Where a page is: its content, and its sample's other files by ending, of a shard; else neither, and it is the record's file.

    source, stamp: the whole source, and a text that changes when its files do. root: folder that addresses beginning with /
    start from.
    """

    source: Path
    stamp: str
    root: Path
    content: bytes | None = None
    files: dict[str, Any] = field(default_factory=dict)


def entries(path: Path, endings: tuple[str, ...], options: PageOptions) -> Iterator[Record]:
    """A record for each page, with an `Entry`; `at` is unique. Pages of other workers are not opened."""
    root = options.media or (path if path.is_dir() else path.parent)
    if is_shards(path):
        place = Entry(path, _stamp(webdataset.shards_of(path)), root)
        for record in webdataset.read(path, webdataset.WebDatasetOptions()):
            yield _of_sample(record, endings, place) if record.problem is None else record
        return
    if path.is_dir():
        files = sorted(
            f for f in path.rglob("*") if kind_of(f) in endings and f.is_file() and not _hidden(f, path)
        )
    elif kind_of(path) in LISTS:
        lines = [line.data or "" for line in text_lines(path)]
        files = [path.parent / line.strip() for line in lines if line.strip()]
    else:
        files = [path]
    if not files:
        raise SourceError(
            f"{path}: expected pages ({', '.join(endings)}), tar shards of them or a list of their paths, got none"
        )
    place = Entry(path, _stamp(files), root)
    for file in files:
        record = Record(place, file, 1)
        record.at = str(file.relative_to(path) if path.is_dir() else file.name if len(files) == 1 else file)
        yield record


def _stamp(files: Iterable[Path]) -> str:
    """Of sizes and times of files; missing ones count as empty."""
    states = (
        (file, file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else file for file in files
    )
    return blake2b(
        "\n".join(map(repr, states)).encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()


def is_shards(path: Path) -> bool:
    return path.name.endswith(webdataset.ENDINGS) if path.is_file() else any(path.glob("*.tar*"))


def _of_sample(record: Record, endings: tuple[str, ...], place: Entry) -> Record:
    pages = [ending for ending in record.data if f".{ending}" in endings]
    problem = (
        None
        if len(pages) == 1
        else f"expected one page ({', '.join(endings)}), got {len(pages)} (.{', .'.join(record.data)})"
    )
    if not problem and record.data[pages[0]] is None:
        problem = _TOO_LARGE
    files = (
        {} if problem else {ending: content for ending, content in record.data.items() if ending != pages[0]}
    )
    entry = None if problem else replace(place, content=record.data[pages[0]], files=files)
    return Record(entry, record.file, record.at, problem)


_TOO_LARGE = f"expected a page of at most {LARGEST >> 20} MiB, got more"


def content_of(record: Record) -> bytes:
    """The page's bytes, uncompressed. Raises Rejected for a file that is missing, damaged or too large."""
    if record.data.content is not None:
        return bytes(record.data.content)
    try:
        with opened(record.file) as file:
            content = file.read(LARGEST + 1)
    except BROKEN as error:
        raise Rejected(
            f"expected a readable file, got: {getattr(error, 'strerror', None) or error}"
        ) from None
    if len(content) > LARGEST:
        raise Rejected(_TOO_LARGE)
    if not content:
        raise Rejected("expected a page, got an empty file")
    return content


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


# --------------------------------------------------------------------------------------------------------------- images


def carries_nothing(medium: Any, options: PageOptions) -> tuple[str, str] | None:
    """(rule, reason) of an image that is not to stand in a document; None for one that is. medium: as in a row's `images`."""
    try:
        image = load_image(medium)
    except MediaError as error:
        return "unreadable", str(error)
    return odd_shape(image.size, options) or flat(image)


def odd_shape(size: tuple[int, int], options: PageOptions) -> tuple[str, str] | None:
    """(rule, reason) of an image of a size that only icons or rules have."""
    short, long = sorted(size)
    if short < options.min_side:
        return "small", f"{size[0]} x {size[1]} pixels, at least {options.min_side} are wanted"
    if long > options.max_aspect * short:
        return (
            "aspect",
            f"{size[0]} x {size[1]} pixels, an aspect of at most {options.max_aspect:g} is wanted",
        )
    return None


def flat(image: Image.Image) -> tuple[str, str] | None:
    """(rule, reason) of an image of one colour."""
    ranges: Any = image.convert("RGB").getextrema()
    if all(high - low < FLAT for low, high in ranges):
        return "flat", "of one colour"
    return None


# ------------------------------------------------------------------------------------------------------------ documents


class Left:
    """Images that are left out of a document, each with its rule and reason."""

    def __init__(self) -> None:
        self.out: list[dict[str, str]] = []

    def add(self, image: str, rule: str, reason: str) -> None:
        self.out.append({"image": image[:200], "rule": rule, "reason": reason})


def document_row(
    record: Record,
    number: str,
    parts: list[Part],
    images: list[Any],
    left: Left,
    options: PageOptions,
    **columns: Any,
) -> Row:
    """A row of task `document`. number: what is added to the id. Raises Rejected for a document without text or a needed image."""
    if options.need_image and not images:
        reasons = "; ".join(f"{out['image'][:80]}: {out['reason']}" for out in left.out[:3])
        raise Rejected(f"expected a page with an image, got none ({reasons or 'it has none'})")
    if not any(part["type"] == "text" for part in parts):
        raise Rejected("expected a page with text, got none")
    return {
        "id": f"{record.at}{number}",
        "task": "document",
        "document": parts,
        "images": images,
        "source": source(options, "pages", "unknown"),
        "left_out": left.out,
    } | columns

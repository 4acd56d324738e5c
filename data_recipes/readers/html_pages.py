"""Web pages with their images beside them, as documents: main content alone, text and images in reading order.

    site/guide/intro.html, site/guide/figures/a.png        a folder, as wget, httrack or a browser saves it
    000123.html, 000123.a.png, 000123.b.jpg                samples of webdataset's shards

Text, formulas and tables: `html_text.py`. An image is the file that its `src` names from the page's folder, from the source's
folder where it begins with /, or a data: address; of a shard, the sample's file whose ending is the last part of `src` (a.png).
One on another host is the file that the option `files` names for its address, else that of its last part in `media`.
"""

from __future__ import annotations

import base64
import binascii
import html
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from core.rows import Row
from data_recipes.files.inputs import note
from data_recipes.readers.files import kind_of
from data_recipes.readers.html_text import MARK, Page, decoded, read_page
from data_recipes.readers.interleaved import Part, last_part, read_files
from data_recipes.readers.pages import (
    Entry,
    Left,
    PageOptions,
    carries_nothing,
    content_of,
    document_row,
    entries,
    is_shards,
)
from data_recipes.records import Format, Record, Rejected

ENDINGS = (".html", ".htm", ".xhtml")


class HtmlOptions(PageOptions):
    """Options of the format html_pages. `media`: folder of images from other hosts, and of addresses that begin with /."""

    files: Path | None = None
    """JSON lines of {"url", "path"} that say where images of other hosts were put, relative to `media`; held in memory."""


def read(path: Path, options: HtmlOptions) -> Iterator[Record]:
    """Pages in the order of their paths."""
    return entries(path, ENDINGS, options)


def convert(record: Record, options: HtmlOptions) -> Iterable[Row]:
    """One document."""
    try:
        page = read_page(content_of(record))
    except ValueError as error:
        if isinstance(error, Rejected):
            raise
        raise Rejected(f"expected a page of HTML, got none: {error}") from None
    left = Left()
    shown = {int(mark[2]) for mark in MARK.finditer(page.text)}
    kept: dict[int, Any] = {}
    for number, image in enumerate(page.images):
        if number not in shown:
            left.add(image.address, "outside", "not in the main content")
            continue
        medium, key = find(image.address, record, options)
        problem = (
            key
            if medium is None
            else carries_nothing(medium, options) or _on_many_pages(key, record, options)
        )
        if problem is None:
            kept[number] = medium
        else:
            left.add(image.address, *problem)
    parts, images = _interleaved(page, kept)
    columns = {"title": page.title} if page.title else {}
    return [
        document_row(
            record, "", parts, images, left, options, **columns, formulas=page.formulas, tables=page.tables
        )
    ]


def _interleaved(page: Page, kept: dict[int, Any]) -> tuple[list[Part], list[Any]]:
    """The page's text cut where the images that are kept stand; marks of others vanish."""
    text = MARK.sub(lambda mark: mark[0] if int(mark[2]) in kept else "", page.text)
    parts: list[Part] = []
    images: list[Any] = []
    at = 0
    for mark in MARK.finditer(text):
        _add_text(parts, text[at : mark.start()])
        parts.append({"type": "image"})
        images.append(kept[int(mark[2])])
        at = mark.end()
    _add_text(parts, text[at:])
    return parts, images


def _add_text(parts: list[Part], text: str) -> None:
    text = re.sub(r"(?<=\S)  +", " ", re.sub(r"\n\s*\n", "\n\n", text))
    if text.strip():
        parts.append({"type": "text", "text": text})


# --------------------------------------------------------------------------------------------------------------- images


def find(address: str, record: Record, options: HtmlOptions, *, noted: bool = True) -> tuple[Any, Any]:
    """(an image as in a row's `images`, its key in `pages_of`), or (None, (rule, reason)) for one that is not there.

    noted: whether the file is one that the current work depends on.
    """
    entry: Entry = record.data
    if not address:
        return None, ("missing", "it has no address")
    if address.startswith("data:"):
        content = _data(address)
        return (
            ({"bytes": content}, None)
            if content
            else (None, ("unreadable", "a data: address that does not decode"))
        )
    parts = urlsplit(address)
    if parts.path.lower().endswith((".svg", ".svgz")):
        return None, ("vector", "an SVG, which holds no pixels")
    if parts.scheme not in ("", "http", "https"):
        return None, ("missing", f"expected an address of a file or of http, got the scheme {parts.scheme}:")
    if entry.content is not None:
        own = entry.files.get(unquote(parts.path).rpartition("/")[2].lower())
        return ({"bytes": own}, _digest(own)) if own else (None, ("missing", "not in the page's sample"))
    path = _path(address, record, options)
    if path is None:
        return None, ("elsewhere", "on another host, and neither `files` nor `media` is given")
    if noted:
        note(path)
    return (path, path) if os.path.isfile(path) else (None, ("missing", f"no file {path}"))


def _path(address: str, record: Record, options: HtmlOptions) -> str | None:
    """Where an image should lie; None if no option says so."""
    parts = urlsplit(address)
    if parts.netloc:
        name = read_files(options.files).get(address) or last_part(address)
        folder = options.media or (options.files.parent if options.files else None)
        return None if folder is None else os.path.abspath(folder / name)
    name = unquote(parts.path)
    folder = record.data.root if name.startswith("/") else record.file.parent
    return os.path.abspath(folder / name.lstrip("/"))


def _data(address: str) -> bytes:
    head, _, data = address.partition(",")
    try:
        return base64.b64decode(unquote_to_bytes(data), validate=False) if head.endswith(";base64") else b""
    except (binascii.Error, ValueError):
        return b""


# ------------------------------------------------------------------------------------------- images of many pages


def _on_many_pages(key: str | None, record: Record, options: HtmlOptions) -> tuple[str, str] | None:
    """(rule, reason) of an image that stands on more pages than `max_pages`."""
    entry: Entry = record.data
    if key is None or options.max_pages is None:
        return None
    count = pages_of(entry.source, options, entry.stamp).get(key, 0)
    return ("repeated", f"on {count} pages, at most {options.max_pages} are wanted") if count else None


_SRC = re.compile(
    r"""<img\b[^>]{0,2000}?\s(?:data-)?src\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE
)


@lru_cache(maxsize=1)
def pages_of(path: Path, options: HtmlOptions, stamp: str) -> dict[str, int]:
    """Of images on more than `max_pages` pages of a source, by path (in shards by content): on how many. One pass over all pages,
    in every process; memory: a count for each different image.

    stamp: changes when the pages do. Files of one content count as one image, as browsers save a logo beside every page.
    """
    pages: Counter[str] = Counter()
    for record in entries(path, ENDINGS, options):
        if record.problem is not None:
            continue
        try:
            addresses = {
                next(filter(None, found.groups()), "") for found in _SRC.finditer(decoded(content_of(record)))
            }
        except Rejected:
            continue
        found = (find(html.unescape(address), record, options, noted=False) for address in addresses)
        pages.update({key for medium, key in found if medium is not None and key is not None})
    limit = options.max_pages or 0
    if not is_shards(path):
        pages = _joined(pages, limit)
    return {key: count for key, count in pages.items() if count > limit}


def _joined(pages: Counter[str], limit: int) -> Counter[str]:
    """The counts with those of equal files added up; only files are read that could pass the limit so."""
    by_size: dict[int, list[str]] = {}
    for path in pages:
        by_size.setdefault(os.path.getsize(path), []).append(path)
    for paths in by_size.values():
        if len(paths) > 1 and sum(pages[path] for path in paths) > limit:
            digests = {path: _digest(Path(path).read_bytes()) for path in paths}
            total: Counter[str] = Counter()
            for path, digest in digests.items():
                total[digest] += pages[path]
            pages.update({path: total[digest] - pages[path] for path, digest in digests.items()})
    return pages


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def looks_like(path: Path, first: Any) -> bool:
    """True for a page, or a folder with one at its top or one folder below. Shards may hold anything."""
    if path.is_file():
        return kind_of(path) in ENDINGS
    return any(kind_of(file) in ENDINGS for pattern in ("*", "*/*") for file in path.glob(pattern))


FORMATS = (
    Format(
        "html_pages",
        "Web pages with images: main content as documents",
        read,
        convert,
        looks_like,
        HtmlOptions,
    ),
)

"""Interleaved documents: OBELICS and MMC4. All rows are documents of task `document`, for `pretrain.py`.

| format | record |
|---|---|
| obelics | {"images": [url or null, …], "texts": [null or text, …], "metadata", "general_metadata"}, two lists of one length |
| mmc4 | {"text_list": [sentence, …], "image_info": [{"image_name", "raw_url", "matched_text_index", "matched_sim"}, …], "url"} |

OBELICS: HuggingFaceM4/OBELICS (CC BY 4.0), Parquet. MMC4: allenai/mmc4 (ODC-BY), docs_shard_*.jsonl, also zipped by gzip.

Neither holds images: they are downloaded first (img2dataset), and looked for in the folder `media`. An image of OBELICS is the
file that `files` names for its URL (a JSON lines file of {"url", "path"}), or else that of the URL's last part; one of MMC4 is
`image_name`. Of an image in MMC4, the place is before the sentence that it was matched with. Images that are not there, and
those of MMC4 below `similarity`, are left out of the document; its column `left_out` names each with the rule and the reason,
and the data card counts them by rule.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field

from core.files.jsonl import read as read_jsonl
from core.rows import Row
from data_recipes.files.inputs import note
from data_recipes.readers.chat import SourceOptions, locate, source
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.records import Format, Record, Rejected, SourceError

Part = dict[str, str]


class InterleavedOptions(SourceOptions):
    """Options of the formats obelics and mmc4. `media`: folder of the downloaded images; null: `images` beside the file."""

    need_image: bool = True
    """Reject documents of which no image is there; false: keep their text."""


class ObelicsOptions(InterleavedOptions):
    """Options of the format obelics."""

    files: Path | None = None
    """JSON lines of {"url", "path"} that say where each image was put, relative to `media`; held in memory. null: an image is called
    like the last part of its URL."""


class MMC4Options(InterleavedOptions):
    """Options of the format mmc4."""

    similarity: float = Field(0.0, ge=-1, le=1)
    """Smallest CLIP similarity of an image with its sentence; mmc4-core has 0.24 and above."""


class Document:
    """A document while it is put together: neighbouring texts are joined by `between`."""

    def __init__(self, between: str) -> None:
        self.between = between
        self.parts: list[Part] = []
        self.images: list[str] = []
        self.left_out: list[dict[str, str]] = []

    def text(self, text: str) -> None:
        if not text.strip():
            return
        if self.parts and self.parts[-1]["type"] == "text":
            self.parts[-1]["text"] += self.between + text
        else:
            self.parts.append({"type": "text", "text": text})

    def image(self, name: str, path: str | None, rule: str, problem: str) -> None:
        """path: of the file; None, where it is left out by `rule` because of `problem`."""
        if path is None:
            self.left_out.append({"image": name, "rule": rule, "reason": problem})
        else:
            self.parts.append({"type": "image"})
            self.images.append(path)

    def row(
        self, record: Record, options: InterleavedOptions, dataset: str, licence: str, **columns: Any
    ) -> Row:
        if options.need_image and not self.images:
            reasons = "; ".join(f"{left['image'][:80]}: {left['reason']}" for left in self.left_out[:3])
            raise Rejected(f"expected a document with an image, got none ({reasons or 'it has none'})")
        if not any(part["type"] == "text" for part in self.parts):
            raise Rejected("expected a document with text, got none")
        return {
            "id": str(record.at),
            "task": "document",
            "document": self.parts,
            "images": self.images,
            "source": source(options, dataset, licence),
            "left_out": self.left_out,
        } | columns


def read(path: Path, options: InterleavedOptions) -> Iterator[Record]:
    """Documents in file order."""
    return records(path, options.split)


def obelics(record: Record, options: ObelicsOptions) -> Iterable[Row]:
    """One document."""
    images = need(record.data, "images", list, "a list of URLs and nulls")
    texts = need(record.data, "texts", list, "a list of nulls and texts")
    if len(images) != len(texts):
        raise Rejected(
            f"fields 'images' and 'texts': expected one length, got {len(images)} and {len(texts)}"
        )
    folder, known = _folder(record, options), read_files(options.files)
    made = Document("\n\n")
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        if (image is None) == (text is None):
            raise Rejected(
                f"fields 'images[{i}]' and 'texts[{i}]': expected one of them, got {'none' if text is None else 'both'}"
            )
        if not isinstance(text if image is None else image, str):
            raise Rejected(
                f"field 'images[{i}]' or 'texts[{i}]': expected a text, got {show(text if image is None else image)}"
            )
        if image is None:
            made.text(text)
        else:
            made.image(image, *_found(known.get(image) or last_part(image), folder))
    return [made.row(record, options, "OBELICS", "CC BY 4.0", url=_url(record.data.get("general_metadata")))]


def mmc4(record: Record, options: MMC4Options) -> Iterable[Row]:
    """One document."""
    sentences = need(record.data, "text_list", list, "a list of sentences")
    infos = need(record.data, "image_info", list, "a list of images")
    folder = _folder(record, options)
    before: dict[int, list[dict[str, Any]]] = {}
    for i, info in enumerate(infos):
        place = need(info, "matched_text_index", int, "the number of a sentence")
        if not 0 <= place < len(sentences):
            raise Rejected(
                f"field 'image_info[{i}].matched_text_index': expected 0 to {len(sentences) - 1}, got {place}"
            )
        before.setdefault(place, []).append(info)
    made = Document(" ")
    for number, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise Rejected(f"field 'text_list[{number}]': expected a text, got {show(sentence)}")
        for info in before.get(number, []):
            name = need(info, "image_name", str, "a file's name")
            similarity = need(info, "matched_sim", (int, float), "a number")
            if similarity < options.similarity:
                made.image(
                    name, None, "similarity", f"similarity {similarity:.3f} is below {options.similarity:g}"
                )
            else:
                made.image(name, *_found(name, folder))
        made.text(sentence)
    return [made.row(record, options, "MMC4", "ODC-BY 1.0", url=record.data.get("url"))]


def _folder(record: Record, options: InterleavedOptions) -> Path:
    return options.media or record.file.parent / "images"


def _found(name: str, folder: Path) -> tuple[str | None, str, str]:
    """The path of an image, or None; the rule by which and the reason why it is left out."""
    try:
        path = locate(name, "images", folder)
    except Rejected as error:
        return None, "missing", str(error)
    note(path)
    return (path, "", "") if os.path.isfile(path) else (None, "missing", f"no file {path}")


def last_part(url: str) -> str:
    parts = urlsplit(url)
    return unquote(parts.path).rpartition("/")[2] if parts.scheme in ("http", "https") else url


@lru_cache(maxsize=4)
def read_files(path: Path | None) -> dict[str, str]:
    """{url: file} of the option `files`."""
    try:
        return {} if path is None else {entry["url"]: entry["path"] for entry in read_jsonl(path)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f'files: expected JSON lines of {{"url", "path"}} in {path}: {error}') from None


def _url(general_metadata: Any) -> str | None:
    """Of the page; the field is JSON text."""
    try:
        value = json.loads(general_metadata) if isinstance(general_metadata, str) else general_metadata
    except (ValueError, RecursionError):
        return None
    url = value.get("url") if isinstance(value, dict) else None
    return url if isinstance(url, str) else None


def looks_like_obelics(path: Path, first: Any) -> bool:
    """True for lists of images and texts beside each other."""
    return isinstance(first, dict) and {"images", "texts", "general_metadata"} <= set(first)


def looks_like_mmc4(path: Path, first: Any) -> bool:
    """True for sentences with matched images."""
    return isinstance(first, dict) and {"text_list", "image_info"} <= set(first)


FORMATS = (
    Format("obelics", "OBELICS: interleaved web pages", read, obelics, looks_like_obelics, ObelicsOptions),
    Format("mmc4", "MMC4: sentences with matched images", read, mmc4, looks_like_mmc4, MMC4Options),
)

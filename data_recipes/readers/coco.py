"""COCO detection annotations (instances_*.json): find every object of a category, count them, or find the only one.

    {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id", "category_id",
     "bbox": [x, y, width, height], "iscrowd"}], "categories": [{"id", "name"}]}

Boxes are in pixels from the upper left corner, 0-based. The three arrays may come in any order and annotations are not
sorted by image, so boxes (not outlines) are put into a temporary database on disk first; memory stays flat.
Format: https://cocodataset.org/#format-data; LVIS files have the same form but no `file_name` (`coco_url` ends with it).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import ijson

from data_recipes.readers.chat import source
from data_recipes.readers.files import need, show
from data_recipes.readers.places import ObjectOptions, image_size, media_path, object_rows, xywh
from data_recipes.records import Format, Record, Rejected
from vlm.rows import Row

KEPT = ("id", "category_id", "bbox", "iscrowd", "caption")


class CocoOptions(ObjectOptions):
    """Options of the format coco."""

    crowds: Literal["reject", "ignore"] = "reject"
    """Categories with a crowd region (`iscrowd` 1, one box around many objects) in an image: no complete answer exists, so
    the row is rejected; `ignore` keeps the other boxes as the answer."""


def read(path: Path, options: CocoOptions) -> Iterator[Record]:
    """One record per image, in the order of the file: {"image": {…}, "objects": [{"name", "bbox", "iscrowd", …}]}."""
    yield from images_with_objects(path)


def images_with_objects(path: Path) -> Iterator[Record]:
    """Images joined with their annotations; `at` is the image's id. Annotations of no image come last, as problems; a file
    that breaks off is one problem."""
    with closing(sqlite3.connect("")) as database:  # "": temporary, on disk, deleted when closed
        problem = _index(path, database)
        if problem:  # without all annotations, "every object" would be a wrong answer
            yield Record(None, path, 0, problem)
            return
        names = dict(database.execute("SELECT id, name FROM categories"))
        for key, data in database.execute("SELECT id, data FROM images ORDER BY rowid"):
            objects = []
            for (text,) in database.execute(
                "SELECT data FROM annotations WHERE image = ? ORDER BY rowid", (key,)
            ):
                item = json.loads(text)
                objects.append({**item, "name": names.get(str(item.get("category_id")))})
            yield Record({"image": json.loads(data), "objects": objects}, path, key)
        lost = "SELECT a.rowid, a.image FROM annotations a LEFT JOIN images i ON i.id = a.image WHERE i.id IS NULL"
        for number, key in database.execute(lost):
            yield Record(
                None,
                path,
                f"annotations[{number - 1}]",
                f"field 'image_id': expected the id of an image in the file, got {key}",
            )


def _index(path: Path, database: sqlite3.Connection) -> str | None:
    """Fill the tables from the file; returns what is wrong where it breaks off."""
    database.executescript(
        "CREATE TABLE images (id TEXT, data TEXT); CREATE TABLE annotations (image TEXT, data TEXT);"
        "CREATE TABLE categories (id TEXT, name TEXT);"
    )
    problem = None
    for prefix, insert, values in (
        ("images", "INSERT INTO images VALUES (?, ?)", lambda d: (str(d.get("id")), json.dumps(d))),
        (
            "annotations",
            "INSERT INTO annotations VALUES (?, ?)",
            lambda d: (str(d.get("image_id")), json.dumps({k: d[k] for k in KEPT if k in d})),
        ),
        ("categories", "INSERT INTO categories VALUES (?, ?)", lambda d: (str(d.get("id")), d.get("name"))),
    ):
        with path.open("rb") as file:
            try:
                items = (
                    d for d in ijson.items(file, f"{prefix}.item", use_float=True) if isinstance(d, dict)
                )
                database.executemany(insert, map(values, items))
            except (ijson.JSONError, UnicodeDecodeError) as error:
                problem = f"expected JSON, got no valid JSON ({error})"
    database.execute("CREATE INDEX of_image ON annotations (image)")
    database.execute("CREATE INDEX by_id ON images (id)")
    return problem


def convert(record: Record, options: CocoOptions) -> Iterator[Row | Rejected]:
    """Rows by category, in the order in which the image's annotations name them."""
    image = need(record.data, "image", dict, "an image with its objects")
    objects: dict[str, list[list[float]] | Rejected] = {}
    for item in need(record.data, "objects", list, "the image's annotations"):
        name = item.get("name")
        if not isinstance(name, str) or not name:
            yield Rejected(
                f"annotation {item.get('id')}: field 'category_id': expected a category of the file,"
                f" got {show(item.get('category_id'))}"
            )
            continue
        found = objects.setdefault(name, [])
        try:
            if item.get("iscrowd") and options.crowds == "ignore":
                continue
            if item.get("iscrowd"):
                raise Rejected("field 'iscrowd': expected 0, got 1 (one box around many objects)")
            box = xywh(item.get("bbox"), "bbox")
            if isinstance(found, list):
                found.append(box)
        except Rejected as error:
            objects[name] = Rejected(f"category '{name}', annotation {item.get('id')}: {error}")
    ignored = [name for name, found in objects.items() if found == []]  # crowds alone, left out by the option
    for name in ignored:
        objects[name] = Rejected(f"category '{name}': field 'iscrowd': expected an object, got crowds alone")
    base: dict[str, Any] = {
        "id": str(record.at),
        "images": [media_path(_file_name(image), "file_name", record, options.media)],
        "source": source(options, "COCO", "CC BY 4.0 (annotations); the images have their own"),
        **image_size(image.get("width"), image.get("height")),
    }
    yield from object_rows(base, objects, options)


def _file_name(image: dict[str, Any]) -> str:
    if isinstance(image.get("coco_url"), str) and "file_name" not in image:
        return "/".join(image["coco_url"].rsplit("/", 2)[1:])  # LVIS: train2017/000000000009.jpg
    return need(image, "file_name", str, "the image's path")


def looks_like(path: Path, first: Any) -> bool:
    """A .json object whose beginning holds images or annotations with boxes, and no captions (those are refcoco_mdetr)."""
    fields = first_fields(path)
    return (
        bool({"images.item.file_name", "annotations.item.bbox"} & fields)
        and "images.item.caption" not in fields
    )


def first_fields(path: Path, events: int = 20_000) -> set[str]:
    """Places (in ijson's notation) of the values in the beginning of a JSON file; none where it is no JSON."""
    found: set[str] = set()
    if path.suffix != ".json" or not path.is_file():
        return found
    with path.open("rb") as file:
        try:
            for prefix, _, _ in islice(ijson.parse(file), events):
                found.add(prefix)
        except (ijson.JSONError, UnicodeDecodeError):
            pass  # what came before the break tells enough
    return found


FORMATS = (
    Format("coco", "COCO detection annotations: boxes by category", read, convert, looks_like, CocoOptions),
)

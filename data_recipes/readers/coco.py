"""COCO detection annotations (instances_*.json): find every object of a category, count them, or find the only one.

    {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id", "category_id",
     "bbox": [x, y, width, height], "iscrowd"}], "categories": [{"id", "name"}]}

Boxes are in pixels from the upper left corner, 0-based. The three arrays may come in any order and annotations are not
sorted by image, so boxes (not outlines) are first stored in a temporary database on disk; memory use is constant.
Format: https://cocodataset.org/#format-data; LVIS files have the same form but no `file_name` (`coco_url` ends with it).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import ijson

from core.rows import Row
from data_recipes.files import json_text
from data_recipes.files.json_text import MAX_DEPTH, Piece
from data_recipes.readers.chat import source
from data_recipes.readers.files import BROKEN, kind_of, need, opened, show
from data_recipes.readers.places import ObjectOptions, Objects, image_size, media_path, object_rows, xywh
from data_recipes.records import Format, Record, Rejected

KEPT = ("id", "category_id", "bbox", "iscrowd", "caption")


class CocoOptions(ObjectOptions):
    """Options of the format coco."""

    crowds: Literal["reject", "ignore", "keep"] = "reject"
    """What to do with a category that has a crowd region (`iscrowd` 1, one box around many objects) in an image: `reject` the
    row, since there is no complete answer, `ignore` the region and use the other boxes as the answer, or `keep` it in the
    answer's `crowds`, as evaluation needs it: what is found inside such a region is neither right nor wrong."""
    absent: bool = False
    """Also ask for the file's categories that an image has none of (in LVIS: those known to be absent, `neg_category_ids`); the
    right answer is then an empty list. COCO's own evaluation looks for every category in every image."""


def read(path: Path, options: CocoOptions) -> Iterator[Record]:
    """One record per image, in the order of the file: {"image": {…}, "objects": [{"name", "bbox", "iscrowd", …}]}."""
    yield from images_with_objects(path, categories=options.absent)


def images_with_objects(path: Path, *, categories: bool = False) -> Iterator[Record]:
    """Images joined with their annotations; `at` is the image's id. Unreadable entries, and annotations without an image,
    are yielded as problems; unreadable annotations of an image are listed in its "broken". A truncated file yields only
    one problem: with annotations missing, "every object" would be a wrong answer.

    categories: add those of the whole file to every image, as "categories" {id: name}.
    """
    with closing(sqlite3.connect("")) as database:  # "": temporary, on disk, deleted when closed
        problems = _index(path, database)
        yield from problems
        if problems and problems[-1].at == "end":
            return
        names = dict(database.execute("SELECT id, name FROM categories"))
        shared = {"categories": names} if categories else {}
        for key, data in database.execute("SELECT id, data FROM images ORDER BY rowid"):
            objects, broken = [], []
            of_image = "SELECT data, broken FROM annotations WHERE image = ? ORDER BY rowid"
            for text, problem in database.execute(of_image, (key,)):
                item = json.loads(text)
                objects.append({**item, "name": names.get(str(item.get("category_id")))})
                broken += [problem] if problem else []
            data = {"image": json.loads(data), "objects": objects, **shared}
            yield Record(data | ({"broken": broken} if broken else {}), path, key)
        lost = (
            "SELECT a.at, a.image FROM annotations a LEFT JOIN images i ON i.id = a.image WHERE i.id IS NULL"
        )
        for at, key in database.execute(lost):
            yield Record(
                None, path, at, f"field 'image_id': expected the id of an image in the file, got {key}"
            )


def _index(path: Path, database: sqlite3.Connection) -> list[Record]:
    """Fill the tables from the file; returns unreadable entries, the last with `at` "end" if the file is truncated."""
    database.executescript(
        "CREATE TABLE images (id TEXT, data TEXT);"
        "CREATE TABLE annotations (image TEXT, data TEXT, at TEXT, broken TEXT);"
        "CREATE TABLE categories (id TEXT, name TEXT);"
    )
    problems = []
    with opened(path) as file:
        for section, piece in json_text.sections(file, ("images", "annotations", "categories")):
            at = f"{section}[{piece.at}]"
            record = Record.piece(Piece(at, piece.line, piece.content, piece.problem), path)
            if section == "" or (piece.problem == json_text.BROKEN_OFF):
                problems.append(Record(None, path, "end", record.problem or "expected keys with values"))
                break
            problem = record.problem or _entry_problem(section, record.data)
            if problem is None:
                _insert(database, section, record.data, at)
                continue
            problems.append(Record(None, path, f"{at} (line {piece.line})", problem))
            if section == "annotations" and (image := _IMAGE_ID.search(piece.content)):
                values = (image.group(1).decode(), "{}", at, f"{at}: {problem}")
                database.execute("INSERT INTO annotations VALUES (?, ?, ?, ?)", values)
    database.execute("CREATE INDEX of_image ON annotations (image)")
    database.execute("CREATE INDEX by_id ON images (id)")
    return problems


_IMAGE_ID = re.compile(rb'"image_id"\s*:\s*"?([\w.-]+)')


def _entry_problem(section: str, data: Any) -> str | None:
    """Why an entry cannot be joined with others; None if it can."""
    if not isinstance(data, dict):
        return f"expected a JSON object, got {show(data)}"
    field = "image_id" if section == "annotations" else "id"
    if not isinstance(data.get(field), int | str) or isinstance(data[field], bool):
        return f"field '{field}': expected a number or a text, got {show(data.get(field))}"
    for name in (field, "name"):
        if isinstance(data.get(name), str) and data[name].encode("utf-8", "replace").decode() != data[name]:
            return f"field '{name}': expected text, got half a surrogate pair"
    if section == "categories" and not isinstance(data.get("name"), str):
        return f"field 'name': expected a text, got {show(data.get('name'))}"
    return None


def _insert(database: sqlite3.Connection, section: str, data: dict[str, Any], at: str) -> None:
    if section == "annotations":
        kept = json.dumps({key: data[key] for key in KEPT if key in data})
        values = (str(data["image_id"]), kept, at, None)
        database.execute("INSERT INTO annotations VALUES (?, ?, ?, ?)", values)
    else:
        second = json.dumps(data) if section == "images" else data["name"]
        database.execute(f"INSERT INTO {section} VALUES (?, ?)", (str(data["id"]), second))


def convert(record: Record, options: CocoOptions) -> Iterator[Row | Rejected]:
    """Rows by category, in the order of the image's annotations."""
    image = need(record.data, "image", dict, "an image with its objects")
    if record.data.get("broken"):
        raise Rejected(f"expected readable annotations, got {record.data['broken'][0]}")
    objects: dict[str, Objects | Rejected] = {}
    for item in need(record.data, "objects", list, "the image's annotations"):
        name = item.get("name")
        if not isinstance(name, str) or not name:
            yield Rejected(
                f"annotation {item.get('id')}: field 'category_id': expected a category of the file,"
                f" got {show(item.get('category_id'))}"
            )
            continue
        found = objects.setdefault(name, Objects(item.get("category_id")))
        try:
            if item.get("iscrowd") and options.crowds == "ignore":
                continue
            if item.get("iscrowd") and options.crowds == "reject":
                raise Rejected("field 'iscrowd': expected 0, got 1 (one box around many objects)")
            box = xywh(item.get("bbox"), "bbox")
            if isinstance(found, Objects):
                (found.crowds if item.get("iscrowd") else found.boxes).append(box)
        except Rejected as error:
            objects[name] = Rejected(f"category '{name}', annotation {item.get('id')}: {error}")
    # crowd regions only, ignored by the option
    ignored = [name for name, found in objects.items() if isinstance(found, Objects) and found.empty]
    for name in ignored:
        objects[name] = Rejected(
            f"category '{name}': field 'iscrowd': expected an object, got only crowd regions"
        )
    for key, name in _absent(record.data, image).items():
        objects.setdefault(name, Objects(key))
    base: dict[str, Any] = {
        "id": str(record.at),
        "image_id": image.get("id"),
        "images": [media_path(_file_name(image), "file_name", record, options.media)],
        "source": source(options, "COCO", "CC BY 4.0 (annotations); the images have their own"),
        **image_size(image.get("width"), image.get("height")),
    }
    yield from object_rows(base, objects, options)


def _absent(data: dict[str, Any], image: dict[str, Any]) -> dict[Any, str]:
    """{id: name} of the categories to ask for although nothing of them is annotated."""
    names = {int(key) if key.isdecimal() else key: name for key, name in data.get("categories", {}).items()}
    known = image.get("neg_category_ids")
    return names if known is None else {key: names[key] for key in known if key in names}


def _file_name(image: dict[str, Any]) -> str:
    if isinstance(image.get("coco_url"), str) and "file_name" not in image:
        return "/".join(image["coco_url"].rsplit("/", 2)[1:])  # LVIS: train2017/000000000009.jpg
    return need(image, "file_name", str, "the image's path")


def looks_like(path: Path, first: Any) -> bool:
    """True for a .json object that starts with images or annotations with boxes and without captions (refcoco_mdetr)."""
    fields = first_fields(path)
    return (
        bool({"images.item.file_name", "annotations.item.bbox"} & fields)
        and "images.item.caption" not in fields
    )


def first_fields(path: Path, events: int = 20_000) -> set[str]:
    """Paths (in ijson's notation) of the values at the beginning of a JSON file; empty if it is not JSON."""
    found: set[str] = set()
    if kind_of(path) != ".json" or not path.is_file():
        return found
    with opened(path) as file:
        try:
            if file.peek(3)[:3] == b"\xef\xbb\xbf":  # type: ignore[attr-defined]  # all that `opened` gives can
                file.read(3)
            # Paths grow with depth, and the parser builds those of a whole buffer at once.
            for prefix, _, _ in islice(ijson.parse(file, buf_size=1024), events):
                if prefix.count(".") > MAX_DEPTH:
                    break
                found.add(prefix)
        except (ijson.JSONError, UnicodeDecodeError, *BROKEN):
            pass  # the part before the error is enough
    return found


FORMATS = (
    Format("coco", "COCO detection annotations: boxes by category", read, convert, looks_like, CocoOptions),
)

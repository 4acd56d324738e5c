"""Open Images boxes (CSV): find every object of a class, count them, or find the only one.

    validation-annotations-bbox.csv        ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,
                                           IsGroupOf,IsDepiction,IsInside        (the training file has XClick1X … behind them)
    class-descriptions-boxable.csv         /m/011k07,Tortoise                    (with or without a header)
    validation-annotations-human-imagelabels-boxable.csv
                                           ImageID,Source,LabelName,Confidence   (0: a person looked, and there is none)
    validation/0001eeaf4aed83f9.jpg

Coordinates are fractions of the image's width and height (frame `norm1`), and stay so. The lines of an image need not stand
together, so boxes are first stored in a temporary database on disk; memory use is constant.
Format: https://storage.googleapis.com/openimages/web/download_v7.html; annotations under CC BY 4.0.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.files.inputs import note
from data_recipes.readers.chat import source
from data_recipes.readers.files import BROKEN, kind_of, need, opened, show
from data_recipes.readers.places import ObjectOptions, Objects, media_path, object_rows, xyxy
from data_recipes.records import Format, Record, Rejected, SourceError

COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
LABEL_COLUMNS = ("ImageID", "LabelName", "Confidence")


class OpenImagesOptions(ObjectOptions):
    """Options of the format open_images."""

    classes: Path | None = None
    """CSV of the classes' names; null: the only `*class-descriptions*.csv` beside the file."""
    labels: Path | None = None
    """CSV of image-level labels that people have verified. With it, classes known to be absent from an image are asked for
    too; the right answer is then an empty list."""
    groups: Literal["reject", "ignore", "keep"] = "reject"
    """What to do with a class that has a group (`IsGroupOf` 1, one box around more than five objects) in an image: as `crowds`
    of the format coco."""


def read(path: Path, options: OpenImagesOptions) -> Iterator[Record]:
    """One record per image, in the order of the file: {"image", "objects": [line of the CSV, …], "absent": [class, …]},
    classes as {"LabelName", "name"}. Lines that cannot be read are problems, and an image with such a line is one too.

    Raises SourceError if a file lacks columns, or the names of the classes are missing.
    """
    names = _class_names(options.classes or _classes_beside(path))
    with closing(sqlite3.connect("")) as database:  # "": temporary, on disk, deleted when closed
        database.executescript(
            "CREATE TABLE boxes (image TEXT, at INTEGER, line TEXT, problem TEXT);"
            "CREATE TABLE labels (image TEXT, label TEXT);"
        )
        end = None
        for record in csv_lines(path, COLUMNS):
            if record.at == "end":
                end = record
                break
            image = record.data["ImageID"] if record.data else None
            if not image:
                yield Record(
                    None, path, record.at, record.problem or "field 'ImageID': expected a name, got ''"
                )
                continue
            values = (image, record.at, json.dumps(record.data), record.problem)
            database.execute("INSERT INTO boxes VALUES (?, ?, ?, ?)", values)
        if end is not None:  # with lines missing, "every object" would be a wrong answer
            yield end
            return
        if options.labels is not None:
            yield from _verified_absent(options.labels, database)
        database.execute("CREATE INDEX of_image ON boxes (image)")
        database.execute("CREATE INDEX of_label ON labels (image)")
        in_order = (
            "SELECT image, MIN(at) FROM boxes GROUP BY image "
            "UNION SELECT image, 0 FROM labels WHERE image NOT IN (SELECT image FROM boxes) ORDER BY 2, 1"
        )
        for image, at in database.execute(in_order):
            lines = "SELECT line, problem, at FROM boxes WHERE image = ? ORDER BY at"
            found = list(database.execute(lines, (image,)))
            absent = database.execute("SELECT DISTINCT label FROM labels WHERE image = ?", (image,))
            problem = next((f"line {line}: {wrong}" for _, wrong, line in found if wrong), None)
            data = {
                "image": image,
                "objects": [_named(json.loads(text), names) for text, _, _ in found],
                "absent": [_named({"LabelName": label}, names) for (label,) in absent],
            }
            yield Record(None if problem else data, path, at or f"labels of {image}", problem)


def convert(record: Record, options: OpenImagesOptions) -> Iterator[Row | Rejected]:
    """Rows by class, in the order of the image's lines."""
    image = need(record.data, "image", str, "the image's name")
    objects: dict[str, Objects | Rejected] = {}
    for item in need(record.data, "objects", list, "the lines of the image"):
        label, name = item["LabelName"], item["name"]
        if name is None:
            yield Rejected(f"field 'LabelName': expected a class that has a name, got {show(label)}")
            continue
        found = objects.setdefault(name, Objects(label))
        try:
            group = item.get("IsGroupOf") == "1"
            if group and options.groups == "ignore":
                continue
            if group and options.groups == "reject":
                raise Rejected("field 'IsGroupOf': expected 0, got 1 (one box around many objects)")
            box = xyxy([_number(item, key) for key in ("XMin", "YMin", "XMax", "YMax")], "XMin…YMax")
            if isinstance(found, Objects):
                (found.crowds if group else found.boxes).append(box)
        except Rejected as error:
            objects[name] = Rejected(f"class '{name}': {error}")
    for name in [name for name, found in objects.items() if isinstance(found, Objects) and found.empty]:
        objects[name] = Rejected(f"class '{name}': field 'IsGroupOf': expected an object, got only groups")
    for item in record.data["absent"]:
        if item["name"] is not None:
            objects.setdefault(item["name"], Objects(item["LabelName"]))
    folder = options.media or _image_folder(record.file)
    base: dict[str, Any] = {
        "id": image,
        "image_id": image,
        "images": [media_path(f"{image}.jpg", "ImageID", record, folder)],
        "source": source(options, "Open Images", "CC BY 4.0 (annotations); CC BY 2.0 (images, as listed)"),
    }
    yield from object_rows(base, objects, options, "norm1")


def csv_lines(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Lines of a CSV file with a header, as {column: text}; `at` is the line from 1, "end" for a file that breaks off.

    Raises SourceError unless the header has `columns`.
    """
    with opened(path) as file:
        reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline=""))
        try:
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                got = ",".join(reader.fieldnames or ())
                raise SourceError(
                    f"{path}: expected columns {', '.join(columns)}, got none named {missing[0]} in {got!r:.120}"
                )
            for line in reader:
                short = [name for name in columns if line.get(name) is None]
                problem = f"expected {len(reader.fieldnames or ())} columns, got too few" if short else None
                yield Record({k: v for k, v in line.items() if k}, path, reader.line_num, problem)
        except (csv.Error, *BROKEN) as error:
            yield Record(None, path, "end", f"expected a whole CSV file, got one that is damaged: {error}")


def _verified_absent(path: Path, database: sqlite3.Connection) -> Iterator[Record]:
    """Store the pairs of image and class that people found to be absent; yields lines that cannot be read."""
    for record in csv_lines(path, LABEL_COLUMNS):
        if record.problem:
            yield Record(None, path, record.at, record.problem)
        elif record.data["Confidence"] in ("0", "0.0"):
            values = (record.data["ImageID"], record.data["LabelName"])
            database.execute("INSERT INTO labels VALUES (?, ?)", values)


def _number(item: dict[str, Any], key: str) -> float:
    try:
        return float(item[key])
    except ValueError:
        raise Rejected(f"field '{key}': expected a number, got {show(item[key])}") from None


def _named(item: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {**item, "name": names.get(item["LabelName"])}


def _class_names(path: Path) -> dict[str, str]:
    """{"/m/011k07": "Tortoise"} of a file of two columns, with or without a header."""
    note(path)
    if not path.is_file():
        raise SourceError(f"{path}: expected a CSV of class names (option `classes`), got no such file")
    with opened(path) as file:
        lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        names = {line[0]: line[1].strip() for line in lines if len(line) == 2 and line[0] != "LabelName"}
    if not names:
        raise SourceError(f"{path}: expected lines `label,name`, got none")
    return names


def _classes_beside(path: Path) -> Path:
    found = sorted(path.parent.glob("*class-descriptions*.csv"))
    if len(found) != 1:
        got = ", ".join(file.name for file in found) or "none"
        raise SourceError(
            f"{path}: expected one *class-descriptions*.csv beside it, got {got}: name it with the option `classes`"
        )
    return found[0]


def _image_folder(path: Path) -> Path:
    """Folder of the images: beside the file, named like its split, or the file's own."""
    for split in ("train", "validation", "test"):
        folder = path.parent / split
        note(folder)
        if split in path.name.split("-") and folder.is_dir():
            return folder
    return path.parent


def looks_like(path: Path, first: Any) -> bool:
    """True for a CSV file with the header of the boxes."""
    if kind_of(path) != ".csv" or not path.is_file():
        return False
    with opened(path) as file:
        header = next(islice(io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace"), 1), "")
    return set(COLUMNS) <= set(header.strip().split(","))


FORMATS = (
    Format("open_images", "Open Images boxes (CSV) by class", read, convert, looks_like, OpenImagesOptions),
)

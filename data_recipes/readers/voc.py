"""Pascal VOC annotations, one XML file per image: find every object of a class, count them, or find the only one.

    <annotation><filename>a.jpg</filename><size><width>640</width><height>480</height></size>
      <object><name>WBC</name><difficult>0</difficult>
        <bndbox><xmin>68</xmin><ymin>315</ymin><xmax>286</xmax><ymax>480</ymax></bndbox></object></annotation>

VOC counts pixels from 1 and includes the last one: a box over a whole 640 x 480 image is 1, 1, 640, 480. Rows use continuous
coordinates from 0, so one is subtracted from xmin and ymin, and xmax and ymax are kept (0, 0, 640, 480), as in Detectron2.
LabelImg counts pixels from 0 but replaces 0 by 1, so this rule is exact for its boxes at the border and one pixel too large
for others; `origin: 0` uses the numbers unchanged.
Format: the VOC development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.files.inputs import note
from data_recipes.readers.chat import source
from data_recipes.readers.files import file_record, show
from data_recipes.readers.places import ObjectOptions, Objects, image_size, media_path, object_rows, xyxy
from data_recipes.records import Format, Record, Rejected

IMAGE_FOLDERS = ("JPEGImages", "images")  # VOC's own name and a common one; next to the XML folder
EDGES = ("xmin", "ymin", "xmax", "ymax")


class VocOptions(ObjectOptions):
    """Options of the format voc."""

    origin: Literal[0, 1] = 1
    """Index of the first pixel in the XML files: 1 as in VOC (then a box with 0 is rejected), or 0."""
    difficult: Literal["keep", "reject"] = "keep"
    """What to do with objects marked difficult: keep them like any other, or reject the image's rows of their class."""


def read(path: Path, options: VocOptions) -> Iterator[Record]:
    """One record per XML file, sorted by name. path: a file, a folder of them, or a folder with `Annotations/`."""
    for file in xml_files(path):
        yield file_record(file, 1, lambda content: _plain(ElementTree.fromstring(content)), "XML")


def xml_files(path: Path) -> list[Path]:
    """The annotation files of a VOC folder, sorted."""
    if path.is_file():
        return [path]
    folders = [path, *(path / name for name in ("Annotations", "annotations"))]
    return next((found for folder in folders if (found := sorted(folder.glob("*.xml")))), [])


def _plain(root: ElementTree.Element) -> dict[str, Any]:
    """The annotation's fields as text."""
    return {
        "tag": root.tag,
        "filename": root.findtext("filename"),
        "width": root.findtext("size/width"),
        "height": root.findtext("size/height"),
        "database": root.findtext("source/database"),
        "polygons": len(root.findall("object/polygon")),
        "objects": [
            {
                "name": item.findtext("name"),
                "difficult": item.findtext("difficult"),
                "bndbox": [item.findtext(f"bndbox/{edge}") for edge in EDGES],
            }
            for item in root.findall("object")
        ],
    }


def convert(record: Record, options: VocOptions) -> Iterator[Row | Rejected]:
    """Rows by class, in the order of the file."""
    data = record.data
    if data["tag"] != "annotation":
        raise Rejected(f"expected an <annotation> of VOC, got <{data['tag']}>")
    name = (data["filename"] or "").strip()
    if not name:
        raise Rejected("field 'filename': expected the image's name, got nothing")
    objects: dict[str, Objects | Rejected] = {}
    if data["polygons"]:
        raise Rejected("expected <bndbox> of VOC, got <polygon> of LabelMe: convert to COCO (labelme2coco)")
    for number, item in enumerate(data["objects"]):
        label = (item["name"] or "").strip()
        if not label:
            yield Rejected(f"field 'object[{number}].name': expected a class, got nothing")
            continue
        found = objects.setdefault(label, Objects())
        try:
            if options.difficult == "reject" and (item["difficult"] or "").strip() == "1":
                raise Rejected(f"field 'object[{number}].difficult': expected 0, got 1")
            box = _box(item["bndbox"], f"object[{number}].bndbox", options.origin)
            if isinstance(found, Objects):
                found.boxes.append(box)
        except Rejected as error:
            objects[label] = Rejected(f"class '{label}': {error}")
    base: dict[str, Any] = {
        "id": record.file.stem,
        "image_id": record.file.stem,
        "images": [media_path(name, "filename", record, options.media or _image_folder(record.file))],
        "source": source(options, _database(data), "unknown"),
        **image_size(_number(data["width"]), _number(data["height"])),
    }
    yield from object_rows(base, objects, options)


def _box(texts: list[str | None], field: str, origin: int) -> list[float]:
    edges = [_number(text) for text in texts]
    for edge, value, text in zip(EDGES, edges, texts, strict=True):
        if value is None:
            raise Rejected(f"field '{field}.{edge}': expected a number, got {show(text)}")
        if edge in ("xmin", "ymin") and value < origin:
            raise Rejected(
                f"field '{field}.{edge}': expected at least {origin} (pixels from {origin}), got {text}; if pixels are counted"
                " from 0, set the option origin to 0"
            )
    x1, y1, x2, y2 = (value for value in edges if value is not None)
    return xyxy([x1 - origin, y1 - origin, x2, y2], field)


def _database(data: dict[str, Any]) -> str:
    """The data set named in the file; LabelImg writes Unknown."""
    name = (data["database"] or "").strip()
    return name if name not in ("", "Unknown", "Unspecified") else "Pascal VOC format"


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _image_folder(file: Path) -> Path:
    """Folder of an XML file's images: one of IMAGE_FOLDERS if it exists, else the file's own."""
    for folder in (file.parent.parent / name for name in IMAGE_FOLDERS):
        note(folder)
        if folder.is_dir():
            return folder
    return file.parent


def looks_like(path: Path, first: Any) -> bool:
    """True for an XML file with an <annotation>, or a folder of such files."""
    files = xml_files(path) if path.is_dir() or path.suffix == ".xml" else []
    if not files:
        return False
    with files[0].open("rb") as file:
        return b"<annotation" in file.read(4096)


FORMATS = (
    Format("voc", "Pascal VOC XML annotations: boxes by class", read, convert, looks_like, VocOptions),
)

"""Shared code of readers of boxes, points and times: options, prompts, media paths, and rows of annotated objects."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.files.inputs import note_pattern
from data_recipes.readers.chat import SourceOptions, locate
from data_recipes.readers.files import show
from data_recipes.records import Record, Rejected
from rewards.reading.gold import number

Frame = Literal["pixel", "resized", "norm1000", "norm1"]
Kind = Literal["detection", "counting", "grounding"]

UNITS = {
    "pixel": "pixels",
    "resized": "pixels",
    "norm1000": "thousandths of the image's width and height",
    "norm1": "fractions of the image's width and height",
}
"""How prompts name the unit of a frame."""


class PlaceOptions(SourceOptions):
    """Options of all formats whose answers are places in an image. `media` null: the annotation file's folder."""

    frame_out: Frame | None = None
    """Coordinate frame in which the model is asked to answer, kept in the row for the reward; default: the annotation's own.
    Use `resized` for models that answer in pixels of the resized image (Qwen2.5-VL, MiMo-VL)."""

    def unit(self, frame: str = "pixel") -> str:
        """The text for {unit} in prompts."""
        return UNITS[self.frame_out or frame]

    def extra(self) -> dict[str, Any]:
        """Columns that these options add to every row."""
        return {"frame_out": self.frame_out} if self.frame_out else {}


class ObjectOptions(PlaceOptions):
    """Options of formats that list an image's objects by category."""

    rows: list[Kind] = ["detection"]
    """Kinds of rows to make for each category in an image. `detection`: find all objects (a set of boxes). `counting`: how
    many are there. `grounding`: find the object, for categories with exactly one in the image."""
    detection_prompt: str = 'Find every {name} in the image. Answer in JSON, boxes in {unit}: [{"bbox_2d": [x1, y1, x2, y2], "label": "{name}"}]'
    """Question of detection rows; {name} is the category, {unit} names the frame."""
    counting_prompt: str = "How many objects of the kind “{name}” are in the image? Answer with one number."
    """Question of counting rows."""
    grounding_prompt: str = (
        "Where is the {name} in the image? Answer with its box in {unit} as [x1, y1, x2, y2]."
    )
    """Question of grounding rows."""
    names: dict[str, str] = {}
    """Names of categories to use in prompts instead of the file's, e.g. {RBC: red blood cell}."""


def fill(template: str, **words: str) -> str:
    """The template with {key} replaced for the given keys; other braces (as in JSON) are kept."""
    for key, word in words.items():
        template = template.replace("{" + key + "}", word)
    return template


def ask(text: str, kind: Literal["image", "video"] = "image") -> list[dict[str, Any]]:
    """A prompt: one medium, then the text."""
    return [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": text}]}]


def media_path(name: str, field: str, record: Record, media: Path | None) -> str:
    """Absolute path of a medium; relative ones start from `media`, or if None from the record's file."""
    return locate(name, field, (media or record.file.parent).absolute())


def find_media(pattern: str, field: str, record: Record, media: Path | None) -> str:
    """Like `media_path`, but * matches anything; the first match by name is used."""
    path = media_path(pattern, field, record, media)
    if "*" not in pattern:
        return path
    folder, name = os.path.split(path)
    fits = os.path.join(glob.escape(folder), "*".join(map(glob.escape, name.split("*"))))
    found = sorted(glob.glob(fits))
    if not found:
        note_pattern(fits, found)
        raise Rejected(f"field '{field}': expected a file matching {name}, got none in {folder}")
    return found[0]


def four(value: Any, field: str) -> tuple[float, float, float, float]:
    """Four finite numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != 4:
        raise Rejected(f"field '{field}': expected four numbers, got {show(value)}")
    try:
        a, b, c, d = (number(item, field) for item in value)
    except ValueError:
        raise Rejected(f"field '{field}': expected four finite numbers, got {show(value)}") from None
    return a, b, c, d


def xyxy(value: Any, field: str) -> list[float]:
    """A box [x1, y1, x2, y2] with x1 < x2 and y1 < y2."""
    x1, y1, x2, y2 = four(value, field)
    if not (x1 < x2 and y1 < y2):
        raise Rejected(
            f"field '{field}': expected [x1, y1, x2, y2] with x1 < x2 and y1 < y2, got {show(value)}"
        )
    return [plain(v) for v in (x1, y1, x2, y2)]


def xywh(value: Any, field: str) -> list[float]:
    """Convert a box x, y, width, height to [x1, y1, x2, y2]."""
    x, y, width, height = four(value, field)
    if width <= 0 or height <= 0:
        raise Rejected(
            f"field '{field}': expected [x, y, width, height] with a positive size, got {show(value)}"
        )
    # Round sums such as 433.64000000000004.
    return [plain(v) for v in (x, y, round(x + width, 6), round(y + height, 6))]


def plain(value: float) -> float:
    """Whole numbers as int, to keep rows short."""
    return int(value) if float(value).is_integer() else value


def image_size(width: Any, height: Any) -> dict[str, Any]:
    """The column `image_size`, which validation compares with the file; {} if the size is missing or not positive."""
    whole = all(
        isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 1e9 for v in (width, height)
    )
    return {"image_size": [int(width), int(height)]} if whole else {}


@dataclass(frozen=True)
class Objects:
    """The objects of one category in an image: [x1, y1, x2, y2] each.

    category_id: the annotation file's own name of the category, if it has one.
    crowds: boxes around many objects at once; their number is unknown.
    """

    category_id: Any = None
    boxes: list[list[float]] = field(default_factory=list)
    crowds: list[list[float]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.boxes and not self.crowds


def object_rows(
    base: Mapping[str, Any],
    objects: Mapping[str, Objects | Rejected],
    options: ObjectOptions,
    frame: Frame = "pixel",
) -> Iterator[Row | Rejected]:
    """Rows of an image with objects. objects: category -> its boxes in `frame`, or what is wrong with it.

    base: columns shared by all rows; the category and the kind of row are appended to its `id`.
    """
    some = False
    for name, found in objects.items():
        if isinstance(found, Rejected):
            some = True
            yield found
            continue
        shown = options.names.get(name, name)
        for kind in options.rows:
            if kind != "detection" and (found.crowds or (kind == "grounding" and len(found.boxes) != 1)):
                continue
            some = True
            answer: dict[str, Any] = (
                {"value": len(found.boxes)} if kind == "counting" else {"boxes": found.boxes, "frame": frame}
            )
            if found.crowds:
                answer["crowds"] = found.crowds
            template = getattr(options, f"{kind}_prompt")
            yield {
                **base,
                "id": f"{base['id']}-{name.replace(' ', '_')}-{kind}",
                "task": kind,
                "prompt": ask(fill(template, name=shown, unit=options.unit(frame))),
                "answer": answer,
                "category": name,
                **({} if found.category_id is None else {"category_id": found.category_id}),
                **({} if kind == "counting" else options.extra()),
            }
    if not some:
        wanted = "a category with exactly one object" if objects else "at least one object"
        raise Rejected(
            f"field 'objects': expected {wanted}, got {show(sorted(objects)) if objects else 'none'}"
        )

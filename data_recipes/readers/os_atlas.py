"""OS-Atlas's grounding data: elements of screenshots on phones, desktops and the web.

OS-Copilot/OS-Atlas-data (Apache-2.0), JSON lists. An entry is one element, {"img_filename", "instruction", "bbox"}, or a screenshot
with several, {"img_filename", "elements": [{"instruction", "bbox"}, …]} (as SeeClick's web data); `bbox` is left, top, right,
bottom in fractions of the image. `media` is the folder of the unpacked screenshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.readers.chat import source
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.places import PlaceOptions, ask, fill, media_path, xyxy
from data_recipes.records import Format, Record, Rejected

TOLERANCE = 1e-3
"""By how much a box may exceed the image, as a share of it: rounding."""


class OSAtlasOptions(PlaceOptions):
    """Options of the format os_atlas."""

    rows: list[Literal["pointing", "grounding"]] = ["pointing"]
    """Rows of each element: `pointing` asks for a point in it, `grounding` for its box."""
    prompt: str = "Where on this screen do you click to do the following? {instruction}\nAnswer with the point as (x, y) in {unit}."
    """Question of pointing rows; {instruction} is the element's text, {unit} names the frame."""
    grounding_prompt: str = "Where on this screen is the following? {instruction}\nAnswer with its box as [x1, y1, x2, y2] in {unit}."
    """Question of grounding rows."""


def read(path: Path, options: OSAtlasOptions) -> Iterator[Record]:
    """Entries of a file, or of all files of a folder in the order of names."""
    return records(path, options.split)


def convert(record: Record, options: OSAtlasOptions) -> Iterator[Row | Rejected]:
    """The rows of each element; one that is wrong leaves out its own alone."""
    data = record.data
    name = need(data, "img_filename", str, "the screenshot's name")
    image = media_path(name, "img_filename", record, options.media)
    elements = need(data, "elements", list, "elements") if "elements" in data else [data]
    for i, element in enumerate(elements):
        where = f"elements[{i}]." if "elements" in data else ""
        try:
            if not isinstance(element, dict):
                raise Rejected(f"field 'elements[{i}]': expected an element, got {show(element)}")
            yield from _rows(
                record, options, element, where, f"{record.at}-{i}" if where else str(record.at), image
            )
        except Rejected as error:
            yield error


def _rows(
    record: Record, options: OSAtlasOptions, element: dict[str, Any], where: str, name: str, image: str
) -> list[Row]:
    text = element.get("instruction")
    if not isinstance(text, str) or not text.strip():
        raise Rejected(f"field '{where}instruction': expected a text, got {show(text)}")
    box = xyxy(element.get("bbox"), f"{where}bbox")
    if min(box) < -TOLERANCE or max(box) > 1 + TOLERANCE:
        raise Rejected(f"field '{where}bbox': expected fractions of the image, got {show(element['bbox'])}")
    box = [min(1.0, max(0.0, value)) for value in box]
    if not (box[0] < box[2] and box[1] < box[3]):
        raise Rejected(f"field '{where}bbox': expected a box with an area, got {show(element['bbox'])}")
    made = []
    for kind in options.rows:
        template = options.prompt if kind == "pointing" else options.grounding_prompt
        answer = {"box": box} if kind == "pointing" else {"boxes": [box]}
        made.append(
            {
                "id": name if len(options.rows) == 1 else f"{name}-{kind}",
                "task": kind,
                "prompt": ask(fill(template, instruction=text.strip(), unit=options.unit())),
                "images": [image],
                "answer": {**answer, "frame": "norm1"},
                "source": source(options, "OS-Atlas", "Apache-2.0"),
                "frame_out": options.frame_out or "pixel",
                **({"data_type": element["data_type"]} if isinstance(element.get("data_type"), str) else {}),
            }
        )
    return made


def looks_like(path: Path, first: Any) -> bool:
    """True for a screenshot with elements, or an element that is none of ScreenSpot's."""
    if not isinstance(first, dict) or not isinstance(first.get("img_filename"), str):
        return False
    return isinstance(first.get("elements"), list) or (
        {"bbox", "instruction"} <= set(first) and "data_type" not in first
    )


FORMATS = (
    Format(
        "os_atlas",
        "OS-Atlas: elements of screenshots, in fractions of the image",
        read,
        convert,
        looks_like,
        OSAtlasOptions,
    ),
)

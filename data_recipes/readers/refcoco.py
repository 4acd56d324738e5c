"""Referring expressions (RefCOCO, RefCOCO+, RefCOCOg, Visual Genome): one phrase, one box.

The published layout of a record is recognised by its fields:

| layout | record | boxes | published by |
|---|---|---|---|
| VLM-R1 | {"image", "problem", "solution"} (also "normal_caption") | xyxy | om-ai-lab/VLM-R1, rec_jsons_processed |
| Shikra | {"img_path", "expression", "bbox"} | xyxy | shikras/shikra, REC_*.jsonl, GC_genome*.jsonl |
| Qwen-VL | {"image", "sent", "bbox", "width", "height"} | xyxy | QwenLM/Qwen-VL, eval_mm |
| refer, as JSON or pickle | {"ref_id", "ann_id", "file_name", "sentences": [{"sent"}]} | in `instances` | lichengunc/refer, refs exported to JSON |
| MDETR | COCO file whose images have a "caption" (format refcoco_mdetr) | xywh | ashkamath/mdetr, finetune_*.json |

Boxes are in pixels of the original image. The refs of lichengunc/refer are published as Python pickles (refs(unc).p next to
instances.json). Loading a pickle can run code, so everything but plain data is refused here.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.readers.chat import source
from data_recipes.readers.coco import first_fields, images_with_objects
from data_recipes.readers.files import json_items, need, show
from data_recipes.readers.folders import records
from data_recipes.readers.places import PlaceOptions, ask, fill, image_size, media_path, xywh, xyxy
from data_recipes.records import Format, Record, Rejected, SourceError

VLM_R1_LEAD = "Please provide the bounding box coordinate of the region this sentence describes:"


class RefOptions(PlaceOptions):
    """Options of the formats refcoco and refcoco_mdetr."""

    prompt: str = (
        "Where is this in the image: “{expression}”? Answer with its box in {unit} as [x1, y1, x2, y2]."
    )
    """Question; {expression} is the phrase, {unit} names the frame."""
    split: str | None = None
    """The split to read from a file (field "split") or folder with several: train, val, testA, testB, test."""
    instances: Path | None = None
    """The instances.json that `ann_id` refers to, for refer's layout only; default: the one next to the file."""


def read(path: Path, options: RefOptions) -> Iterator[Record]:
    """Records of a .json array or .jsonl file, without those of other splits."""
    if path.suffix in (".p", ".pkl", ".pickle") or (path.is_dir() and sorted(path.glob("refs(*).p"))):
        entries = pickled_refs(path)
    else:
        entries = records(path, options.split if path.is_dir() else None)
    for record in entries:
        found = record.data.get("split") if options.split and isinstance(record.data, dict) else None
        if not isinstance(found, str) or found == options.split:
            yield record


class _PlainUnpickler(pickle.Unpickler):
    """Loads only dicts, lists, texts and numbers, as refer's files contain; refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it contains {module}.{name}, and only plain data are allowed")


def pickled_refs(path: Path) -> Iterator[Record]:
    """Records of refer's refs(unc).p, or of the only such file in a folder; `at` is the index from 0."""
    files = sorted(path.glob("refs(*).p")) if path.is_dir() else [path]
    if len(files) > 1:
        raise SourceError(
            f"{path}: expected one file of refs, got {', '.join(f.name for f in files)}: name one"
        )
    with files[0].open("rb") as file:
        try:
            refs = _PlainUnpickler(file, encoding="latin-1").load()
        except Exception as error:  # noqa: BLE001  a damaged pickle can raise anything
            raise SourceError(
                f"{files[0]}: expected refer's refs, got an unreadable pickle: {error}"
            ) from None
    if not isinstance(refs, list):
        raise SourceError(f"{files[0]}: expected a list of refs, got {show(refs)}")
    for number, ref in enumerate(refs):
        yield Record(ref, files[0], number)


def convert(record: Record, options: RefOptions) -> Iterator[Row | Rejected]:
    """One row per phrase."""
    data = record.data
    if not isinstance(data, dict):
        raise Rejected(f"expected a JSON object, got {show(data)}")
    if "sentences" in data:
        yield from _refer(record, options)
    elif "solution" in data:
        caption = data.get("normal_caption")
        problem = need(data, "problem", str, "the question")
        phrase = caption if isinstance(caption, str) else problem.replace(VLM_R1_LEAD, "").strip()
        yield _row(record, options, str(record.at), "image", phrase, xyxy(data["solution"], "solution"))
    elif "expression" in data:
        phrase = need(data, "expression", str, "the phrase")
        yield _row(record, options, str(record.at), "img_path", phrase, xyxy(data.get("bbox"), "bbox"))
    elif "sent" in data:
        phrase = need(data, "sent", str, "the phrase")
        yield _row(record, options, str(record.at), "image", phrase, xyxy(data.get("bbox"), "bbox"))
    else:
        raise Rejected(
            f"expected one of the fields solution, expression, sent, sentences, got {', '.join(sorted(data))}"
        )


def _row(
    record: Record, options: RefOptions, name: str, image_field: str, phrase: str, box: list[float]
) -> Row:
    return _grounding(
        record,
        options,
        name,
        need(record.data, image_field, str, "the image's path"),
        phrase,
        box,
        record.data,
    )


def _grounding(
    record: Record,
    options: RefOptions,
    name: str,
    image: str,
    phrase: str,
    box: list[float],
    sized: dict[str, Any],
) -> Row:
    if not phrase.strip():
        raise Rejected(f"field 'expression': expected a phrase, got {show(phrase)}")
    return {
        "id": name,
        "task": "grounding",
        "prompt": ask(fill(options.prompt, expression=phrase.strip(), unit=options.unit())),
        "images": [media_path(image, "image", record, options.media)],
        "answer": {"boxes": [box], "frame": "pixel"},
        "source": source(options, "RefCOCO", "unknown"),
        "expression": phrase.strip(),
        **image_size(sized.get("width"), sized.get("height")),
        **options.extra(),
    }


def _refer(record: Record, options: RefOptions) -> Iterator[Row | Rejected]:
    """Rows of a record of lichengunc/refer: one per sentence, all for the same box."""
    data = record.data
    instances = options.instances or record.file.parent / "instances.json"
    if options.instances is None and not instances.is_file():
        raise Rejected(
            "field 'ann_id': expected the option `instances` with the boxes of refer's records, got none"
        )
    key = need(data, "ann_id", int, "an annotation's id")
    if not -(2**63) <= key < 2**63:
        raise Rejected(f"field 'ann_id': expected an annotation's id, got {show(key)}")
    found = _boxes(instances.absolute()).execute("SELECT x, y, w, h FROM boxes WHERE id = ?", (key,))
    box = xywh(found.fetchone() or None, f"ann_id {key} in {instances.name}")
    # COCO_train2014_000000581857_16.jpg: refer appends the annotation's number to the image's name
    stem, _, ending = need(data, "file_name", str, "the image's name").rpartition(".")
    image = f"{stem.rpartition('_')[0]}.{ending}" if stem.count("_") > 2 else f"{stem}.{ending}"
    for number, sentence in enumerate(need(data, "sentences", list, "sentences about the box")):
        try:
            phrase = need(sentence, "sent", str, "a phrase")
            name = f"{data.get('ref_id', record.at)}-{sentence.get('sent_id', number)}"
            yield _grounding(record, options, name, image, phrase, box, {})
        except Rejected as error:
            yield Rejected(f"sentences[{number}]: {error}")


@lru_cache(maxsize=4)
def _boxes(path: Path) -> sqlite3.Connection:
    """Boxes of an instances.json by annotation id, in a temporary database on disk."""
    if not path.is_file():
        raise SourceError(f"option 'instances': expected a file, got no file {path}")
    database = sqlite3.connect("", check_same_thread=False)
    database.execute("CREATE TABLE boxes (id INTEGER PRIMARY KEY, x REAL, y REAL, w REAL, h REAL)")
    try:
        for record in json_items(path, "annotations"):
            data = record.data if isinstance(record.data, dict) else {}
            if (
                isinstance(data.get("id"), int)
                and isinstance(data.get("bbox"), list)
                and len(data["bbox"]) == 4
            ):
                database.execute(
                    "INSERT OR REPLACE INTO boxes VALUES (?, ?, ?, ?, ?)", (data["id"], *data["bbox"])
                )
    except (sqlite3.Error, OverflowError) as error:
        raise SourceError(
            f"option 'instances': expected COCO's annotations in {path}, got: {error}"
        ) from None
    return database


def read_mdetr(path: Path, options: RefOptions) -> Iterator[Record]:
    """One record per image entry (MDETR has one entry per phrase)."""
    return images_with_objects(path)


def convert_mdetr(record: Record, options: RefOptions) -> Iterator[Row | Rejected]:
    """One row per image entry; Rejected if the phrase has several boxes."""
    image, objects = record.data["image"], record.data["objects"]
    if record.data.get("broken"):
        raise Rejected(f"expected readable annotations, got {record.data['broken'][0]}")
    if len(objects) != 1:
        raise Rejected(f"field 'annotations': expected one box for the phrase, got {len(objects)}")
    yield _grounding(
        record,
        options,
        str(record.at),
        need(image, "file_name", str, "the image's path"),
        need(image, "caption", str, "the phrase"),
        xywh(objects[0].get("bbox"), "bbox"),
        image,
    )


def looks_like(path: Path, first: Any) -> bool:
    """True for records with the fields of one of the layouts."""
    layouts = (
        {"image", "problem", "solution"},
        {"img_path", "expression", "bbox"},
        {"image", "sent", "bbox"},
    )
    if path.is_dir() and sorted(path.glob("refs(*).p")):
        return (path / "instances.json").is_file()
    if not isinstance(first, dict):
        return False
    if {"image", "problem", "solution"} <= set(first):
        return isinstance(first["solution"], list) and len(first["solution"]) == 4
    return any(layout <= set(first) for layout in layouts) or {"ref_id", "ann_id", "sentences"} <= set(first)


def looks_like_mdetr(path: Path, first: Any) -> bool:
    """True for a COCO file whose images have captions and whose annotations have boxes."""
    fields = first_fields(path)
    return {"images.item.caption", "images.item.file_name"} <= fields and "images.item.original_id" in fields


FORMATS = (
    Format(
        "refcoco",
        "Referring expressions as JSON: VLM-R1, Shikra, Qwen-VL, refer",
        read,
        convert,
        looks_like,
        RefOptions,
    ),
    Format(
        "refcoco_mdetr",
        "Referring expressions in MDETR's COCO files",
        read_mdetr,
        convert_mdetr,
        looks_like_mdetr,
        RefOptions,
    ),
)

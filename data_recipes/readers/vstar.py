"""V*Bench: multiple-choice questions about small things in large images.

    vstar_bench/test_questions.jsonl
        {"image": "direct_attributes/sa_4690.jpg", "text": "What is the material of the glove?\\n(A) rubber\\n(B) cotton\\n…",
         "category": "direct_attributes", "label": "A", "question_id": "0"}
    vstar_bench/direct_attributes/sa_4690.jpg
    vstar_bench/direct_attributes/sa_4690.json
        {"target_object": ["glove"], "bbox": [[564, 142, 155, 157]], "question": "…", "options": ["…", …]}

Parquet copies of the questions hold the image itself. Where the file beside the image is there, the boxes (x, y, width, height
in pixels) of the things asked for become the column `targets`, with which zooms can be judged.
Format: hf.co/datasets/craigwu/vstar_bench; P. Wu and S. Xie, arXiv 2312.14135.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.files.inputs import note
from data_recipes.readers.chat import SourceOptions, media_list, own_id, source
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.places import ask, xywh
from data_recipes.records import Format, Record, Rejected

_OPTION = re.compile(r"^\s*\(([A-H])\)\s*(.+?)\s*$", re.MULTILINE)


def read(path: Path, options: SourceOptions) -> Iterator[Record]:
    """Records of test_questions.jsonl, of the folder that holds it, or of Parquet copies."""
    questions = path / "test_questions.jsonl"
    return records(questions if questions.is_file() else path, options.split)


def convert(record: Record, options: SourceOptions) -> Iterable[Row]:
    """One row of task `choice`."""
    data = record.data
    text = need(data, "text", str, "the question with its options")
    category = need(data, "category", str, "the kind of question")
    label = need(data, "label", str, "the letter of the true option")
    folder = (options.media or record.file.parent).absolute()
    images = media_list(data.get("image"), "image", folder)
    if len(images) != 1:
        raise Rejected(f"field 'image': expected one image, got {show(data.get('image'))}")
    choices = _OPTION.findall(text)
    letters = "".join(letter for letter, _ in choices)
    if letters != "ABCDEFGH"[: len(letters)] or len(letters) < 2:
        raise Rejected(
            f"field 'text': expected options (A), (B), … on lines of their own, got {show(letters)}"
        )
    if label not in list(letters):
        raise Rejected(f"field 'label': expected a letter of {letters}, got {show(label)}")
    return [
        {
            "id": own_id(record, "question_id"),
            "task": "choice",
            "prompt": ask(text),
            "images": images,
            "answer": {"letter": label, "options": [choice for _, choice in choices]},
            "category": category,
            "source": source(options, "V*Bench", "unknown"),
            **_targets(images[0]),
        }
    ]


def _targets(image: Any) -> dict[str, Any]:
    """`targets` {name: [box, …]} in pixels, of the file beside the image; {} if there is none."""
    file = Path(image).with_suffix(".json") if isinstance(image, str) else None
    if file is None:
        return {}
    note(file)
    if not os.path.isfile(file):  # False for names that no file can have, too
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Rejected(f"{file.name}: expected JSON beside the image, got none ({error})") from None
    names = need(data, "target_object", list, "a list of names")
    boxes = need(data, "bbox", list, "a list of boxes")
    if len(names) != len(boxes):
        raise Rejected(f"{file.name}: expected a box for each of {len(names)} targets, got {len(boxes)}")
    targets: dict[str, list[list[float]]] = {}
    for name, box in zip(names, boxes, strict=True):
        targets.setdefault(str(name), []).append(xywh(box, f"{file.name}: bbox"))
    return {"targets": targets}


def looks_like(path: Path, first: Any) -> bool:
    """True for a question with lettered options in its text, a kind and a label."""
    fields = {"image", "text", "category", "label"}
    return isinstance(first, dict) and fields <= set(first) and bool(_OPTION.search(str(first["text"])))


FORMATS = (Format("vstar", "V*Bench questions", read, convert, looks_like, SourceOptions),)

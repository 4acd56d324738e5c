"""R1-V's data sets (leonardPKU/clevr_cogen_a_train, GEOQA_R1V_Train_8K and others in their format).

    {"image": {"bytes": …}, "problem": "How many items are there in the image?", "solution": "<answer> 3 </answer>"}

As in github.com/Deep-Agent/R1-V (src/r1-v/src/open_r1/grpo.py): one image before the problem; the gold answer is in the tag.
Parquet files from a model hub contain the images' bytes, JSON files their paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.readers.chat import (
    SourceOptions,
    dialogue,
    front_placeholders,
    media_list,
    own_id,
    source,
    typed_answer,
)
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.records import Format, Record, Rejected

_ANSWER = re.compile(r"\s*<answer>(.*?)</answer>\s*", re.DOTALL)


class R1VOptions(SourceOptions):
    """Options of `r1v`."""

    task: str = "math"
    """The rows' task, which also determines the form of `answer`: `counting` for the CLEVR sets."""


def read(path: Path, options: R1VOptions) -> Iterator[Record]:
    """Records of a .parquet, .json or .jsonl file, or of a folder of shards."""
    return records(path, options.split)


def convert(record: Record, options: R1VOptions) -> Iterable[Row]:
    """One row; its answer is the content of the tag."""
    data = record.data
    problem = need(data, "problem", str, "a text")
    solution = need(data, "solution", str, "a text with <answer>…</answer>")
    match = _ANSWER.fullmatch(solution)
    if not match or not match.group(1).strip():
        raise Rejected(f"field 'solution': expected <answer>…</answer>, got {show(solution)}")
    images = media_list(data.get("image"), "image", options.media or record.file.parent)
    turns = front_placeholders([("user", problem)], images, [])
    gold = match.group(1).strip()
    if options.task == "counting" and gold.lstrip("-").isdigit() and gold.isascii():
        answer: dict[str, Any] = {"value": int(gold)}
    else:
        answer = typed_answer(options.task, gold, "solution")
    return [
        {"id": own_id(record, "id"), "task": options.task, "answer": answer}
        | dialogue(turns, images, [], "problem")
        | {"source": source(options, record.file.parent.name or "R1-V", "unknown")}
    ]


def looks_like(path: Path, first: Any) -> bool:
    """True for records with an image, a problem, and a solution in the tag."""
    return (
        isinstance(first, dict)
        and {"image", "problem", "solution"} <= set(first)
        and _ANSWER.fullmatch(str(first["solution"])) is not None
    )


FORMATS = (
    Format("r1v", "R1-V: image, problem, <answer>solution</answer>", read, convert, looks_like, R1VOptions),
)

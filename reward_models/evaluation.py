"""Measuring any loaded reward model on preference rows, also with images that belong to other rows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import RowError
from core.rows import Row
from reward_models.measures import ScoredPair, groups_of
from reward_models.questions import Question, ResponseError
from reward_models.scoring import Scorer

BATCH = 64
"""Rows that are asked about at a time."""


def score_pairs(scorer: Scorer, rows: Sequence[Row]) -> list[ScoredPair]:
    """Both responses of every row; lengths are in characters. RowError for a response that the model's template cannot hold, or of
    several turns."""
    pairs = []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        texts = [_text(row, field) for row in some for field in ("chosen", "rejected")]
        questions = [Question(some[i // 2], text) for i, text in enumerate(texts)]
        verdicts = scorer.judge(questions)
        for i, row in enumerate(some):
            chosen, rejected = texts[2 * i], texts[2 * i + 1]
            first = _score(row, "chosen", verdicts[2 * i])
            second = _score(row, "rejected", verdicts[2 * i + 1])
            pairs.append(ScoredPair(row["id"], first, second, len(chosen), len(rejected), groups_of(row)))
    return pairs


def with_other_images(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """The rows, each with the images of another one that has as many; rows about the same images keep sharing them.

    A reward model that looks at its images is no better than chance on what only they tell, one that has learnt a short cut stays as
    it was. Rows without images, or the only ones with so many, are left out.
    """
    different: dict[int, dict[str, list[Any]]] = {}
    for row in rows:
        if row["images"]:
            different.setdefault(len(row["images"]), {})[repr(row["images"])] = row["images"]
    other: dict[str, list[Any]] = {}
    for images in different.values():
        order = random.Random(seed).sample(list(images), len(images))
        if len(order) > 1:
            other |= {
                one: images[next_one] for one, next_one in zip(order, order[1:] + order[:1], strict=True)
            }
    return [row | {"images": other[key]} for row in rows if (key := repr(row["images"])) in other]


def table(found: Mapping[str, Any]) -> str:
    """`measures` as lines of text: accuracy with its 95 % interval, by group, and the length bias."""
    lines = [_line("all", found)]
    for name in ("source", "task", "kind"):
        if len(groups := found[f"by_{name}"]) > 1:
            lines += [_line(f"{name} {value}", one) for value, one in groups.items()]
    lines += [
        _line(name.replace("_", " "), one) for name, one in found["length"].items() if isinstance(one, dict)
    ]
    lines.append(f"calibration error {found['calibration_error']:.3f}")
    return "\n".join(lines)


def _line(name: str, one: Mapping[str, Any]) -> str:
    return f"{name:32} {one['pairs']:6} pairs  accuracy {one['accuracy']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _text(row: Row, field: str) -> str:
    if not isinstance(row[field], str):
        raise RowError(f"row {row['id']!r}: field '{field}': expected a text, got {len(row[field])} turns")
    return row[field]


def _score(row: Row, field: str, verdict: float | ResponseError) -> float:
    if isinstance(verdict, ResponseError):
        raise RowError(f"row {row['id']!r}: field '{field}': {verdict}")
    return verdict

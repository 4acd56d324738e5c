"""Detection metrics over a set of images: AP at one IoU threshold and COCO mAP, both by pycocotools.

Metrics, not rewards: they are only meaningful over many images. Boxes are (x1, y1, x2, y2), of one class.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from rewards.geometry.overlap import Box, is_box


def coco_metrics(
    predicted: Sequence[Sequence[Box]],
    truths: Sequence[Sequence[Box]],
    scores: Sequence[Sequence[float]] | None = None,
) -> dict[str, float]:
    """COCO's AP over IoU 0.50:0.95 (`mAP`), `AP50`, `AP75` and average recall at 100 boxes (`AR100`), each in [0, 1].

    `predicted` and `truths` hold one list of boxes per image. Without `scores`, boxes are ranked in the order the model gave
    them (first = most certain). Invalid predicted boxes count as false positives. Without any true box every value is 0.
    ValueError if the lists differ in length.
    """
    if len(predicted) != len(truths) or (scores is not None and len(scores) != len(predicted)):
        raise ValueError(
            f"expected one list of boxes per image, got {len(predicted)} predicted and {len(truths)} true"
        )
    names = ("mAP", "AP50", "AP75", "AR100")
    if not any(truths):
        return dict.fromkeys(names, 0.0)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {"id": i, "image_id": image, "category_id": 1, "bbox": _xywh(box), "area": (box[2] - box[0]) * (box[3] - box[1]), "iscrowd": 0}
        for i, (image, box) in enumerate(((image, box) for image, boxes in enumerate(truths) for box in boxes), start=1)
    ]  # fmt: skip
    detections = [
        {"image_id": image, "category_id": 1, "bbox": _xywh(box), "score": _score(scores, image, rank)}
        for image, boxes in enumerate(predicted)
        for rank, box in enumerate(boxes)
    ]
    if not detections:
        return dict.fromkeys(names, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(truths))],
            "categories": [{"id": 1}],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats: Any = evaluation.stats
    return {name: max(0.0, float(stats[i])) for name, i in zip(names, (0, 1, 2, 8), strict=True)}


def _xywh(box: Box) -> list[float]:
    # Degenerate and inverted boxes become empty boxes far outside the image, which match nothing.
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]] if is_box(box) else [-1e6, -1e6, 0.0, 0.0]


def _score(scores: Sequence[Sequence[float]] | None, image: int, rank: int) -> float:
    return float(scores[image][rank]) if scores is not None else 1.0 / (1.0 + rank)

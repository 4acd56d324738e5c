"""Detection and retrieval metrics over the images of a data set: pycocotools' AP, trec_eval's recall@K and NDCG@K.

Metrics, not rewards: they are only meaningful over many images. A question is a pair of image and category, and only what was
asked counts, for every contestant alike (as in LVIS and Open Images): boxes of other categories are left out and counted. Where
every category is asked of every image, this is COCO's own evaluation.

| metric | meaning | source |
|---|---|---|
| mAP | AP over IoU 0.50:0.95, mean over categories | Lin et al., arXiv 1405.0312; `pycocotools.cocoeval` |
| recall@K | share of a question's true boxes among its K best-scored boxes | `pytrec_eval`, recall.K |
| NDCG@K | their discounted gain, over that of the ideal ranking | Järvelin and Kekäläinen, TOIS 20 (2002); ndcg_cut.K |

A box is relevant if COCO's matching at IoU 0.5 assigns it to a true box, each true box once; what lies in a crowd region is
neither right nor wrong. Questions without a true box have no recall: they enter mAP alone.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.statistics import estimate_mean
from rewards.geometry.overlap import Box, is_box

CUTS = (5, 10, 20)
MATCHED = 0.5  # IoU from which on a box counts as found in recall@K and NDCG@K
MAX_BOXES = 100  # of one question that count, the best-scored ones, as in COCO
Question = tuple[str, str]
"""Image and category, both as text."""
ScoredBox = tuple[Box, float]
"""(x1, y1, x2, y2) in pixels of the original image, and its score: higher is more certain."""


@dataclass(frozen=True)
class Truth:
    """The true boxes of a data set, in pixels of the original images.

    boxes: of every question that is asked, none where nothing of the category is there. crowds: regions with many objects.
    images: where the image of each name is. category_ids: the annotations' own ids of the categories, as text.
    """

    boxes: dict[Question, list[Box]] = field(default_factory=dict)
    crowds: dict[Question, list[Box]] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    category_ids: dict[str, str] = field(default_factory=dict)

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(category for _, category in self.boxes))


def detection_metrics(truth: Truth, found: Mapping[Question, Sequence[ScoredBox]]) -> dict[str, Any]:
    """`{"images", "questions", "boxes", "found", "not_asked", "mAP", "AP50", "AP75", "AR100", "recall": {K: …}, "ndcg": {K: …}}`.

    found: the boxes of each question. Of equal scores the first is ranked first. Invalid boxes count as wrong ones.
    Metrics lie in [0, 1], None if no question has a true box; recall and ndcg are `Estimate.as_json` over questions with one.
    """
    asked = {question: boxes for question, boxes in found.items() if question in truth.boxes}
    counts = {
        "images": len({image for image, _ in truth.boxes}),
        "questions": len(truth.boxes),
        "boxes": sum(map(len, truth.boxes.values())),
        "found": sum(map(len, asked.values())),
        "not_asked": sum(len(boxes) for question, boxes in found.items() if question not in truth.boxes),
    }
    if not counts["boxes"]:
        nothing = estimate_mean([]).as_json()
        by_cut = {str(k): nothing for k in CUTS}
        return {**counts, **dict.fromkeys(("mAP", "AP50", "AP75", "AR100")), "recall": by_cut, "ndcg": by_cut}
    evaluation = _coco_evaluation(truth, asked)
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # (IoU, recall, category, …)
    return {
        **counts,
        "mAP": _mean_known(precision),
        "AP50": _mean_known(precision[0]),
        "AP75": _mean_known(precision[5]),
        "AR100": _mean_known(recall),
        **_retrieval(image for image in evaluation.evalImgs if image is not None),
    }


def _mean_known(values: Any) -> float:
    """pycocotools marks what no true box says anything about by -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else 0.0


def _coco_evaluation(truth: Truth, found: Mapping[Question, Sequence[ScoredBox]]) -> Any:
    """pycocotools' evaluation, accumulated, over all sizes of objects."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = {name: i for i, name in enumerate(dict.fromkeys(image for image, _ in truth.boxes), 1)}
    categories = {name: i for i, name in enumerate(truth.categories, 1)}
    shared = {
        "info": {},
        "images": [{"id": i} for i in images.values()],
        "categories": [{"id": i} for i in categories.values()],
    }

    def side(boxes: Iterable[tuple[Question, Box, dict[str, Any]]]) -> Any:
        annotations = []
        for number, ((image, category), box, more) in enumerate(boxes, 1):
            xywh = _xywh(box)
            place = {"id": number, "image_id": images[image], "category_id": categories[category]}
            annotations.append({**place, "bbox": xywh, "area": xywh[2] * xywh[3], "iscrowd": 0, **more})
        coco = COCO()
        coco.dataset = {**shared, "annotations": annotations}
        coco.createIndex()
        return coco

    true: list[tuple[Question, Box, dict[str, Any]]] = [
        (question, box, {}) for question, boxes in truth.boxes.items() for box in boxes
    ]
    crowds = [(question, box, {"iscrowd": 1}) for question, boxes in truth.crowds.items() for box in boxes]
    scored = [(question, box, {"score": score}) for question, boxes in found.items() for box, score in boxes]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(side([*true, *crowds]), side(scored), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MAX_BOXES]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _retrieval(images: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`{"recall": {K: …}, "ndcg": {K: …}}` from pycocotools' matches of each question at IoU 0.5, its first threshold."""
    import pytrec_eval

    relevant: dict[str, dict[str, int]] = {}
    ranked: dict[str, dict[str, float]] = {}
    for number, image in enumerate(images):
        true = [key for key, ignored in zip(image["gtIds"], image["gtIgnore"], strict=True) if not ignored]
        if not true:
            continue
        matches, ignored = image["dtMatches"][0], image["dtIgnore"][0]
        names = [  # what was found, best first: the true box that it matches, or its own name
            f"true {int(match)}" if match else f"other {key}"
            for key, match, ignore in zip(image["dtIds"], matches, ignored, strict=True)
            if not ignore
        ]
        relevant[str(number)] = {f"true {key}": 1 for key in true}
        ranked[str(number)] = {name: float(len(names) - rank) for rank, name in enumerate(names)}
    cuts = ",".join(map(str, CUTS))
    evaluator = pytrec_eval.RelevanceEvaluator(relevant, {f"recall.{cuts}", f"ndcg_cut.{cuts}"})
    measured = evaluator.evaluate({key: names for key, names in ranked.items() if names})
    none: dict[str, float] = {}  # trec_eval leaves out questions for which nothing was found

    def over_questions(name: str) -> dict[str, Any]:
        return {
            str(k): estimate_mean(
                measured.get(key, none).get(f"{name}_{k}", 0.0) for key in relevant
            ).as_json()
            for k in CUTS
        }

    return {"recall": over_questions("recall"), "ndcg": over_questions("ndcg_cut")}


def _xywh(box: Box) -> list[float]:
    # Degenerate and inverted boxes become empty boxes far outside the image, which match nothing.
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]] if is_box(box) else [-1e6, -1e6, 0.0, 0.0]

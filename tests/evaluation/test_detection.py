"""Detection and retrieval metrics against their definitions and against pycocotools on the files themselves."""

from __future__ import annotations

import contextlib
import io
import json
import math
import random

import numpy as np
import pytest

from data_recipes.config import Source
from evaluation.data_sets import read_data_set
from evaluation.detection import Truth, detection_metrics
from evaluation.detectors import read_results
from rewards.geometry.overlap import iou


def truth_of(images: list[list[tuple]], category: str = "cat") -> Truth:
    return Truth({(str(i), category): boxes for i, boxes in enumerate(images)})


def found_of(
    images: list[list[tuple]], scores: list[list[float]] | None = None, category: str = "cat"
) -> dict:
    return {
        (str(i), category): [(box, scores[i][j] if scores else -float(j)) for j, box in enumerate(boxes)]
        for i, boxes in enumerate(images)
    }


TWO = [[(0.0, 0.0, 100.0, 100.0), (200.0, 200.0, 300.0, 300.0)], [(5.0, 5.0, 50.0, 60.0)]]


def test_perfect_shifted_missing_and_broken_boxes():
    perfect = detection_metrics(truth_of(TWO), found_of(TWO))
    assert [perfect[name] for name in ("mAP", "AP50", "AP75", "AR100")] == pytest.approx([1.0] * 4)
    assert perfect["recall"]["5"]["mean"] == perfect["ndcg"]["20"]["mean"] == 1.0
    shifted = [[(x1 + 10, y1, x2 + 10, y2) for x1, y1, x2, y2 in boxes] for boxes in TWO]
    metrics = detection_metrics(truth_of(TWO), found_of(shifted))
    assert metrics["AP50"] == pytest.approx(1) and 0 < metrics["mAP"] < metrics["AP75"] + 0.5 < 1.5
    for nothing in (found_of([[], []]), {}, found_of([[(100.0, 100.0, 0.0, 0.0)], []])):
        metrics = detection_metrics(truth_of(TWO), nothing)
        assert (metrics["mAP"], metrics["recall"]["5"]["mean"], metrics["ndcg"]["5"]["mean"]) == (0, 0, 0)


def test_without_any_true_box_there_is_no_metric():
    metrics = detection_metrics(truth_of([[], []]), found_of([[(0.0, 0.0, 9.0, 9.0)], []]))
    assert metrics["mAP"] is None and metrics["recall"]["5"]["n"] == 0 and metrics["found"] == 1


def test_only_what_was_asked_for_counts():
    wrong = {("0", "dog"): [((0.0, 0.0, 9.0, 9.0), 1.0)], ("9", "cat"): [((0.0, 0.0, 9.0, 9.0), 1.0)]}
    metrics = detection_metrics(truth_of(TWO), found_of(TWO) | wrong)
    assert metrics["mAP"] == pytest.approx(1) and metrics["not_asked"] == 2


def scene(seed: int) -> tuple[list, list, list]:
    """(true boxes, found boxes, scores) of 30 images."""
    rng = random.Random(seed)
    truths, found, scores = [], [], []
    for _ in range(30):
        corners = [(rng.uniform(0, 400), rng.uniform(0, 400)) for _ in range(rng.randrange(1, 12))]
        truths.append([(x, y, x + 60.0, y + 60.0) for x, y in corners])
        near = [tuple(v + rng.uniform(-14, 14) for v in box) for box in truths[-1] if rng.random() < 0.8]
        found.append(near + [(450.0, 450.0, 470.0, 480.0)] * rng.randrange(8))
        scores.append([rng.random() for _ in found[-1]])
    return truths, found, scores


def matched(truths: list, found: list, scores: list) -> list[list[bool]]:
    """Whether each box is right, best score first, matched to the best true box left at IoU 0.5."""
    result = []
    for true, boxes, some in zip(truths, found, scores, strict=True):
        left, hits = list(true), []
        for _, box in sorted(zip(some, boxes, strict=True), reverse=True):
            best = max(left, key=lambda other: iou(box, other), default=None)
            hits.append(best is not None and iou(box, best) >= 0.5)
            if hits[-1]:
                left.remove(best)
        result.append(hits)
    return result


@pytest.mark.parametrize("seed", range(3))
def test_recall_and_ndcg_equal_their_definitions(seed):
    truths, found, scores = scene(seed)
    metrics = detection_metrics(truth_of(truths), found_of(found, scores))
    hits = matched(truths, found, scores)
    for k in (5, 10, 20):
        recall = [sum(some[:k]) / len(true) for some, true in zip(hits, truths, strict=True)]
        gains = [sum(hit / math.log2(i + 2) for i, hit in enumerate(some[:k])) for some in hits]
        ideal = [sum(1 / math.log2(i + 2) for i in range(min(k, len(true)))) for true in truths]
        assert metrics["recall"][str(k)]["mean"] == pytest.approx(np.mean(recall))
        assert metrics["ndcg"][str(k)]["mean"] == pytest.approx(np.mean(np.divide(gains, ideal)))
        assert metrics["ndcg"][str(k)]["n"] == 30


def test_ap50_equals_its_definition():
    """Precision at 101 recall levels of detections sorted by score."""
    truths, found, scores = scene(0)
    ranked = sorted(
        (
            (score, hit)
            for some, hits in zip(scores, matched(truths, found, scores), strict=True)
            for score, hit in zip(sorted(some, reverse=True), hits, strict=True)
        ),
        reverse=True,
    )
    right = np.cumsum([hit for _, hit in ranked])
    precision = np.maximum.accumulate((right / np.arange(1, len(ranked) + 1))[::-1])[::-1]
    recall = right / sum(map(len, truths))
    levels = [int(np.searchsorted(recall, level)) for level in np.linspace(0, 1, 101)]
    expected = np.mean([precision[at] if at < len(recall) else 0.0 for at in levels])
    assert detection_metrics(truth_of(truths), found_of(found, scores))["AP50"] == pytest.approx(expected)


def test_crowd_regions_are_neither_right_nor_wrong():
    truth = Truth({("0", "cat"): [TWO[0][0]]}, {("0", "cat"): [(400.0, 400.0, 600.0, 600.0)]})
    inside = [((410.0, 410.0, 500.0, 500.0), 3.0), (TWO[0][0], 2.0), ((700.0, 0.0, 800.0, 50.0), 1.0)]
    metrics = detection_metrics(truth, {("0", "cat"): inside})
    assert metrics["mAP"] == pytest.approx(1) and metrics["ndcg"]["5"]["mean"] == 1.0


# ------------------------------------------------------------------------------------------------------- COCO's files


@pytest.fixture(scope="module")
def coco_files(tmp_path_factory):
    """(instances_val2017.json, results.json) of 40 images, some empty, of 3 categories and crowd regions."""
    rng = random.Random(7)
    folder = tmp_path_factory.mktemp("coco") / "annotations"
    folder.mkdir()
    images = [{"id": 100 + i, "file_name": f"{i:012}.jpg", "width": 640, "height": 480} for i in range(40)]
    annotations, results = [], []
    for image in images[:36]:
        for _ in range(rng.randrange(8)):
            x, y, w, h = (rng.uniform(0, 400), rng.uniform(0, 300), rng.uniform(5, 200), rng.uniform(5, 150))
            category, crowd = rng.choice([1, 3, 90]), int(rng.random() < 0.1)
            place = {"image_id": image["id"], "category_id": category, "bbox": [x, y, w, h]}
            annotations.append({"id": len(annotations) + 1, **place, "area": w * h / 2, "iscrowd": crowd})
            for _ in range(rng.randrange(3)):
                near = [x + rng.uniform(-9, 9), y + rng.uniform(-9, 9), w * rng.uniform(0.8, 1.2), h]
                results.append({**place, "bbox": near, "score": rng.random()})
    for _ in range(60):  # of categories that may not be in the image
        place = {"image_id": rng.choice(images)["id"], "category_id": rng.choice([1, 3, 90])}
        results.append({**place, "bbox": [5, 5, 50, 60], "score": rng.random()})
    names = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "toothbrush"}]
    true = folder / "instances_val2017.json"
    true.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    (folder / "results.json").write_text(json.dumps(results))
    return true, folder / "results.json"


def test_results_of_a_detector_have_the_map_of_pycocotools(coco_files):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    true, results = coco_files
    data_set = read_data_set(
        Source(name="coco", format="coco", path=true), keep_rows=False, need_images=False
    )
    metrics = detection_metrics(data_set.truth, read_results(results, data_set.truth))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(true))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = [metrics[name] for name in ("mAP", "AP50", "AP75", "AR100")]
    assert ours == pytest.approx([evaluation.stats[i] for i in (0, 1, 2, 8)], abs=1e-12)
    assert 0.1 < metrics["mAP"] < 0.9 and metrics["questions"] == 40 * 3 and metrics["not_asked"] == 0


def test_what_was_not_asked_for_is_counted(coco_files):
    true, results = coco_files
    source = Source(name="coco", format="coco", path=true, options={"absent": False}, limit=10)
    data_set = read_data_set(source, keep_rows=True, need_images=False)
    found = read_results(results, data_set.truth)
    metrics = detection_metrics(data_set.truth, found)
    assert metrics["found"] + metrics["not_asked"] == len(json.loads(results.read_text()))
    assert metrics["not_asked"] > 0 and metrics["images"] <= 10
    assert all(row["id"].startswith("coco/") for row in data_set.rows)

"""Geometry against the references of the field: torchvision, scipy, pycocotools."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou, generalized_box_iou

from rewards.geometry.overlap import (
    best_matching,
    giou,
    iou,
    iou_matrix,
    is_box,
    is_span,
    matched_iou,
    merge_spans,
    span_iou,
)
from tests.rewards.strategies import boxes, fuzz, spans


@given(a=boxes(), b=boxes())
@fuzz
def test_giou_and_iou_equal_torchvisions(a: Any, b: Any) -> None:
    first, second = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    assert giou(a, b) == pytest.approx(generalized_box_iou(first, second).item(), abs=1e-9)
    assert iou(a, b) == pytest.approx(box_iou(first, second).item(), abs=1e-9)


def test_giou_equals_torchvisions_on_ten_thousand_random_boxes() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (2, 100, 2, 2))
    sets = [np.concatenate([c.min(1), c.max(1)], axis=1) for c in corners]
    reference = generalized_box_iou(torch.tensor(sets[0]), torch.tensor(sets[1])).numpy()
    ours = np.array([[giou(tuple(a), tuple(b)) for b in sets[1]] for a in sets[0]])
    np.testing.assert_allclose(ours, reference, atol=1e-9)
    assert np.all((ours > -1) & (ours <= 1))


@given(a=st.lists(boxes(), max_size=12), b=st.lists(boxes(), max_size=12))
@fuzz
def test_iou_matrix_equals_pycocotools_at_any_size(a: list[Any], b: list[Any]) -> None:
    ours = iou_matrix(a, b)
    assert ours.shape == (len(a), len(b))
    if a and b:
        xywh = [[[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes_] for boxes_ in (a, b)]
        np.testing.assert_allclose(ours, coco_mask.iou(xywh[0], xywh[1], [0] * len(b)), atol=1e-9)


def test_iou_matrix_of_many_boxes_equals_that_of_few() -> None:
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 100, (30, 2))
    many = [tuple(row) for row in np.concatenate([xy, xy + rng.uniform(1, 50, (30, 2))], axis=1).tolist()]
    whole = iou_matrix(many, many)  # numpy
    parts = np.array([[iou(a, b) for b in many] for a in many])
    np.testing.assert_allclose(whole, parts, atol=1e-12)
    assert np.all((whole == 1.0) == np.eye(30, dtype=bool))


@given(data=st.data(), rows=st.integers(1, 5), columns=st.integers(1, 5))
@fuzz
def test_matching_is_optimal(data: st.DataObject, rows: int, columns: int) -> None:
    values = data.draw(st.lists(st.floats(0, 1), min_size=rows * columns, max_size=rows * columns))
    scores = np.array(values).reshape(rows, columns)
    pairs = best_matching(scores)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs) == min(rows, columns)
    total = sum(scores[i, j] for i, j in pairs)
    assert total == pytest.approx(scores[linear_sum_assignment(scores, maximize=True)].sum())
    wide = scores if rows <= columns else scores.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(order))
        for order in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert total == pytest.approx(best)


@given(a=st.lists(boxes(), max_size=9), b=st.lists(boxes(), max_size=9))
@fuzz
def test_matched_iou_is_the_optimum(a: list[Any], b: list[Any]) -> None:
    scores = iou_matrix(a, b)
    expected = scores[linear_sum_assignment(scores, maximize=True)].sum() if a and b else 0.0
    assert matched_iou(a, b) == pytest.approx(expected, abs=1e-9)
    assert matched_iou(a, a) == pytest.approx(len(a))


@pytest.mark.parametrize(
    "box",
    [(1, 1, 1, 2), (2, 1, 1, 2), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1), (0, 0, 1e7, 1), (-1e9, 0, 1, 1), (0, 0, 1e-200, 1e-200)],
)  # fmt: skip
def test_what_is_no_box(box: Any) -> None:
    assert not is_box(box)


def test_what_is_no_span() -> None:
    assert not any(
        is_span(span) for span in [(2, 1), (1, 1), (-1, 1), (float("nan"), 1), (0, float("inf")), (0, 1e7)]
    )
    assert is_span((0, 0.5))


@given(a=st.lists(spans(), min_size=1, max_size=5), b=st.lists(spans(), min_size=1, max_size=5))
@fuzz
def test_span_iou_equals_counting_hundredths_of_a_second(a: list[Any], b: list[Any]) -> None:
    def ticks(some: list[Any]) -> np.ndarray:
        line = np.zeros(61_000, dtype=bool)
        for start, end in some:
            line[round(start * 100) : round(end * 100)] = True
        return line

    one, two = ticks(a), ticks(b)
    assert span_iou(a, b) == pytest.approx((one & two).sum() / (one | two).sum(), abs=1e-6)
    assert span_iou(a, b) == pytest.approx(span_iou(b, a), abs=1e-12)
    assert span_iou(a, list(reversed(a)) + a) == 1.0


def test_merged_spans_are_sorted_and_disjoint() -> None:
    assert merge_spans([(5, 6), (1, 3), (2, 4), (4, 4.5)]) == [(1, 4.5), (5, 6)]

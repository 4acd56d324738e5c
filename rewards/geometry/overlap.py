"""Geometry of boxes (x1, y1, x2, y2), spans (start, end) and matchings. Arguments must be valid.

Conventions: continuous coordinates (a box [0, 0, 10, 10] has area 100, not 121), x2 > x1, y2 > y1, end > start.
Agrees with torchvision's `box_iou` and `generalized_box_iou`, and with pycocotools' and scipy's results (tested).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rewards.reading.gold import MAX_COORDINATE

Box = tuple[float, float, float, float]
Span = tuple[float, float]
Point = tuple[float, float]


def is_box(box: Sequence[float]) -> bool:
    """Finite coordinates within MAX_COORDINATE, in order, with an area. (NaN fails every comparison.)"""
    x1, y1, x2, y2 = box
    return (
        -MAX_COORDINATE <= x1 < x2 <= MAX_COORDINATE
        and -MAX_COORDINATE <= y1 < y2 <= MAX_COORDINATE
        and (x2 - x1) * (y2 - y1) > 0.0
    )


def is_span(span: Sequence[float]) -> bool:
    """Finite, not negative, end after start."""
    start, end = span
    return 0.0 <= start < end <= MAX_COORDINATE


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two valid boxes, in [0, 1]; 1 only for equal boxes."""
    if a == b:
        return 1.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    # Rounding can give 1.0 for boxes that differ by less than the precision of a float.
    return min(inter / union, _ALMOST_ONE) if union > 0.0 else 0.0


_ALMOST_ONE = math.nextafter(1.0, 0.0)


def giou(a: Box, b: Box) -> float:
    """Generalised IoU (Rezatofighi et al. 2019): IoU - (hull - union) / hull, in (-1, 1]; 1 only for equal boxes."""
    if a == b:
        return 1.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = width * height if width > 0.0 and height > 0.0 else 0.0
    union = area - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    if union <= 0.0 or hull <= 0.0:
        return -_ALMOST_ONE
    return max(-_ALMOST_ONE, min(inter / union - (hull - union) / hull, _ALMOST_ONE))


def iou_matrix(a: Sequence[Box], b: Sequence[Box]) -> np.ndarray:
    """(len(a), len(b)) IoUs of valid boxes."""
    if len(a) * len(b) <= 64:  # for few boxes numpy's overhead exceeds the arithmetic
        return np.array([[iou(p, q) for q in b] for p in a], dtype=float).reshape(len(a), len(b))
    p, q = np.asarray(a, dtype=float)[:, None], np.asarray(b, dtype=float)[None]
    sides = np.clip(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0.0, None)
    inter = sides[..., 0] * sides[..., 1]
    area_p = (p[..., 2] - p[..., 0]) * (p[..., 3] - p[..., 1])
    area_q = (q[..., 2] - q[..., 0]) * (q[..., 3] - q[..., 1])
    ious = np.minimum(inter / (area_p + area_q - inter), _ALMOST_ONE)
    return np.where((p == q).all(-1), 1.0, ious)


def best_matching(scores: np.ndarray) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) that maximise the sum of scores (Hungarian algorithm, scipy)."""
    if 0 in scores.shape:
        return []
    if min(scores.shape) == 1:
        row, column = divmod(int(scores.argmax()), scores.shape[1])
        return [(row, column)]
    from scipy.optimize import linear_sum_assignment  # takes 0.2 s to import

    rows, columns = linear_sum_assignment(scores, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def matched_iou(a: Sequence[Box], b: Sequence[Box]) -> float:
    """Sum of IoUs under the optimal one-to-one matching of two sets of valid boxes."""
    if not a or not b:
        return 0.0
    if len(a) > len(b):
        a, b = b, a
    if len(a) * len(b) <= 64:
        # The usual case: if all boxes have different best partners, no matching is better.
        total, taken = 0.0, set()
        for box in a:
            row = [iou(box, other) for other in b]
            best = max(row)
            if best > 0.0:
                total += best
                taken.add(row.index(best))
            else:
                taken.add(-1 - len(taken))  # overlaps nothing
        if len(taken) == len(a):
            return total
    scores = iou_matrix(a, b)
    return sum(float(scores[i, j]) for i, j in best_matching(scores))


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """The union of spans as sorted, disjoint spans (touching ones joined)."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def span_iou(a: Sequence[Span], b: Sequence[Span]) -> float:
    """Length of the intersection over length of the union of two unions of spans, in [0, 1]; 1 only if equal."""
    if len(a) == 1 == len(b):
        (s, e), (u, v) = a[0], b[0]
        if s == u and e == v:
            return 1.0
        inter = min(e, v) - max(s, u)
        return min(inter / ((e - s) + (v - u) - inter), _ALMOST_ONE) if inter > 0.0 else 0.0
    p, q = merge_spans(a), merge_spans(b)
    if p == q:
        return 1.0 if p else 0.0
    inter, i, j = 0.0, 0, 0
    while i < len(p) and j < len(q):
        inter += max(0.0, min(p[i][1], q[j][1]) - max(p[i][0], q[j][0]))
        if p[i][1] < q[j][1]:
            i += 1
        else:
            j += 1
    union = sum(end - start for start, end in p) + sum(end - start for start, end in q) - inter
    return min(inter / union, _ALMOST_ONE) if union > 0.0 else 0.0

"""Gradients of tasks as vectors: inner products, cosines, and the projection of those that conflict.

Everything follows from the Gram matrix G_ab = g_a . g_b of the T gradients, T x T numbers: norms, cosines, and PCGrad, whose
result is a sum of the original gradients with coefficients that depend on G alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from core.metrics import Metric, same


def gram(gradients: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """(T, T) float64 inner products. gradients: by task, one tensor per parameter, in one order; None is zero."""
    count = len(gradients)
    result = torch.zeros(count, count, dtype=torch.float64)
    for a in range(count):
        for b in range(a, count):
            products = [
                torch.dot(x.flatten().float(), y.flatten().float()).double()
                for x, y in zip(gradients[a], gradients[b], strict=True)
                if x is not None and y is not None
            ]
            result[a, b] = result[b, a] = float(sum(products)) if products else 0.0
    return result


def pcgrad(gram_matrix: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """(T,) coefficients c of PCGrad: the update is sum_a c_a g_a (T. Yu et al., arXiv 2001.06782, algorithm 1).

    For each task i, starting from g_i, for the other tasks j in the order `orders[i]`:

        if g . g_j < 0:   g <- g - (g . g_j) / |g_j|^2  g_j

    with the original g_j; the results of all i are added up. Each is a combination of the original gradients, so its
    coefficients are followed instead of the vectors. Without a conflict all c are exactly 1.
    """
    count = len(gram_matrix)
    combination = torch.eye(count, dtype=torch.float64)
    for i, order in enumerate(orders):
        for j in order:
            if j == i:
                continue
            product = float(combination[i] @ gram_matrix[:, j])
            if product < 0:  # then |g_j| > 0
                combination[i, j] -= product / float(gram_matrix[j, j])
    return combination.sum(0)


def cosine_metrics(tasks: Sequence[str], grams: Mapping[str, Tensor]) -> dict[str, Metric]:
    """`interference/cosine/<task>~<task>/<block>` of each pair, and `interference/norm/<task>/<block>`.

    grams: by block. A pair of which one has no gradient there has no cosine.
    """
    metrics: dict[str, Metric] = {}
    for block, matrix in grams.items():
        norms = matrix.diagonal().clamp(min=0).sqrt().tolist()
        for a, task in enumerate(tasks):
            metrics[f"interference/norm/{task}/{block}"] = same(norms[a])
            for b in range(a + 1, len(tasks)):
                scale = norms[a] * norms[b]
                if scale > 0 and math.isfinite(scale):
                    name = f"interference/cosine/{task}~{tasks[b]}/{block}"
                    metrics[name] = same(float(matrix[a, b]) / scale)
    return metrics

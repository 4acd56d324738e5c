"""Cosines and PCGrad from inner products equal those of the vectors themselves."""

from __future__ import annotations

import math

import pytest
import torch

from core.metrics import values
from rl.interference.geometry import cosine_metrics, gram, pcgrad
from rl.interference.treatment import orders


def combined(vectors, coefficients):
    return sum(float(c) * v for c, v in zip(coefficients, vectors, strict=True))


def projected(vectors, orders):
    """Algorithm 1 of PCGrad on the vectors themselves."""
    results = []
    for i, order in enumerate(orders):
        g = vectors[i].clone()
        for j in order:
            if j != i and torch.dot(g, vectors[j]) < 0:
                g = g - torch.dot(g, vectors[j]) / vectors[j].square().sum() * vectors[j]
        results.append(g)
    return sum(results)


def test_two_gradients_in_conflict_by_hand():
    """g1 = (1, 0) and g2 = (-1, 1): g1 becomes (1/2, 1/2), g2 (0, 1)."""
    vectors = [torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])]
    matrix = gram([[v] for v in vectors])
    assert matrix.tolist() == [[1, -1], [-1, 2]]
    coefficients = pcgrad(matrix, [[1], [0]])
    assert coefficients.tolist() == pytest.approx([2.0, 1.5])
    assert combined(vectors, coefficients).tolist() == pytest.approx([0.5, 1.5])


def test_gradients_without_a_conflict_are_added_up_as_they_are():
    matrix = gram([[torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 2.0])], [torch.tensor([0.0, 3.0])]])
    assert pcgrad(matrix, orders(3, 0)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_many_gradients_are_projected_as_the_vectors_are(seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(9, generator=generator, dtype=torch.float64).float() for _ in range(6)]
    drawn = orders(6, seed)
    assert all(sorted(order) == list(range(6)) for order in drawn)
    got = combined(vectors, pcgrad(gram([[v[:4], v[4:]] for v in vectors]), drawn))
    torch.testing.assert_close(got, projected(vectors, drawn), rtol=1e-5, atol=1e-5)


def test_a_task_without_a_gradient_changes_nothing():
    matrix = gram([[torch.tensor([1.0, -1.0]), None], [None, None], [None, torch.tensor([2.0])]])
    assert matrix.tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 4]]
    assert pcgrad(matrix, orders(3, 1)).tolist() == [1, 1, 1]


def test_cosines_are_logged_by_pair_and_block_where_both_have_a_gradient():
    matrix = gram([[torch.tensor([3.0, 4.0])], [torch.tensor([4.0, -3.0])], [torch.tensor([-6.0, -8.0])]])
    silent = torch.zeros(3, 3, dtype=torch.float64)
    logged = values(cosine_metrics(["box", "chat", "math"], {"all": matrix, "vision": silent}))
    assert logged["interference/cosine/box~chat/all"] == pytest.approx(0, abs=1e-12)
    assert logged["interference/cosine/box~math/all"] == pytest.approx(-1)
    assert logged["interference/norm/math/all"] == pytest.approx(10)
    assert logged["interference/norm/math/vision"] == 0
    assert not any(name.startswith("interference/cosine") and name.endswith("/vision") for name in logged)


def test_a_gradient_that_is_not_finite_has_no_cosine_and_raises_nothing():
    matrix = gram([[torch.tensor([math.nan])], [torch.tensor([1.0])]])
    assert "interference/cosine/a~b/all" not in cosine_metrics(["a", "b"], {"all": matrix})
    assert len(pcgrad(matrix, orders(2, 0))) == 2

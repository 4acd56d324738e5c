"""Embeddings from a scripted endpoint over HTTP (see endpoints.py)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_recipes.teacher.embeddings import Embedder, embed
from data_recipes.teacher.endpoint import EndpointError
from tests.data_recipes.endpoints import error, scripted_teacher


def vectors(body: dict[str, Any], number: int) -> str:
    return json.dumps([[float(len(text)), 1.0] for text in body["input"]])


def test_each_text_is_asked_for_once_in_batches(tmp_path):
    counts: Counter[str] = Counter()
    with scripted_teacher(vectors) as teacher:
        endpoint = Embedder(base_url=teacher.url, model="e", batch=2, max_chars=10, price_prompt=1e6)
        found = embed(["a", "bbb", "a", "cc", "d" * 50], endpoint, tmp_path, counts)
        again = embed(["cc", "e"], endpoint, tmp_path, counts)
    assert found.shape == (5, 2) and np.allclose(np.linalg.norm(found, axis=1), 1)
    assert np.array_equal(found[0], found[2]) and np.array_equal(found[3], again[0])
    assert np.allclose(found[4], np.array([10, 1]) / 101**0.5)
    assert [len(body["input"]) for body in teacher.requests] == [2, 2, 1]
    assert (
        counts["embeddings/cut"] == 1 and counts["embeddings/cached"] == 1 and counts["embeddings/cost"] == 21
    )
    assert embed([], endpoint, tmp_path, counts).shape[0] == 0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("[[1.0]]", "expected 2 vectors"),
        ("[[0.0, 0.0], [1.0, 0.0]]", "finite numbers other than 0"),
        ("[[1.0], [1.0, 0.0]]", "another form"),
        ('[["x"], ["y"]]', "another form"),
        ("[null, null]", "another form"),
        (error(404, "no such model"), "no such model"),
    ],
)
def test_anything_else_than_one_vector_for_each_text_ends_the_run(tmp_path, reply, message):
    with scripted_teacher(lambda body, number: reply) as teacher:
        endpoint = Embedder(base_url=teacher.url, model="e", max_retries=0)
        with pytest.raises(EndpointError, match=message):
            embed(["a", "b"], endpoint, Path(tmp_path), Counter())

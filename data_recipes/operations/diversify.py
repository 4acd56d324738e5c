"""Questions spread out: they are clustered by their texts' embeddings, and of each cluster at most so many stay.

Embeddings come from an endpoint, or are TF-IDF vectors of the questions' words, reduced to 256 dimensions (latent semantic analysis):
those need no model, and know words but not meanings. Images are not looked at. Clusters are k-means' (scikit-learn's
MiniBatchKMeans), computed on one thread, so that the same rows give the same clusters on every machine of one kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from core.rows import Row
from data_recipes.chance import uniform
from data_recipes.operations.text_hashes import question, words
from data_recipes.records import Context, Decision, Options, SetOperation, Signature
from data_recipes.teacher.embeddings import Embedder, embed

DIMENSIONS = 256
VOCABULARY = 50_000


class Diversify(Options):
    """At most so many questions of each cluster of similar ones."""

    clusters: int = Field(ge=1)
    """Number of clusters; fewer where there are fewer different questions."""
    per_cluster: int = Field(ge=1)
    """Questions of a cluster that stay, drawn by the seed and each row's id."""
    embeddings: Embedder | None = None
    """Endpoint that embeds the questions. Not given: TF-IDF. All vectors are held in memory: 4 bytes per number."""


def sign(row: Row, options: Diversify) -> Mapping[str, Any]:
    return {"text": question(row)}


def decide(
    signatures: Callable[[], Iterator[Signature]], options: Diversify, context: Context
) -> Iterator[Decision]:
    """Of each cluster the rows with the lowest chances stay."""
    ids, texts = [], []
    for signature in signatures():
        ids.append(signature.id)
        texts.append(signature.data["text"])
    if not ids:
        return
    if options.embeddings is not None:
        vectors = embed(texts, options.embeddings, context.folder / "embeddings", context.counts)
    else:
        vectors = tf_idf(texts, context.seed)
    labels = cluster(vectors, options.clusters, context.seed)
    members: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        members.setdefault(label, []).append(place)
    context.counts["clusters"] += len(members)
    context.counts["largest_cluster"] += max(map(len, members.values()))
    for label, places in sorted(members.items()):
        order = sorted(places, key=lambda place: uniform(context.seed, ids[place]))
        for place in order[options.per_cluster :]:
            reason = f"cluster {label} has {len(places)} questions, {options.per_cluster} of them stay"
            yield Decision(ids[place], "cluster_full", reason)


def tf_idf(texts: list[str], seed: int) -> np.ndarray:
    """(N, d) vectors of length 1 (0 for a text without words), d at most DIMENSIONS; words as in `text_hashes.words`, which takes
    Chinese, Japanese and Korean character by character."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    if not any(map(words, texts)):
        return np.zeros((len(texts), 1), np.float32)
    vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True, max_features=VOCABULARY, dtype=np.float32)
    found = vectorizer.fit_transform(texts)
    most = min(found.shape) - 1
    if found.shape[1] <= DIMENSIONS or most < 1:
        return found.toarray()
    with threadpool_limits(1):
        reduced = TruncatedSVD(min(DIMENSIONS, most), random_state=seed).fit_transform(found)
    return normalize(reduced).astype(np.float32)


def cluster(vectors: np.ndarray, count: int, seed: int) -> list[int]:
    """The cluster of each vector, numbered from 0 in the order in which they first occur."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    different = len(np.unique(vectors, axis=0))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer clusters than asked for is all right
        model = MiniBatchKMeans(min(count, different), random_state=seed, n_init=3, batch_size=4096)
        found = model.fit_predict(vectors)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(label), len(numbers)) for label in found]


OPERATIONS = {"diversify": SetOperation(sign, decide, Diversify)}

"""Embeddings of texts from an OpenAI-compatible `/embeddings` endpoint, each asked for once and kept on disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import Field

from data_recipes.teacher.client import open_cache
from data_recipes.teacher.endpoint import EndpointError, Served, clean


class Embedder(Served):
    """A model that embeds texts."""

    batch: int = Field(default=64, ge=1)
    """Texts of one request."""
    max_chars: int = Field(default=8000, ge=1)
    """Of a longer text the beginning is embedded; such texts are counted."""


def embed(texts: Sequence[str], endpoint: Embedder, folder: Path, counts: Counter[str]) -> np.ndarray:
    """(N, d) float32, rows of length 1.

    counts gets `embeddings/requests`, `…/cached`, `…/cut` and `…/cost`. Raises EndpointError if the endpoint fails after all
    retries, or sends anything else than one vector of finite numbers for each text.
    """
    figures = cast("dict[str, float]", counts)
    asked = [clean(text)[: endpoint.max_chars] or " " for text in texts]
    figures["embeddings/cut"] += sum(len(text) > endpoint.max_chars for text in texts)
    cache = open_cache(folder)
    try:
        keys = {text: _key(text, endpoint) for text in asked}
        known = {text: cache.get(key, retry=True) for text, key in keys.items()}
        missing = [text for text, found in known.items() if found is None]
        figures["embeddings/cached"] += len(known) - len(missing)
        batches = [missing[i : i + endpoint.batch] for i in range(0, len(missing), endpoint.batch)]
        with _client(endpoint) as client, ThreadPoolExecutor(endpoint.concurrency) as pool:
            for batch, (vectors, tokens) in zip(
                batches, pool.map(lambda some: _request(client, some, endpoint), batches), strict=True
            ):
                figures["embeddings/requests"] += 1
                figures["embeddings/cost"] += tokens * endpoint.price_prompt / 1e6
                for text, vector in zip(batch, vectors, strict=True):
                    known[text] = vector.tobytes()
                    cache.add(keys[text], known[text], retry=True)
    finally:
        cache.close()
    found = [np.frombuffer(cast(bytes, known[text]), dtype=np.float32) for text in asked]
    if len({len(vector) for vector in found}) > 1:
        raise EndpointError(
            f"endpoint {endpoint.base_url}: expected embeddings of one dimension, got {sorted({len(v) for v in found})}; other"
            " weights under the same name need another `revision`"
        )
    return np.stack(found) if found else np.zeros((0, 1), np.float32)


def _client(endpoint: Embedder) -> Any:
    from openai import OpenAI

    return OpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key(),
        timeout=endpoint.timeout_s,
        max_retries=endpoint.max_retries,
    )


def _key(text: str, endpoint: Embedder) -> str:
    return hashlib.sha256(
        "\0".join(["embedding", endpoint.model, endpoint.revision, text]).encode()
    ).hexdigest()


def _request(client: Any, texts: list[str], endpoint: Embedder) -> tuple[np.ndarray, int]:
    """Unit vectors of the texts, and the tokens that they cost."""
    import openai

    try:
        reply = client.embeddings.create(model=endpoint.model, input=texts, encoding_format="float")
        entries = sorted(reply.data, key=lambda entry: entry.index)
        vectors = np.array([entry.embedding for entry in entries], dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    except openai.APIError as error:
        raise EndpointError(f"endpoint {endpoint.base_url}: {str(error)[:300]}") from error
    except (AttributeError, TypeError, ValueError) as error:  # a reply of another form
        raise EndpointError(
            f"endpoint {endpoint.base_url}: expected embeddings, got a reply of another form ({error})"
        ) from error
    if len(vectors) != len(texts) or not np.isfinite(lengths).all() or not lengths.all():
        raise EndpointError(
            f"endpoint {endpoint.base_url}: expected {len(texts)} vectors of finite numbers other than 0, got {len(vectors)}"
        )
    tokens = getattr(reply.usage, "prompt_tokens", 0)
    return vectors / lengths, tokens if isinstance(tokens, int) else 0

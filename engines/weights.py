"""Weights on their way to an engine: loaded, and compared with what the engine then has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from engines.engine import Engine
from engines.fingerprint import Fingerprint, check_fingerprint, weights_fingerprint


def sync_checked(engine: Engine, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
    """Load the weights into the engine (`Engine.sync`). OffPolicyError if it then holds others, bit for bit."""
    passed = FingerprintedWeights(weights)
    engine.sync(passed, version)
    check_fingerprint(engine.fingerprint(), passed.fingerprint)


class FingerprintedWeights:
    """Iterates over weights and takes their fingerprint on the way, so that they are gathered only once per sync."""

    def __init__(self, weights: Iterable[tuple[str, Tensor]]):
        self._weights = weights
        self.fingerprint: Fingerprint = {}

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, weight in self._weights:
            self.fingerprint |= weights_fingerprint([(name, weight)])
            yield name, weight

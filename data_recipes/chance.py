"""Random choices that depend on a seed and a row's id alone: not on order, workers or what else is chosen."""

from __future__ import annotations

from hashlib import blake2b


def uniform(seed: int, name: str) -> float:
    """A number in [0, 1), the same for the same seed and name everywhere."""
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)

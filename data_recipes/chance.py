"""Random numbers for rows, derived from seed and row id: independent of row order and number of workers."""

from __future__ import annotations

from hashlib import blake2b


def uniform(seed: int, name: str) -> float:
    """A number in [0, 1), uniform over names and independent between seeds; the same on every machine."""
    digest = blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)

"""Which contents of made worlds are for tests only."""

from __future__ import annotations

from hashlib import blake2b

HELD_OUT = 4  # one content in so many is test-only


def is_held_out(content: str) -> bool:
    """Whether what a row shows, in words, is test-only: one content in HELD_OUT, the same ones in every world."""
    return int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "big") % HELD_OUT == 0

"""Which contents of synthetic worlds are reserved for the test split."""

from __future__ import annotations

from hashlib import blake2b

HELD_OUT = 4  # one content in 4 is test-only


def is_held_out(content: str) -> bool:
    """True if a content (what a row shows, as text) is test-only: one in HELD_OUT, the same in every world."""
    return int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "big") % HELD_OUT == 0

"""The images whose hashes are nearest to those of another: an HNSW graph over 256-bit hashes (usearch; Malkov and Yashunin
2016, arXiv 1603.09320), which is walked in a time that hardly grows with the number of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from usearch.index import Index

from data_recipes.operations.image_hashes import BITS, WINDOWS

NEAREST = 24
"""So many images at most are near another one: an image's copies are nearer than what only looks like it."""
EXACT_BELOW = 2_000
"""Of fewer hashes all are compared."""
_PER_HASH = 16  # neighbours that are asked for, for each window's hash


class ImageIndex:
    """Hashes of images by number. Memory: about 0.2 KB a hash."""

    def __init__(self, saved: bytes | None = None) -> None:
        self._index = Index(
            ndim=BITS, metric="hamming", dtype="b1", connectivity=16, expansion_add=64, expansion_search=64
        )
        if saved is not None:
            self._index.load(saved)

    def add(self, image: int, hashes: np.ndarray, *, windows: bool) -> None:
        """windows: the image can also be found by its windows, which crops of it are alike."""
        stored = hashes if windows else hashes[:1]
        self._index.add(np.arange(len(stored)) + image * len(WINDOWS), stored, threads=1)

    def near(self, hashes: np.ndarray, bits: int) -> list[int]:
        """Numbers of the images within `bits`, nearest first, at most NEAREST.

        Whole images are compared with this image's windows, and windows that were stored with this whole image.
        """
        if not len(self._index):
            return []
        exact = len(self._index) < EXACT_BELOW
        matches: Any = self._index.search(hashes, min(_PER_HASH, len(self._index)), exact=exact, threads=1)
        images, windows = np.divmod(matches.keys.astype(np.int64), len(WINDOWS))
        whole = (windows == 0) | (np.arange(len(hashes))[:, None] == 0)
        there = np.arange(matches.keys.shape[1]) < np.asarray(matches.counts)[:, None]
        close = whole & there & (matches.distances <= bits)
        nearest: dict[int, float] = {}
        for image, distance in sorted(
            zip(images[close].tolist(), matches.distances[close].tolist()), key=lambda found: found[1]
        ):
            nearest.setdefault(image, distance)
        return list(nearest)[:NEAREST]

    def saved(self) -> bytes:
        return bytes(self._index.save() or b"")

"""The images whose hashes are nearest to those of another: an HNSW graph over 256-bit hashes (usearch; Malkov and Yashunin
2016, arXiv 1603.09320), which is walked in a time that hardly grows with the number of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from usearch.index import BatchMatches, Index

from data_recipes.operations.image_hashes import BITS, WINDOWS

NEAREST = 24
"""So many images at most are near another one: an image's copies are nearer than what only looks like it."""
EXACT_BELOW = 2_000
"""Of fewer hashes all are compared."""
_OF_WHOLE, _OF_WINDOW = 32, 16
"""Neighbours that are asked for, of the whole image's hash and of each window's."""
_WALK_WHOLE, _WALK_WINDOW = 64, 16
"""Candidates that the walk through the graph holds. Few windows match a crop, but any one of them is enough."""
_LINKS = 16
"""Of each hash in the graph. With 8 a walk is a third shorter, but finds 0.74 of what it should (0.96 with 16)."""


class ImageIndex:
    """Hashes of images by number. Memory: about 0.2 KB a hash."""

    def __init__(self, saved: bytes | None = None) -> None:
        self._index = Index(
            ndim=BITS,
            metric="hamming",
            dtype="b1",
            connectivity=_LINKS,
            expansion_add=64,
            expansion_search=64,
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
        found = [
            *self._search(hashes[:1], _OF_WHOLE, _WALK_WHOLE, bits, windows=True),
            *self._search(hashes[1:], _OF_WINDOW, _WALK_WINDOW, bits, windows=False),
        ]
        nearest: dict[int, float] = {}
        for image, distance in sorted(found, key=lambda one: one[1]):
            nearest.setdefault(image, distance)
        return list(nearest)[:NEAREST]

    def _search(
        self, hashes: np.ndarray, count: int, walk: int, bits: int, *, windows: bool
    ) -> Iterator[tuple[int, float]]:
        """(image, distance) of hashes within `bits`. windows: those of other images' windows too."""
        self._index.expansion_search = walk  # type: ignore[misc]  # its setter does not follow its property
        exact = len(self._index) < EXACT_BELOW
        matches: Any = self._index.search(hashes, min(count, len(self._index)), exact=exact, threads=1)
        # of a batch all rows are equally long, however few were found; a single hash's result is cut to length
        keys, distances = np.atleast_2d(matches.keys), np.atleast_2d(matches.distances)
        counts = matches.counts[:, None] if isinstance(matches, BatchMatches) else len(matches)
        images, of_window = np.divmod(keys.astype(np.int64), len(WINDOWS))
        close = (np.arange(keys.shape[1]) < counts) & (distances <= bits) & (windows | (of_window == 0))
        yield from zip(images[close].tolist(), distances[close].tolist())

    def saved(self) -> bytes:
        return bytes(self._index.save() or b"")

"""Groups of rows that are near-duplicates of each other: disjoint sets (union-find), each with its sharpest row."""

from __future__ import annotations

from array import array
from collections.abc import Callable


class Groups:
    """Rows by number, from 0. The root of a group is its lowest number. Memory: 16 bytes a row."""

    def __init__(self) -> None:
        self._parents = array("q")
        self._sharpest = array("q")

    def __len__(self) -> int:
        return len(self._parents)

    def add(self, first: int) -> None:
        """The next row: in the group of row `first`, or in its own."""
        self._parents.append(first)
        self._sharpest.append(len(self._sharpest))

    def root(self, no: int) -> int:
        """The lowest number in the group."""
        parents = self._parents
        while parents[no] != no:
            parents[no] = parents[parents[no]]  # halve the path
            no = parents[no]
        return no

    def same(self, a: int, b: int) -> bool:
        return self.root(a) == self.root(b)

    def sharpest(self, no: int) -> int:
        """The row of the highest resolution in the group, as given to `join`."""
        return self._sharpest[self.root(no)]

    def join(self, a: int, b: int, sharpness: Callable[[int], int]) -> None:
        """Make one group of two. sharpness: resolution of a row's media; of equals the lowest number is the sharpest."""
        low, high = sorted((self.root(a), self.root(b)))
        candidates = sorted((self._sharpest[low], self._sharpest[high]))
        self._sharpest[low] = max(candidates, key=sharpness)
        self._parents[high] = low

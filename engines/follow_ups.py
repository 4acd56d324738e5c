"""Follow-up requests of finished rollouts, which join the running batch as soon as they are ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from hashlib import blake2b

from engines.engine import FollowUp
from engines.rollout import Request


@dataclass(frozen=True)
class Ready:
    """A follow-up for `place`. turn: 1 for the first one there."""

    place: int
    turn: int
    request: Request


class FollowUps:
    """Those of one call of `generate` that are not ready yet."""

    def __init__(self) -> None:
        self._waiting: dict[int, Future[Request | None]] = {}
        self._turns: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, place: int, answer: FollowUp) -> bool:
        """Take in what `on_rollout` answered. False if the rollout at `place` stays as it is."""
        if answer is None:
            return False
        if isinstance(answer, Request):
            future: Future[Request | None] = Future()
            future.set_result(answer)
            answer = future
        self._waiting[place] = answer
        return True

    def ready(self, *, block: bool) -> Iterator[tuple[int, Ready | None]]:
        """(place, follow-up or None) of all that are ready; None: there is none after all. block: wait for one if none is.

        Raises what computing it raised, ValueError for one that asks for several completions.
        """
        if block and self._waiting:
            wait(self._waiting.values(), return_when=FIRST_COMPLETED)
        for place in [place for place, future in self._waiting.items() if future.done()]:
            request = self._waiting.pop(place).result()
            if request is None:
                yield place, None
                continue
            if request.n != 1:
                raise ValueError(
                    f"row {request.row_id!r}: expected a follow-up of n = 1, got n = {request.n}"
                )
            self._turns[place] += 1
            yield place, Ready(place, self._turns[place], request)


def first_seed(seed: int, index: int, copy: int) -> int:
    """Seed of completion `copy` of the request at `index`; the requests of a call lie far apart."""
    return _hashed(f"{seed}/{index}") + copy


def follow_up_seed(seed: int, place: int, turn: int) -> int:
    """Seed of the follow-up number `turn` at `place`: the same whenever it arrives."""
    return _hashed(f"{seed}/{place}/{turn}")


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big")

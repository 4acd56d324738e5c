"""What a rollout engine is: three verbs around weights, one for text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from engines.fingerprint import Fingerprint
from engines.rollout import Request, Rollout, Sampling

if TYPE_CHECKING:
    from engines.config import EngineConfig

OnRollout = Callable[[int, Rollout], None]
"""Told of every rollout as soon as it is finished: its place in the list that `generate` will return, and itself. Called
in the thread that generates, so it must be quick."""


class Engine(Protocol):
    """Generates rollouts with the weights of one policy version.

    Implementations: vLLM in process (default), transformers (the reference the others are tested against).
    """

    config: EngineConfig
    """Its settings; `max_model_len` bounds prompt plus completion."""

    version: int
    """Version of the weights now loaded; every rollout carries it."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_rollout: OnRollout | None = None
    ) -> list[Rollout]:
        """`request.n` rollouts for each request, next to each other and in the order of the requests."""
        ...

    def sync(self, named_weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Load the policy's weights (names as in transformers, tied ones under both names) and drop every cache that
        was computed with the old ones: prefix, multimodal and encoder cache."""
        ...

    def fingerprint(self) -> Fingerprint:
        """Of the weights that the engine really computes with (`engines.fingerprint`); equal to
        `weights_fingerprint` of the weights last synced."""
        ...

    def sleep(self) -> None:
        """Free the accelerator's memory for the update."""
        ...

    def wake(self) -> None:
        """Take it back; `sync` and `generate` also do so by themselves."""
        ...

    def close(self) -> None: ...

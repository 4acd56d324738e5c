"""The rollout-engine interface: generate completions, and load the policy's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from engines.fingerprint import Fingerprint
from engines.rollout import Request, Rollout, Sampling

if TYPE_CHECKING:
    from engines.config import EngineConfig

OnRollout = Callable[[int, Rollout], None]
"""Called with every rollout as soon as it is finished: its index in the list that `generate` will return, and the rollout.
It runs in the thread that generates, so it must be quick."""


class Engine(Protocol):
    """Generates rollouts with the weights of one policy version.

    Implementations: vLLM in process (default), transformers (the reference the others are tested against).
    """

    version: int
    """Policy version of the loaded weights; every rollout carries it."""

    @property
    def config(self) -> EngineConfig:
        """Its settings; `max_model_len` bounds prompt plus completion."""
        ...

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_rollout: OnRollout | None = None
    ) -> list[Rollout]:
        """`request.n` rollouts for each request, next to each other and in the order of the requests."""
        ...

    def sync(self, named_weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Load the policy's weights (names as in transformers, tied ones under both names) and reset every cache computed
        with the old ones: prefix, multimodal and encoder cache."""
        ...

    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the weights that the engine computes with (`engines.fingerprint`); equal to `weights_fingerprint`
        of the weights last synced."""
        ...

    def sleep(self) -> None:
        """Release accelerator memory for the update."""
        ...

    def wake(self) -> None:
        """Allocate it again; `sync` and `generate` do so where needed."""
        ...

    def close(self) -> None: ...

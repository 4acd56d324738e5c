"""The rollout-engine interface: generate completions, and load the policy's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from engines.fingerprint import Fingerprint
from engines.rollout import Request, Rollout, Sampling

if TYPE_CHECKING:
    from engines.config import EngineConfig

FollowUp = Request | Future[Request | None] | None
"""How a finished rollout is answered: None leaves it as it is; a request, or one that is still being computed, goes on at its
place, with n = 1, and joins the running batch as soon as it is ready. Its prompt is usually the finished prompt, the completion
and more; what is known of those tokens (KV cache, encoded images) is then used again."""

OnRollout = Callable[[int, Rollout], FollowUp]
"""Called with every rollout as soon as it is finished: its index in the list that `generate` will return, and the rollout.
It runs in the thread that generates, so it must be quick; what takes longer is answered with a future."""


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
        """`request.n` rollouts for each request, next to each other and in the order of the requests; of a place with follow-ups
        the last one's."""
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

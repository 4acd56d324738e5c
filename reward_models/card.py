"""What a reward model's checkpoint says about itself, in `reward_model.json`, and the map from its scores to rewards.

    reward = sigmoid((score - mean) / std)        in (0, 1); an average response of the held-out pairs gets 0.5

mean and std are those of the scores of all responses, chosen and rejected, of the held-out pairs that the model was measured on
at the end of its training (of the training pairs, where there were none). The map is monotonic: it changes no ranking. It fixes
the scale, which Bradley-Terry scores lack: two models, or two seeds, give rewards of about the same spread.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from vlm.checkpoint import CheckpointError

FILE = "reward_model.json"


@dataclass(frozen=True)
class Card:
    """kind: multimodal or text. mean, std: of `scores` scores. max_tokens: longest sequence; None: the model's context.
    max_frames: of a video."""

    kind: str
    mean: float = 0.0
    std: float = 1.0
    scores: int = 0
    max_tokens: int | None = None
    max_frames: int = 256

    def reward(self, score: float) -> float:
        """The reward of a score, in [0, 1]."""
        z = (score - self.mean) / self.std
        return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")


def with_statistics(card: Card, scores: Sequence[float]) -> Card:
    """The card with mean and standard deviation of these scores (equal ones: 1, so that all get 0.5)."""
    values: dict[str, Any] = asdict(card)
    values |= {"mean": fmean(scores), "std": pstdev(scores) or 1.0, "scores": len(scores)}
    return Card(**values)


def read_card(folder: Path) -> Card | None:
    """The card of a checkpoint; None for one that has none: it is of another program. Raises CheckpointError."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        card = Card(**found)
        right = card.kind in ("multimodal", "text") and math.isfinite(card.mean) and 0 < card.std < math.inf
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file}: expected the fields {[f.name for f in fields(Card)]}, got: {error}"
        ) from None
    if not right:
        raise CheckpointError(
            f"{file}: expected kind multimodal or text and a finite mean and std, got {found}"
        )
    return card

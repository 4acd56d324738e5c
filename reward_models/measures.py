"""How good a reward model is on held-out pairs: accuracy by source, calibration, and whether it prefers long responses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.rows import Row
from core.statistics import estimate_mean

BINS = 10
GROUPS = ("source", "task", "kind")
"""Columns of a row by which accuracy is told apart, where rows differ in them."""


@dataclass(frozen=True)
class ScoredPair:
    """chosen, rejected: scores. chosen_length, rejected_length: of the responses, in tokens or characters. groups: values of GROUPS."""

    id: str
    chosen: float
    rejected: float
    chosen_length: int
    rejected_length: int
    groups: tuple[str, ...] = ("", "", "")

    @property
    def right(self) -> float:
        """1: the chosen response has the higher score; 0.5: both have the same."""
        return 0.5 if self.chosen == self.rejected else float(self.chosen > self.rejected)


def groups_of(row: Row) -> tuple[str, ...]:
    """A row's values of GROUPS; the source by the name of its data set."""
    source = row.get("source")
    name = source.get("dataset") if isinstance(source, dict) else source
    return (str(name or "unknown"), str(row["task"]), str(row.get("kind") or ""))


def measures(pairs: Sequence[ScoredPair]) -> dict[str, Any]:
    """Everything there is to say about scored pairs, as JSON.

    accuracy: share of pairs whose chosen response has the higher score. by_<group>: the same by source, task and kind.
    calibration: see `calibration`. length: accuracy where the longer response is the rejected one, where it is the chosen one,
    and where both are as long; a model that only counts tokens has 0 in one of the first two.
    """
    return {
        **_accuracy(pairs),
        "margin": float(np.mean([p.chosen - p.rejected for p in pairs])) if pairs else None,
        **{f"by_{name}": _by(pairs, _group(i)) for i, name in enumerate(GROUPS)},
        "calibration": calibration(pairs),
        "calibration_error": calibration_error(pairs),
        "length": _by(pairs, _longer) | {"score_correlation": length_correlation(pairs)},
    }


def calibration(pairs: Sequence[ScoredPair], bins: int = BINS) -> list[dict[str, float]]:
    """The calibration curve: pairs by the probability that the model gives to its own choice, sigmoid(|difference|), in
    equally wide bins from 0.5 to 1; `confidence` is the mean of it in a bin, `accuracy` how often the choice is right. Empty
    bins are left out."""
    curve = []
    confidences = np.array([_confidence(p) for p in pairs])
    right = np.array([p.right for p in pairs])
    places = np.minimum((confidences - 0.5) * 2 * bins, bins - 1).astype(int) if pairs else confidences
    for place in range(bins):
        inside = places == place
        if inside.any():
            curve.append(
                {
                    "from": 0.5 + place / (2 * bins),
                    "confidence": float(confidences[inside].mean()),
                    "accuracy": float(right[inside].mean()),
                    "pairs": int(inside.sum()),
                }
            )
    return curve


def calibration_error(pairs: Sequence[ScoredPair], bins: int = BINS) -> float | None:
    """Expected calibration error: mean over pairs of |confidence - accuracy| of their bin (Guo et al., arXiv 1706.04599)."""
    if not pairs:
        return None
    return sum(b["pairs"] * abs(b["confidence"] - b["accuracy"]) for b in calibration(pairs, bins)) / len(
        pairs
    )


def length_correlation(pairs: Sequence[ScoredPair]) -> float | None:
    """Pearson's correlation of the difference in score with the difference in tokens; None where either never varies."""
    scores = [p.chosen - p.rejected for p in pairs]
    tokens = [float(p.chosen_length - p.rejected_length) for p in pairs]
    # a pair says the same in either order, so both are counted and the means are 0
    product = sum(s * t for s, t in zip(scores, tokens, strict=True))
    norm = math.sqrt(sum(s * s for s in scores) * sum(t * t for t in tokens))
    return product / norm if norm else None


def _confidence(pair: ScoredPair) -> float:
    return 1 / (1 + math.exp(-abs(pair.chosen - pair.rejected)))


def _group(place: int) -> Callable[[ScoredPair], str]:
    return lambda pair: pair.groups[place]


def _longer(pair: ScoredPair) -> str:
    if pair.chosen_length == pair.rejected_length:
        return "as_long"
    return "longer_wins" if pair.chosen_length > pair.rejected_length else "longer_loses"


def _by(pairs: Sequence[ScoredPair], key: Callable[[ScoredPair], str]) -> dict[str, Any]:
    names = sorted({key(p) for p in pairs})
    return {name: _accuracy([p for p in pairs if key(p) == name]) for name in names if name}


def _accuracy(pairs: Sequence[ScoredPair]) -> dict[str, Any]:
    """With its 95 % interval."""
    if not pairs:
        return {"accuracy": None, "pairs": 0}
    found = estimate_mean(p.right for p in pairs)
    return {"accuracy": found.mean, "low": found.low, "high": found.high, "pairs": len(pairs)}

"""Bradley-Terry ratings from pairwise verdicts, with and without control for style, and bootstrap intervals.

    P(A beats B) = sigmoid(theta_A - theta_B + beta · (style_A - style_B)),    rating = 1000 + 400 / ln 10 · theta

| part | source |
|---|---|
| model; a tie is half a win for each | Bradley and Terry, Biometrika 39 (1952) |
| maximum likelihood as a logistic regression, scale and offset of Elo | Chiang et al., Chatbot Arena, arXiv 2403.04132, section 4 |
| style: length and counts of headers, lists and bold text, as (a - b) / (a + b), normalised | lmarena.ai, "Does style matter?" (2024) |

Style that judges like is then no merit: beta takes it up. The sum of the thetas is 0. A weak ridge keeps ratings finite where one
contestant wins always.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

SCALE, OFFSET = 400 / math.log(10), 1000.0
RIDGE = 1e-2
MAX_STEPS = 100
STYLE = ("characters", "headers", "lists", "bold")
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LIST = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


@dataclass(frozen=True)
class Verdict:
    """One judgement. first, second: names, in the order in which the judge saw them. won: by the first: 1, 0.5 (a tie) or 0.
    style: `STYLE` of the first's answer and of the second's."""

    row: str
    first: str
    second: str
    won: float
    style: tuple[tuple[float, ...], tuple[float, ...]]


def style_of(text: str) -> tuple[float, ...]:
    """Characters, headers, list entries and bold passages of an answer (Markdown)."""
    return (float(len(text)), *(float(len(pattern.findall(text))) for pattern in (_HEADER, _LIST, _BOLD)))


def ratings(
    verdicts: Sequence[Verdict], names: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Any]:
    """`{"plain": {name: {"rating", "ci95"}}, "style_controlled": the same, "style": {feature: {"weight", "ci95"}}}`.

    Intervals: percentiles over bootstrap samples of the rows, so that all verdicts on a row stay together. A weight is what one
    standard deviation of the feature's difference is worth, in rating points.
    """
    rows = sorted({one.row for one in verdicts})
    design, won = _design(verdicts, names)
    styles = _styles(verdicts)
    place = {row: i for i, row in enumerate(rows)}
    row_of = np.array([place[one.row] for one in verdicts])
    rng = np.random.default_rng(seed)
    # how often each row is drawn, the real sample first
    drawn = np.vstack(
        [np.ones(len(rows)), rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), resamples)]
    )
    weights = drawn[:, row_of]
    plain = np.array([_fit(design, won, one) for one in weights])
    full = np.hstack([design, styles])
    controlled = np.array([_fit(full, won, one) for one in weights])
    count = len(names)
    return {
        "plain": _table(names, OFFSET + SCALE * _centred(plain), "rating"),
        "style_controlled": _table(names, OFFSET + SCALE * _centred(controlled[:, :count]), "rating"),
        "style": _table(STYLE, SCALE * controlled[:, count:], "weight"),
    }


def position_bias(verdicts: Sequence[Verdict]) -> float | None:
    """Mean win of the answer that was shown first; 0.5 without bias. None without verdicts."""
    return float(np.mean([one.won for one in verdicts])) if verdicts else None


def _design(verdicts: Sequence[Verdict], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(verdicts, names): 1 for the first, -1 for the second; and (verdicts,) what the first won."""
    design = np.zeros((len(verdicts), len(names)))
    for line, one in zip(design, verdicts, strict=True):
        line[names.index(one.first)] += 1
        line[names.index(one.second)] -= 1
    return design, np.array([one.won for one in verdicts])


def _styles(verdicts: Sequence[Verdict]) -> np.ndarray:
    """(verdicts, features) relative differences of style, each divided by its standard deviation; 0 where it never differs."""
    first, second = (np.array([one.style[side] for one in verdicts]) for side in (0, 1))
    total = first + second
    relative = np.divide(first - second, total, out=np.zeros_like(total), where=total > 0)
    spread = relative.std(axis=0)
    return np.divide(relative, spread, out=np.zeros_like(relative), where=spread > 1e-9)


def _fit(design: np.ndarray, won: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Maximum likelihood with a ridge, by Newton's method with steps of at most 2."""
    theta = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        chance = special.expit(design @ theta)
        gradient = design.T @ (weights * (chance - won)) + RIDGE * theta
        curvature = (design.T * (weights * chance * (1 - chance))) @ design + RIDGE * np.eye(len(theta))
        step = np.linalg.solve(curvature, gradient)
        theta -= step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-7:
            break
    return theta


def _centred(thetas: np.ndarray) -> np.ndarray:
    return thetas - thetas.mean(axis=1, keepdims=True)


def _table(names: Sequence[str], values: np.ndarray, what: str) -> dict[str, Mapping[str, Any]]:
    """By name the first line's value, and percentiles of the others."""
    low, high = np.percentile(values[1:], [2.5, 97.5], axis=0)
    return {
        name: {what: float(values[0, i]), "ci95": [float(low[i]), float(high[i])]}
        for i, name in enumerate(names)
    }

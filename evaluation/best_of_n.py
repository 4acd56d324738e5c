"""The best-of-n over-optimisation curve of a reward model (Gao et al., arXiv 2210.10760), from sampled answers that have both rewards.

Of n answers to a prompt the one with the highest proxy reward is chosen, and the verified reward of the chosen one is plotted over how
far the choice moves the policy, KL = log n - (n - 1) / n nats. A proxy that is worth something lifts it; one that is over-optimised
lifts it and then lets it fall, while its own value goes on rising. The paper's form of the curve, with d = sqrt(KL), is

    R(d) = R(0) + d (alpha - beta d)

with its peak at d = alpha / (2 beta). The expectation over n of the N answers of a prompt is exact, not sampled (Nakano et al., arXiv
2112.09332, appendix I).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from core.config import Section
from core.errors import RunError
from core.files.jsonl import read
from core.statistics import estimate_mean, interval_text

if TYPE_CHECKING:
    from evaluation.config import EvaluationConfig


class BestOfNConfig(Section):
    """Best of n by one reward, measured by another, for n from 1 to `samples`."""

    proxy: str = "reward_model"
    """Component that chooses."""
    verified: str
    """Component that says how good the chosen answer is; with weight 0 in `rewards` it is only logged."""
    tasks: list[str] | None = Field(None, min_length=1)
    """Tasks whose rows count. null: all whose answers have both."""


def expected_best(chooses: Sequence[float], counts: Sequence[float]) -> np.ndarray:
    """(N,) expectation, for n = 1 … N, of `counts` of the answer with the highest `chooses` among n drawn without replacement.

    The i-th lowest of N is the highest of n with probability C(i - 1, n - 1) / C(N, n). Equal values of `chooses` share theirs.
    """
    order = np.argsort(np.asarray(chooses, dtype=float), kind="stable")
    ranked = np.asarray(chooses, dtype=float)[order]
    values = np.asarray(counts, dtype=float)[order]
    _, inverse = np.unique(ranked, return_inverse=True)
    values = (np.bincount(inverse, values) / np.bincount(inverse))[inverse]
    size = len(values)
    below = np.ones(size + 1)  # probability that all n drawn are among the lowest i, for i = 0 … N
    found = []
    for n in range(1, size + 1):
        below = below * np.clip(np.arange(size + 1) - (n - 1), 0, None) / (size - (n - 1))
        found.append(float(np.diff(below) @ values))
    return np.array(found)


def divergence(n: int) -> float:
    """KL of best-of-n from the policy, nats: log n - (n - 1) / n."""
    return math.log(n) - (n - 1) / n


def fit(verified: Sequence[float]) -> tuple[float, float]:
    """(alpha, beta) of the curve by least squares, for n = 1 … N; the first point is R(0)."""
    d = np.sqrt([divergence(n) for n in range(1, len(verified) + 1)])
    rise = np.asarray(verified) - verified[0]
    alpha, minus_beta = np.linalg.lstsq(np.stack([d, d * d], axis=1), rise, rcond=None)[0]
    return float(alpha), float(-minus_beta)


def study(records: Iterable[Mapping[str, Any]], config: BestOfNConfig) -> dict[str, Any]:
    """What bestofn.json holds. records: answers as in eval_rollouts.jsonl; the sampled ones count.

    Returns `ns` [1, …, N], `kl`, and `checkpoints` {name: {"rows", "left_out", "proxy", "verified", "ceiling": a list of {"mean",
    "ci95", "n"} for each n, "peak": n with the highest verified reward, "lost": the paired difference of the last n to the peak,
    "over_optimised": whether that is below 0 beyond chance, "alpha", "beta"}}. ceiling: chosen by the verified reward itself.
    left_out: rows with an answer that lacks one of the rewards.

    Raises RunError if no row is left, or rows have different numbers of answers.
    """
    answers = _collected(records, config)
    sizes = {len(pairs) for rows in answers.values() for pairs in rows.values()}
    if len(sizes) != 1 or sizes == {1}:
        raise RunError(
            f"best of n: expected the same number of sampled answers for every row, two or more, got {sorted(sizes)}"
        )
    (size,) = sizes
    return {
        "proxy": config.proxy,
        "verified": config.verified,
        "ns": list(range(1, size + 1)),
        "kl": [divergence(n) for n in range(1, size + 1)],
        "checkpoints": {name: _curves(rows, config) for name, rows in answers.items()},
    }


def _collected(
    records: Iterable[Mapping[str, Any]], config: BestOfNConfig
) -> dict[str, dict[str, list[tuple[float | None, float | None]]]]:
    """(proxy, verified) of the answers to each row, by checkpoint; rows of tasks that have neither are not there."""
    found: dict[str, dict[str, list[tuple[float | None, float | None]]]] = {}
    for record in records:
        if record["mode"] != "sampled" or (config.tasks is not None and record["task"] not in config.tasks):
            continue
        components = record.get("components") or {}
        if config.tasks is None and not {config.proxy, config.verified} <= set(components):
            continue
        pair = (components.get(config.proxy), components.get(config.verified))
        found.setdefault(record["checkpoint"], {}).setdefault(record["row_id"], []).append(pair)
    if not found:
        raise RunError(
            f"best of n: expected answers with the rewards '{config.proxy}' and '{config.verified}', found none"
        )
    return found


def _curves(
    rows: Mapping[str, Sequence[tuple[float | None, float | None]]], config: BestOfNConfig
) -> dict[str, Any]:
    whole = [
        list(zip(*pairs, strict=True))
        for pairs in rows.values()
        if all(value is not None for pair in pairs for value in pair)
    ]
    if not whole:
        raise RunError(f"best of n: every row has an answer without '{config.proxy}' or '{config.verified}'")
    kinds = {
        "proxy": np.array([expected_best(proxy, proxy) for proxy, _ in whole]),
        "verified": np.array([expected_best(proxy, verified) for proxy, verified in whole]),
        "ceiling": np.array([expected_best(verified, verified) for _, verified in whole]),
    }
    verified = kinds["verified"]
    means = verified.mean(axis=0)
    peak = int(means.argmax())
    lost = estimate_mean(verified[:, -1] - verified[:, peak], bounds=(-1.0, 1.0))
    alpha, beta = fit(means.tolist())
    return {
        "rows": len(whole),
        "left_out": len(rows) - len(whole),
        **{kind: [estimate_mean(column).as_json() for column in found.T] for kind, found in kinds.items()},
        "peak": peak + 1,
        "lost": lost.as_json(),
        "over_optimised": lost.high < 0,
        "alpha": alpha,
        "beta": beta,
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The curves at powers of two and at the last n, with one sentence each."""
    last = found["ns"][-1]
    shown = sorted({2**i for i in range(last.bit_length()) if 2**i <= last} | {last})
    parts = []
    for name, one in found["checkpoints"].items():
        lines = [
            "| n | KL, nats | " + f"{found['proxy']} (chooses) | {found['verified']} | ceiling |",
            "| ---: | ---: | ---: | ---: | ---: |",
        ]
        for n in shown:
            cells = [interval_text(one[kind][n - 1], digits=3) for kind in ("proxy", "verified", "ceiling")]
            lines.append(f"| {n} | {found['kl'][n - 1]:.2f} | {' | '.join(cells)} |")
        parts += [f"{name}, {one['rows']} rows:", "\n".join(lines), sentence(name, found, one)]
    return "\n\n".join(parts) + "\n"


def sentence(name: str, found: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """Whether the proxy is over-optimised, in words."""
    last, form = found["ns"][-1], f"alpha = {one['alpha']:.3f}, beta = {one['beta']:.3f}"
    left_out = f"; {one['left_out']} rows lack a reward" if one["left_out"] else ""
    if one["over_optimised"]:
        lost = interval_text(one["lost"], digits=3, signed=True)
        return f"{name}: over-optimised: {found['verified']} is highest at n = {one['peak']} and {lost} lower at n = {last} ({form}{left_out})."
    return f"{name}: not over-optimised beyond chance up to n = {last}; the highest is at n = {one['peak']} ({form}{left_out})."


def write_best_of_n(config: EvaluationConfig, *, show: bool = True) -> dict[str, Any]:
    """bestofn.json and bestofn.md of the answers that `evaluate(config)` wrote; returns what the first holds."""
    assert config.best_of_n is not None
    output = Path(config.output_dir)
    found = study(read(output / "eval_rollouts.jsonl"), config.best_of_n)
    (output / "bestofn.json").write_text(json.dumps(found) + "\n")
    (output / "bestofn.md").write_text(markdown(found))
    if show:
        print("\n".join(sentence(name, found, one) for name, one in found["checkpoints"].items()))
        print(f"best of n for n = 1 to {found['ns'][-1]}: {output / 'bestofn.md'}")
    return found

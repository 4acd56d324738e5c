"""Looking back at a run: proxy against verified reward by window of steps, from its rollouts.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from statistics import fmean
from typing import Any

from core.errors import RunError
from core.metrics import values
from rewards.hacking import FIGURES, PREFIX, HackingConfig, HackingWatch, Watched, hacking_metrics


@dataclass
class _Step:
    number: int
    rollouts: list[Watched] = field(default_factory=list)


def report(records: Iterable[Mapping[str, Any]], config: HackingConfig) -> Iterator[str]:
    """Lines of a table, one per window, and what the stop rule would have said, if it had. records: of rollouts.jsonl.

    `rank correlation` is Spearman's, of the two rewards over the rollouts of a window: how far the proxy orders them as the truth
    does. Raises RunError if no rollout has both rewards.
    """
    watch, block = HackingWatch(config), list[tuple[dict[str, float], list[tuple[float, float]]]]()
    verdict = None
    header = f"{'steps':>12} {'rollouts':>9} {'proxy':>8} {'verified':>9} {'rank correlation':>17} {'tokens':>8} {'repetition':>11}"
    steps = _steps(records)
    first = list(islice(steps, 1))  # read before anything is printed
    yield header
    for step in chain(first, steps):
        record = {"step": step.number, **values(hacking_metrics(step.rollouts, config))}
        watch.add(record)
        verdict = verdict or ((step.number, said) if (said := watch.problem()) else None)
        if record[f"{PREFIX}rollouts"]:
            block.append((record, [both for one in step.rollouts if (both := one.both(config)) is not None]))
        if len(block) == config.window:
            yield _line(block)
            block = []
    if block:
        yield _line(block)
    if not watch.steps:
        raise RunError(
            f"expected rollouts with the rewards '{config.proxy}' and '{config.verified}', found none"
        )
    if verdict is None:
        yield "the stop rule would not have stopped the run"
    else:
        yield f"the stop rule would have stopped the run after step {verdict[0]}: {verdict[1]}"


def _steps(records: Iterable[Mapping[str, Any]]) -> Iterator[_Step]:
    """Rollouts by step; those of a step stand together."""
    step: _Step | None = None
    for record in records:
        if step is None or record["step"] != step.number:
            if step is not None:
                yield step
            step = _Step(record["step"])
        watched = Watched(
            record["task"], record.get("components") or {}, record["tokens"], record["completion"]
        )
        step.rollouts.append(watched)
    if step is not None:
        yield step


def _line(block: list[tuple[dict[str, float], list[tuple[float, float]]]]) -> str:
    from scipy import stats

    pairs = [pair for _, some in block for pair in some]
    proxy, verified = zip(*pairs, strict=True)
    varied = len(set(proxy)) > 1 and len(set(verified)) > 1
    correlation = f"{stats.spearmanr(proxy, verified).statistic:.3f}" if varied else "–"
    mean = {name: fmean(record[PREFIX + name] for record, _ in block) for name in FIGURES}
    span = f"{block[0][0]['step']:.0f}-{block[-1][0]['step']:.0f}"
    return (
        f"{span:>12} {len(pairs):>9} {mean['proxy']:>8.3f} {mean['verified']:>9.3f} {correlation:>17} {mean['length']:>8.1f}"
        f" {mean['repetition']:>11.1%}"
    )

"""The tables of pass@k: curves at powers of two, crossings in words, statistics of the answers; Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from core.statistics import interval_text
from evaluation.pass_at_k.curves import KINDS, OVERALL
from evaluation.tables import percent

STATISTICS = {
    "tokens_mean": "tokens, mean",
    "tokens_95": "tokens, 95th percentile",
    "truncated": "cut off at the limit",
    "no_conclusion": "without a conclusion",
    "distinct": "distinct conclusions per prompt",
    "revised": "revise themselves",
    "revisions": "revisions per answer",
    "reward_revised": "mean reward, revised",
    "reward_unrevised": "mean reward, not revised",
}


def markdown(found: Mapping[str, Any]) -> str:
    """What `curves.study` returns as Markdown: curves over all rows, crossings, statistics, and pass@k by task."""
    parts = [
        _table(*curve_cells(found, OVERALL)),
        "\n".join(f"- {line}" for line in crossings(found)),
        _table(*statistics_cells(found)),
    ]
    tasks = [part for part in next(iter(found["checkpoints"].values())) if part != OVERALL]
    parts += [f"{task}:\n\n{_table(*curve_cells(found, task, ('pass',)))}" for task in tasks]
    unscored = [f"{count} of {name}" for name, count in found["unscored"].items() if count]
    if unscored:
        parts.append(f"Rows left out because an answer to them could not be scored: {', '.join(unscored)}.")
    return "\n\n".join(parts) + "\n"


def crossings(found: Mapping[str, Any], kinds: Sequence[str] = ("pass", "maj")) -> list[str]:
    """For all rows, where the curves of every two checkpoints cross, one sentence each."""
    last = found["ks"][-1]
    return [
        _sentence(one, last)
        for one in found["differences"]
        if one["task"] == OVERALL and one["kind"] in kinds and one["at_k"]
    ]


def as_csv(found: Mapping[str, Any]) -> str:
    """One line for each checkpoint, task, kind and k."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["checkpoint", "task", "kind", "k", "mean", "low", "high", "rows"])
    for name, parts in found["checkpoints"].items():
        for task, curves in parts.items():
            for kind in KINDS:
                for k, one in zip(found["ks"], curves[kind]):
                    writer.writerow([name, task, kind, k, one["mean"], *one["ci95"], one["n"]])
    return file.getvalue()


def _sentence(one: Mapping[str, Any], last: int) -> str:
    before, after, curve = one["before"], one["after"], f"{one['kind']}@k"
    ends = [interval_text(one["at_k"][i], digits=3, signed=True) for i in (0, -1)]
    figures = f"{after} − {before} is {ends[0]} at k = 1 and {ends[1]} at k = {last}"
    if one["crossing"] is None:
        return f"{curve}: {after} and {before} do not cross up to k = {last}: {figures}."
    chance = "both beyond chance" if one["crossing"]["certain"] else "not both beyond chance"
    better = after if one["at_k"][0]["mean"] > 0 else before
    return f"{curve}: {after} and {before} cross: {better} is ahead below k = {one['crossing']['k']}, the other from there on; {figures}, {chance}."


def curve_cells(
    found: Mapping[str, Any], part: str, kinds: Sequence[str] = ("pass", "maj")
) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table of one part's curves at powers of two."""
    ks = _shown(found["ks"])
    header = ["checkpoint", *(f"{kind}@{k}" for kind in kinds for k in ks), "mean@k"]
    lines = []
    for name, parts in found["checkpoints"].items():
        curves = parts[part]
        cells = [interval_text(curves[kind][k - 1] if curves[kind] else None) for kind in kinds for k in ks]
        lines.append([name, *cells, interval_text(curves["mean"][0] if curves["mean"] else None)])
    return header, lines


def statistics_cells(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table of what the answers are like."""
    names = list(found["answers"])
    return ["of all sampled answers", *names], [
        [words, *(_figure(key, found["answers"][name][key]) for name in names)]
        for key, words in STATISTICS.items()
    ]


def _figure(key: str, value: Any) -> str:
    if key == "distinct":
        return interval_text(value)
    if value is None:
        return "–"
    if key in ("truncated", "no_conclusion", "revised"):
        return percent(value)
    return f"{value:.0f}" if key.startswith("tokens") else f"{value:.3f}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def _shown(ks: Sequence[int]) -> list[int]:
    """Powers of two, and the last."""
    return sorted({k for k in ks if k & (k - 1) == 0} | {ks[-1]})

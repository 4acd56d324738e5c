"""The page's part on what more computation per question buys: pass@k of the checkpoints, methods of search, official benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.benchmarks.tables import benchmark_caption, benchmark_cells
from evaluation.page.charts import Series, line_chart
from evaluation.page.results import CHECKPOINT_COLOUR_COUNT, CHECKPOINT_COLOURS
from evaluation.pass_at_k.curves import OVERALL
from evaluation.pass_at_k.tables import crossings, curve_cells, statistics_cells
from inference.table import HEADER, cells, notes

PALETTE = CHECKPOINT_COLOURS + CHECKPOINT_COLOUR_COUNT  # all colours of the style sheet
KINDS = {
    "pass": ("pass@k", "Probability that at least one of k sampled answers is correct: what a model can do."),
    "maj": ("maj@k", "Probability that the most frequent conclusion of k sampled answers is correct."),
}


def pass_at_k_part(found: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Charts, sentences and tables of `passk.json`; None without one."""
    if not found:
        return None
    charts = [
        line_chart(title, note, found["ks"], _curves(found, kind, labels), x_label="k", smooth=False)
        for kind, (title, note) in KINDS.items()
    ]
    return {
        "charts": charts,
        "sentences": crossings(found),
        "tables": [
            _table("All held-out rows, with 95 % intervals", *curve_cells(found, OVERALL)),
            _table("The sampled answers", *statistics_cells(found)),
        ],
    }


def search_part(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Chart, sentences and table of `inference.json`; None without one."""
    if not result:
        return None
    spent = sorted({_tokens(one) for one in result["methods"].values()})
    chart = line_chart(
        "Reward against tokens",
        "Mean reward of a method at the tokens that it spends on a question, generated and judged. Lines join numbers of candidates.",
        spent,
        _families(result, spent),
        x_label="tokens per question",
        smooth=False,
    )
    return {
        "charts": [chart],
        "sentences": notes(result),
        "tables": [_table("Methods of search", list(HEADER), cells(result))],
    }


def benchmarks_part(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of official benchmarks; None without any."""
    if not evaluation.get("benchmarks"):
        return None
    table = _table("Official benchmarks", *benchmark_cells(evaluation["benchmarks"]))
    return {"charts": [], "sentences": [benchmark_caption(evaluation["benchmarks"])], "tables": [table]}


def _curves(found: Mapping[str, Any], kind: str, labels: Mapping[str, str]) -> list[Series]:
    return [
        Series(
            labels.get(name, name),
            tuple(one["mean"] for one in parts[OVERALL][kind]),
            CHECKPOINT_COLOURS + i % CHECKPOINT_COLOUR_COUNT,
        )
        for i, (name, parts) in enumerate(found["checkpoints"].items())
    ]


def _families(result: Mapping[str, Any], spent: Sequence[float]) -> list[Series]:
    """A curve for each method and judge, over its numbers of candidates."""
    families: dict[str, dict[float, float | None]] = {}
    for method, one in zip(result["settings"]["methods"], result["methods"].values(), strict=True):
        words = method["method"].replace("_", " ")
        judged = method["method"] not in ("greedy", "self_consistency") and (method["candidates"] or 4) > 1
        name = f"{words}, {method['judge'] or 'mean_logprob'}" if judged else words
        families.setdefault(name, {})[_tokens(one)] = one["reward"]["mean"]
    return [
        Series(name, tuple(points.get(at) for at in spent), i % PALETTE, dots=True)
        for i, (name, points) in enumerate(families.items())
    ]


def _tokens(one: Mapping[str, Any]) -> float:
    return round(one["generated"] + one["judged"], 1)


def _table(title: str, header: Sequence[str], body: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {"title": title, "header": header, "body": body}

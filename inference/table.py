"""The table of `python -m inference`: gain and cost of each method, as plain text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from core.statistics import interval_text

HEADER = ("method", "reward", "against greedy", "in grammar", "tokens", "judged", "calls", "s/row")
FIGURES = (
    "in_grammar",
    "generated",
    "judged",
    "engine_calls",
    "seconds",
    "coin_tosses",
    "retraces",
    "rows",
    "unscored",
)


def cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The table's lines, without the header."""
    return [
        [
            name,
            interval_text(one["reward"], digits=3),
            "" if name == "greedy" else interval_text(one["difference"], digits=3, signed=True),
            f"{100 * one['in_grammar']:.0f} %",
            f"{one['generated']:.0f}",
            f"{one['judged']:.0f}",
            f"{one['engine_calls']:.1f}",
            f"{one['seconds']:.3f}",
        ]
        for name, one in result["methods"].items()
    ]


def plain(result: Mapping[str, Any]) -> str:
    """The result of `inference.run.run` as aligned plain text, with notes."""
    lines = [list(HEADER), *cells(result)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    lines.insert(1, ["-" * width for width in widths])
    text = "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )
    return "\n".join([text, *notes(result)]) + "\n"


def as_markdown(result: Mapping[str, Any]) -> str:
    """The same as a Markdown table."""
    rule = ["---", *["--:"] * (len(HEADER) - 1)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (HEADER, rule, *cells(result)))
    return "\n\n".join([table, *notes(result)]) + "\n"


def as_csv(result: Mapping[str, Any]) -> str:
    """One line for each method, figures in full."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    bounds = ("", "_low", "_high")
    writer.writerow(
        ["method", *(f"{name}{end}" for name in ("reward", "difference") for end in bounds), *FIGURES]
    )
    for name, one in result["methods"].items():
        estimates = [v for k in ("reward", "difference") for v in (one[k]["mean"], *one[k]["ci95"])]
        writer.writerow([name, *estimates, *(one[figure] for figure in FIGURES)])
    return file.getvalue()


def notes(result: Mapping[str, Any]) -> list[str]:
    """What the figures mean, what did not help, and where a figure is an upper bound only."""
    methods, settings = result["methods"], result["settings"]
    lines = [
        f"Mean reward of {settings['row_count']} rows [95 % confidence interval]; answers of at most"
        f" {settings['max_tokens']} tokens, candidates at temperature {settings['temperature']:g}. Tokens per row: all that were"
        " generated, losing candidates too; judged: read and written by judges. Calls: how often an answer waited for the engine."
    ]
    if oracles := sorted(_oracles(settings)):
        lines.append(
            f"By {', '.join(oracles)}: chooses by the ground truth, pass@N: an upper bound and not a result."
        )
    no_gain = [name for name, one in methods.items() if name != "greedy" and not _gains(one["difference"])]
    if no_gain:
        lines.append(f"No gain over greedy beyond chance: {'; '.join(no_gain)}.")
    for figure, words in (
        ("coin_tosses", "decisions of a judge were left to chance"),
        ("unscored", "answers could not be scored"),
    ):
        if count := sum(one[figure] for one in methods.values()):
            lines.append(f"{count} {words}.")
    return lines


def _gains(difference: Mapping[str, Any]) -> bool:
    low = difference["ci95"][0]
    return low is not None and low > 0


def _oracles(settings: Mapping[str, Any]) -> set[str]:
    """Judges that are the program's own rewards."""
    own = {
        name
        for name, judge in settings["judges"].items()
        if judge["kind"] == "reward" and not judge["rewards"]
    }
    return {
        m["judge"] for m in settings["methods"] if m["judge"] in own | {"reward"} and m["method"] != "greedy"
    }

"""The table of `python -m inference`: gain and cost, in generated tokens, of each method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.statistics import interval_text

HEADER = ("method", "reward", "against greedy", "in grammar", "tokens per row", "x greedy")


def plain(result: Mapping[str, Any]) -> str:
    """The result of `inference.run.run` as aligned plain text, with a note where a figure is an upper bound only."""
    methods, settings = result["methods"], result["settings"]
    lines = [list(HEADER)]
    for name, one in methods.items():
        cost = one["tokens"] / methods["greedy"]["tokens"]
        lines.append(
            [
                name,
                interval_text(one["reward"], digits=3),
                "" if name == "greedy" else interval_text(one["difference"], digits=3, signed=True),
                f"{100 * one['in_grammar']:.0f} %",
                f"{one['tokens']:.0f}",
                f"{cost:.1f}",
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    lines.insert(1, ["-" * width for width in widths])
    text = "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )
    return "\n".join([text, *_notes(methods, settings)]) + "\n"


def _notes(methods: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    notes = [
        f"Mean reward of {settings['row_count']} rows [95 % confidence interval]; answers of at most"
        f" {settings['max_tokens']} tokens, candidates at temperature {settings['temperature']:g}. Tokens: all that were"
        " generated, losing candidates too."
    ]
    if any(name.endswith(" by reward") for name in methods) and not settings["selection_rewards"]:
        notes.append("'by reward' chooses by the ground truth: pass@N, an upper bound and not a result.")
    unscored = sum(one["unscored"] for one in methods.values())
    return [*notes, f"{unscored} answers could not be scored."] if unscored else notes

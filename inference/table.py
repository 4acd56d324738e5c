"""The table of `python -m inference`: what each method gains, and what it costs in generated tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADER = ("method", "reward", "against greedy", "in grammar", "tokens per row", "x greedy")


def plain(result: Mapping[str, Any]) -> str:
    """The result of `inference.run.run` as aligned plain text, with a note on what must not be taken for a result."""
    methods, settings = result["methods"], result["settings"]
    lines = [list(HEADER)]
    for name, one in methods.items():
        cost = one["tokens"] / methods["greedy"]["tokens"]
        lines.append(
            [
                name,
                _interval(one["reward"]),
                "" if name == "greedy" else _interval(one["difference"], signed=True),
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
        f"Mean reward of {settings['row_count']} rows ± half of its 95 % interval; answers of at most"
        f" {settings['max_tokens']} tokens, candidates at temperature {settings['temperature']:g}. Tokens: all that were"
        " generated, losing candidates too."
    ]
    if any(name.endswith(" by reward") for name in methods) and not settings["selection_rewards"]:
        notes.append("'by reward' chooses by the ground truth: pass@N, an upper bound and not a result.")
    unscored = sum(one["unscored"] for one in methods.values())
    return [*notes, f"{unscored} answers could not be scored."] if unscored else notes


def _interval(value: Mapping[str, float | None], *, signed: bool = False) -> str:
    if value["mean"] is None:
        return "–"
    mean = format(value["mean"], "+.3f" if signed else ".3f")
    return mean if value["half"] is None else f"{mean} ± {value['half']:.3f}"

"""The table of an evaluation, one row per task and one column per checkpoint, for terminals, logs and Markdown.

All functions take the value that `evaluation.run.evaluate` returns and that `eval.json` holds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from core.statistics import interval_text

OVERALL = "overall"
NOTHING = "–"


def percent(share: float | None) -> str:
    """`97 %`; only a share of exactly 1 is printed as 100 %, and only 0 as 0 %."""
    if share is None:
        return NOTHING
    rounded = round(100 * share)
    if share < 1 and rounded == 100:
        return "> 99 %"
    return "< 1 %" if share > 0 and rounded == 0 else f"{rounded} %"


def task_names(evaluation: Mapping[str, Any]) -> list[str]:
    """All tasks of all checkpoints, alphabetically."""
    return sorted({task for one in evaluation["checkpoints"].values() for task in one["greedy"]["tasks"]})


def entry_of(evaluation: Mapping[str, Any], name: str, mode: str, task: str) -> dict[str, Any] | None:
    """The summary of one checkpoint, decoding mode and task (`OVERALL` = all rows), or None."""
    scores = evaluation["checkpoints"][name].get(mode)
    if scores is None:
        return None
    return scores["overall"] if task == OVERALL else scores["tasks"].get(task)


def difference_of(evaluation: Mapping[str, Any], before: str, after: str, task: str) -> dict[str, Any] | None:
    """The paired difference `after - before` (greedy) of one task, or None."""
    for one in evaluation.get("differences", []):
        if (one["before"], one["after"]) == (before, after):
            return one["overall"] if task == OVERALL else one["tasks"].get(task)
    return None


def table_cells(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table. Columns of each checkpoint: greedy mean with interval, T = 1 mean (if sampled), share
    in grammar; the last column is the paired difference of the last two checkpoints."""
    names = list(evaluation["checkpoints"])
    sampled = any(one.get("sampled") for one in evaluation["checkpoints"].values())
    header = ["task", "rows"]
    for name in names:
        header += [name, *(["T=1"] if sampled else []), "grammar"]
    if len(names) > 1:
        header.append(f"{names[-1]} − {names[-2]}")
    body = []
    for task in [*task_names(evaluation), OVERALL]:
        entries = [entry_of(evaluation, name, "greedy", task) for name in names]
        line = [task, str(max((entry["n"] for entry in entries if entry), default=0))]
        for name, entry in zip(names, entries, strict=True):
            line.append(interval_text(entry))
            if sampled:
                line.append(interval_text(entry_of(evaluation, name, "sampled", task), interval=False))
            line.append(percent(entry["in_grammar"]) if entry else NOTHING)
        if len(names) > 1:
            line.append(interval_text(difference_of(evaluation, names[-2], names[-1], task), signed=True))
        body.append(line)
    return header, body


def caption(evaluation: Mapping[str, Any]) -> str:
    """What the numbers are, and how many answers had no reward, in one sentence."""
    settings = evaluation["settings"]
    unscored = sum(
        one[mode]["overall"]["unscored"]
        for one in evaluation["checkpoints"].values()
        for mode in ("greedy", "sampled")
        if one.get(mode)
    )
    text = (
        f"Mean reward [95 % confidence interval] of greedy answers of at most {settings['max_tokens']} tokens"
    )
    if settings["samples"]:
        text += f"; T=1: mean of {settings['samples']} sampled answers per row"
    text += "; grammar: share of greedy answers that follow it"
    return text + (f"; {unscored} answers could not be scored." if unscored else ".")


def markdown(evaluation: Mapping[str, Any]) -> str:
    """The table as Markdown: numbers right-aligned, last row bold."""
    header, body = table_cells(evaluation)
    body[-1] = [f"**{text}**" if text else text for text in body[-1]]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plain(evaluation: Mapping[str, Any]) -> str:
    """The table as aligned plain text, for logs and files."""
    header, body = table_cells(evaluation)
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    lines = []
    for line in [header, *body]:
        cells = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, caption(evaluation)]) + "\n"


def print_table(evaluation: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print the table, with colours and lines on a terminal that is wide enough, else as plain text."""
    file = file or sys.stdout
    header, body = table_cells(evaluation)
    console = Console(file=file)
    needed = sum(max(len(line[i]) for line in [header, *body]) + 3 for i in range(len(header))) + 1
    if not console.is_terminal or console.width < needed:
        file.write(plain(evaluation))
        return
    table = Table(caption=caption(evaluation), caption_justify="left")
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    for line in body:
        table.add_row(*line, style="bold" if line[0] == OVERALL else None, end_section=line is body[-2])
    console.print(table)

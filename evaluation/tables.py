"""The tables of an evaluation, for terminals, logs and Markdown: rewards by task and checkpoint, and data sets by model.

Functions that take an `evaluation` take the value that `evaluation.run.evaluate` returns and that `eval.json` holds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from core.statistics import interval_text
from evaluation.benchmarks.tables import benchmark_caption, benchmark_cells
from evaluation.detection import CUTS

OVERALL = "overall"
NOTHING = "–"


@dataclass(frozen=True)
class Cells:
    """A table as text. header, body: columns that are filled nowhere are left out. about: what the numbers are."""

    title: str
    header: list[str]
    body: list[list[str]]
    about: str


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


def data_set_cells(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table with one row for each data set and model; columns that would be empty are left out."""
    header = ["data set", "model", "rows", "images", "reward", "mAP", "AP50"]
    header += [f"{name}@{k}" for name in ("R", "NDCG") for k in CUTS] + ["images/s", "memory"]
    body = []
    for entry in evaluation.get("data_sets", []):
        found = entry["detection"] or {}
        line = [entry["data_set"], entry["model"], str(entry["rows"] or NOTHING), str(entry["images"])]
        line += [interval_text(entry["reward"]), _share(found.get("mAP")), _share(found.get("AP50"))]
        for name in ("recall", "ndcg"):
            line += [_share((found.get(name) or {}).get(str(k), {}).get("mean")) for k in CUTS]
        speed, memory = entry["images_per_s"], entry["peak_memory_gib"]
        line += [
            NOTHING if speed is None else f"{speed:.2f}",
            NOTHING if memory is None else f"{memory:.1f} GiB",
        ]
        body.append(line)
    kept = [i for i, title in enumerate(header) if i < 2 or any(line[i] != NOTHING for line in body)]
    return [header[i] for i in kept], [[line[i] for i in kept] for line in body]


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def data_set_caption(evaluation: Mapping[str, Any]) -> str:
    """What the numbers of `data_set_cells` are, on which hardware, and what was left out."""
    entries = evaluation.get("data_sets", [])
    text = f"On {evaluation['settings']['hardware']}. memory: peak of the GPU, on a CPU of the process"
    found = [entry for entry in entries if entry["detection"]]
    if any(entry["detection"]["mAP"] is not None for entry in found):
        text += (
            "; mAP: COCO's AP at IoU 0.50:0.95 over the categories asked for; R and NDCG at K boxes, IoU 0.5, the boxes of a policy"
            " ranked by the mean log-probability of their tokens"
        )
    left_out = [
        f"{entry['detection']['not_asked']} of {entry['model']} on {entry['data_set']}"
        for entry in found
        if entry["detection"]["not_asked"]
    ]
    return text + (
        f"; boxes left out, of categories not asked for in their image: {', '.join(left_out)}."
        if left_out
        else "."
    )


def episode_cells(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table of episodes, one row for each data set and checkpoint."""
    studies = list(_studies(evaluation))
    budgets = list(studies[0][2]["by_budget"]) if studies else []
    header = ["data set", "model", *[f"<= {b}" for b in budgets], "turns", "over", "went on though right"]
    body = []
    for data_set, name, one in studies:
        turns, over = one["turns"], one["over_turn"]["mean"]
        body.append(
            [data_set, name, *[interval_text(one["by_budget"][b]) for b in budgets]]
            + [
                NOTHING if turns is None else f"{turns:.1f}",
                percent(over),
                interval_text(one["went_on_though_right"]),
            ]
        )
    return header, body


EPISODES_ABOUT = (
    "Mean reward of greedy episodes within so many turns; turns: mean of episodes that the policy ended; over: share that went over"
    " the largest budget; went on though right: share of right answers among those the policy would have given, where it went on."
)


def turn_cells(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and body of the table of turns, one row for each data set, checkpoint and turn that some episode has."""
    header = [
        "data set",
        "model",
        "turn",
        "stopped",
        "right of those",
        "of all right",
        "answer so far",
        "worth",
    ]
    body = []
    for data_set, name, one in _studies(evaluation):
        for k in sorted(one["stopped_at"].keys() | one["so_far"].keys(), key=int):
            stopped = one["stopped_at"].get(k)
            body.append(
                [data_set, name, k, str(stopped["n"] if stopped else 0), interval_text(stopped)]
                + [percent(one["right_by_turn"].get(k))]
                + [interval_text(one["so_far"].get(k)), interval_text(one["worth"].get(k), signed=True)]
            )
    return header, body


TURNS_ABOUT = (
    "stopped: episodes that the policy ended at that turn; right of those: share of right answers; of all right: share of all right"
    " answers; answer so far: reward if the policy has to answer there in place of the turn; worth: what the turn adds to it, over"
    " the episodes that went on."
)


def _studies(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(data set, checkpoint, `evaluation.episodes.study`)."""
    for name, sets in (evaluation.get("episodes") or {}).items():
        for data_set, one in sets.items():
            yield data_set, name, one


def further_tables(evaluation: Mapping[str, Any]) -> list[Cells]:
    """Data sets by model, and episodes by budget and by turn."""
    tables = []
    if evaluation.get("data_sets"):
        tables.append(Cells("Data sets", *data_set_cells(evaluation), data_set_caption(evaluation)))
    if evaluation.get("episodes"):
        tables.append(Cells("Episodes by budget of turns", *episode_cells(evaluation), EPISODES_ABOUT))
        tables.append(Cells("Episodes turn by turn", *turn_cells(evaluation), TURNS_ABOUT))
    return tables


def _below(evaluation: Mapping[str, Any]) -> list[Cells]:
    """What texts have below the table of rewards by task: these tables, and benchmarks."""
    tables = further_tables(evaluation)
    if evaluation.get("benchmarks"):
        found = evaluation["benchmarks"]
        tables.append(Cells("Benchmarks", *benchmark_cells(found), benchmark_caption(found)))
    return tables


def markdown(evaluation: Mapping[str, Any]) -> str:
    """The tables as Markdown: numbers right-aligned, totals bold."""
    texts = []
    if evaluation["checkpoints"]:
        header, body = table_cells(evaluation)
        body[-1] = [f"**{text}**" if text else text for text in body[-1]]
        texts.append(_markdown(header, body))
    texts += [_markdown(one.header, one.body) + f"\n{one.about}\n" for one in _below(evaluation)]
    return "\n".join(texts)


def _markdown(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plain(evaluation: Mapping[str, Any]) -> str:
    """The tables as aligned plain text, for logs and files."""
    texts = []
    if evaluation["checkpoints"]:
        texts.append(_plain(*table_cells(evaluation), caption(evaluation)))
    texts += [_plain(one.header, one.body, one.about) for one in _below(evaluation)]
    return "\n".join(texts)


def _plain(header: list[str], body: list[list[str]], about: str) -> str:
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    lines = []
    for line in [header, *body]:
        cells = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, about]) + "\n"


def print_table(evaluation: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print the tables, with colours and lines on a terminal that is wide enough, else as plain text."""
    file = file or sys.stdout
    if evaluation["checkpoints"]:
        _print(*table_cells(evaluation), caption(evaluation), file, total=True)
    for one in _below(evaluation):
        _print(one.header, one.body, one.about, file)


def _print(
    header: list[str], body: list[list[str]], about: str, file: TextIO, *, total: bool = False
) -> None:
    """total: the last line is one of totals."""
    console = Console(file=file)
    needed = sum(max(len(line[i]) for line in [header, *body]) + 3 for i in range(len(header))) + 1
    if not console.is_terminal or console.width < needed:
        file.write(_plain(header, body, about))
        return
    table = Table(caption=about, caption_justify="left")
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    for i, line in enumerate(body, 1):
        last = total and i == len(body)
        table.add_row(*line, style="bold" if last else None, end_section=total and i == len(body) - 1)
    console.print(table)

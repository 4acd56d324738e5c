"""The data card of a made data set: data_card.json for programs, DATA_CARD.md for people.

Counts come from the workers, added up: rows by source and task, kinds of answers, lengths, pixels, licences, what was
rejected while reading and what every operation removed, with its own figures.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_recipes.config import Recipe
from data_recipes.stages import read_counts, stage_folder, whole_file, write_json

HUB_HEAD = """---
configs:
- config_name: default
  data_files: rows-*.{suffix}
---

"""
"""Head of README.md, by which `datasets` and model hubs know which files of the folder are the rows."""
SOURCES = ["source", "format", "records", "records with rows", "without", "rejections"]
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def write_card(recipe: Recipe, work: Path, last: int, files: list[str]) -> dict[str, Any]:
    """Write both cards into the output folder and return the content of data_card.json."""
    before: Counter[str] = Counter()
    for number in range(last + 1):
        before.update(read_counts(work, number, recipe.tasks))
        decided = stage_folder(work, number) / "decided.json"
        if decided.is_file():
            before.update(json.loads(decided.read_text(encoding="utf-8")))
    after = read_counts(work, last + 1, recipe.tasks)
    card = describe(recipe, before, after) | {"files": files, "made_by": work.name}
    out = recipe.output_dir
    for name, head in (("DATA_CARD.md", ""), ("README.md", HUB_HEAD.format(suffix=recipe.output.format))):
        with whole_file(out / name) as file:
            file.write(head + markdown(card))
    write_json(out / "data_card.json", card)
    return card


def describe(recipe: Recipe, before: Counter[str], after: Counter[str]) -> dict[str, Any]:
    """The card from the counts of the stages before the output, and of the output."""
    names = list(dict.fromkeys(name for name, _, _ in recipe.steps))
    removed = _tree(before + after, "removed")
    return {
        "name": recipe.name,
        "description": recipe.description,
        "seed": recipe.seed,
        "recipe": recipe.digest(),
        "rows": sum(count for key, count in after.items() if key.startswith("output/")),
        "by_source_and_task": _tree(after, "output"),
        "sources": [_source(recipe, source.name, before) for source in recipe.sources],
        "removed": removed,
        "operations": {name: _figures(before, name) for name in names},
        "answers": _tree(after, "answer"),
        "traces": _flat(after, "trace"),
        "licences": _flat(after, "licence"),
        "unit_of_length": "tokens" if recipe.output.tokenizer else "characters",
        "prompt_length": quantiles(_flat(after, "prompt_length")),
        "trace_length": quantiles(_flat(after, "trace_length")),
        "pixels": quantiles(_flat(after, "pixels")),
        "images_per_row": _flat(after, "images_per_row"),
        "videos_per_row": _flat(after, "videos_per_row"),
    }


def _source(recipe: Recipe, name: str, counts: Counter[str]) -> dict[str, Any]:
    source = next(s for s in recipe.sources if s.name == name)
    digest = None
    if source.path.is_file():
        with source.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "name": name,
        "format": source.format,
        "path": str(source.path),
        "sha256": digest,
        "records": counts[f"records/{name}"],
        "with_rows": counts[f"with_rows/{name}"],
        "without_rows": counts[f"without_rows/{name}"],
        "rejected": counts[f"rejected/{name}"],
        "left_out": _flat(counts, f"left_out/{name}"),
    }


def _flat(counts: Counter[str], prefix: str) -> dict[str, int]:
    """Counts under `prefix/`, largest first."""
    found = {key.removeprefix(f"{prefix}/"): n for key, n in counts.items() if key.startswith(f"{prefix}/")}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _figures(counts: Counter[str], operation: str) -> dict[str, Any]:
    """An operation's own counts; for those that ask a teacher, the share of rows whose answer was accepted."""
    found: dict[str, Any] = dict(_flat(counts, operation))
    if found.get("asked"):
        found["acceptance_rate"] = round(found.get("accepted", 0) / found["asked"], 4)
    return found


def _tree(counts: Counter[str], prefix: str) -> dict[str, dict[str, int]]:
    """Counts under `prefix/a/b` as {a: {b: count}}."""
    tree: dict[str, dict[str, int]] = defaultdict(dict)
    for key, count in sorted(_flat(counts, prefix).items()):
        first, _, rest = key.partition("/")
        tree[first][rest] = count
    return dict(tree)


def quantiles(histogram: dict[str, int]) -> dict[str, int] | None:
    """Smallest, 10 %, median, 90 %, largest of a histogram {value: count}; None if it is empty."""
    ordered = sorted((int(value), count) for value, count in histogram.items())
    total = sum(count for _, count in ordered)
    if not total:
        return None
    found = {}
    for share in QUANTILES:
        passed = 0
        for value, count in ordered:
            passed += count
            if passed >= share * total:
                found[f"{share:.0%}"] = value
                break
    return found


# ----------------------------------------------------------------------------------------------------------- markdown


def markdown(card: dict[str, Any]) -> str:
    """The card as a page."""
    tasks = sorted({task for by_task in card["by_source_and_task"].values() for task in by_task})
    lines = [
        f"# {card['name']}",
        "",
        card["description"],
        "",
        f"{card['rows']:,} rows; recipe {card['recipe']}, seed {card['seed']}.",
        "",
    ]
    lines += ["## Rows", "", *_table(["source", *tasks, "all"], _rows_by_source(card, tasks)), ""]
    lines += ["## Sources", "", *_table(SOURCES, _sources(card)), ""]
    left_out = [(s["name"], what, n) for s in card["sources"] for what, n in s["left_out"].items()]
    if left_out:
        lines += [
            "## Values left out",
            "",
            "Values of columns that a row only carries along, of kinds that JSON cannot hold; images that readers of documents left out.",
            "",
        ]
        lines += [*_table(["source", "what", "values"], left_out), ""]
    if card["removed"]:
        removed = [(op, rule, n) for op, rules in card["removed"].items() for rule, n in rules.items()]
        lines += ["## Removed", "", *_table(["by", "rule", "rows"], removed), ""]
    for name, figures in card["operations"].items():
        if figures:
            lines += [f"## {name}", "", *_table(["figure", "value"], figures.items()), ""]
    lengths = [
        (name, *(card[name] or {}).values())
        for name in ("prompt_length", "trace_length", "pixels")
        if card[name]
    ]
    unit = card["unit_of_length"]
    lines += [
        f"## Lengths ({unit}; two digits)",
        "",
        *_table(["", "least", "10 %", "median", "90 %", "most"], lengths),
        "",
    ]
    answers = [(task, kind, n) for task, kinds in card["answers"].items() for kind, n in kinds.items()]
    lines += ["## Answers", "", *_table(["task", "fields", "rows"], answers), ""]
    lines += ["## Licences", "", *_table(["licence", "rows"], card["licences"].items()), ""]
    return "\n".join(lines)


def _rows_by_source(card: dict[str, Any], tasks: list[str]) -> Iterable[tuple[Any, ...]]:
    for source, by_task in card["by_source_and_task"].items():
        yield (source, *(by_task.get(task, 0) for task in tasks), sum(by_task.values()))


def _sources(card: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
    fields = ("name", "format", "records", "with_rows", "without_rows", "rejected")
    return (tuple(s[field] for field in fields) for s in card["sources"])


def _table(head: list[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in cells) + " |"

    return [line(head), line("---" for _ in head), *(line(row) for row in rows)]

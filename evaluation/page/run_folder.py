"""Reading a run folder, and choosing the rollouts that the page shows.

Files; at least one of the first three must exist, the others are optional:

    summary.json         result of the whole run
    metrics.jsonl        one object per GRPO step
    eval.json            result of `evaluation.run.evaluate`; eval_rollouts.jsonl has its answers, attention.jsonl
                         where the turns of some episodes looked
    rollouts.jsonl       one object per training rollout, with the paths of its media
    sft_metrics.jsonl    one object per logged SFT step
    data_card.json       description of the training data
    passk.json           pass@k of `evaluate.py`
    inference.json       methods of search, of `python -m inference`

Each may also be in a subfolder (`eval/eval.json`, `sft/metrics.jsonl`, `data/data_card.json`, …).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLACES = {
    "summary": ("summary.json",),
    "metrics": ("metrics.jsonl", "grpo/metrics.jsonl", "rl/metrics.jsonl"),
    "eval": ("eval.json", "eval/eval.json"),
    "eval_rollouts": ("eval_rollouts.jsonl", "eval/eval_rollouts.jsonl"),
    "attention": ("attention.jsonl", "eval/attention.jsonl"),
    "rollouts": ("rollouts.jsonl", "grpo/rollouts.jsonl", "rl/rollouts.jsonl"),
    "sft_metrics": ("sft_metrics.jsonl", "sft/sft_metrics.jsonl", "sft/metrics.jsonl"),
    "data_card": ("data_card.json", "data/data_card.json"),
    "pass_at_k": ("passk.json", "passk/passk.json", "eval/passk.json"),
    "inference": ("inference.json", "inference/inference.json"),
}


class RunFolderError(ValueError):
    """A run folder that cannot be read; the message names the file and line."""


@dataclass(frozen=True)
class AnswerGroup:
    """Answers shown together: rollouts of one prompt at one step, or answers of all checkpoints to one held-out row."""

    kind: str  # "training" or "held-out"
    task: str
    row_id: str
    step: int | None  # training only
    why: str  # why this prompt is shown, as text
    members: tuple[dict[str, Any], ...]
    left_out: int = 0  # members that are not shown


@dataclass(frozen=True)
class Chain:
    """An episode to show turn by turn. maps: where each turn looked (`evaluation.attention.Look.as_json`); may be empty."""

    record: dict[str, Any]
    maps: tuple[dict[str, Any] | None, ...] = ()


@dataclass
class RunFolder:
    """The content of a run folder, without the rollouts: a long run has millions, and few are shown."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    sft_metrics: list[dict[str, Any]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    data_card: dict[str, Any] = field(default_factory=dict)
    pass_at_k: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # remarks on the files, shown on the page


def read_run_folder(path: str | Path) -> RunFolder:
    """Read everything but the rollouts.

    Raises:
        RunFolderError: The folder does not exist, has none of the main files, or has an invalid file.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunFolderError(f"run folder not found: {path}")
    files = {
        name: next(path / place for place in places if (path / place).is_file())
        for name, places in PLACES.items()
        if any((path / place).is_file() for place in places)
    }
    if not files.keys() & {"summary", "metrics", "eval"}:
        raise RunFolderError(f"{path}: expected summary.json, metrics.jsonl or eval.json, found none of them")
    run = RunFolder(path=path, files=files)
    attributes = {"eval": "evaluation"}
    for name in ("summary", "eval", "data_card", "pass_at_k", "inference"):
        attribute = attributes.get(name, name)
        if name in files:
            setattr(run, attribute, _read_json(files[name]))
    for name in ("metrics", "sft_metrics"):
        if name in files:
            setattr(run, name, [record for _, record in _read_lines(files[name], run.notes)])
    return run


def pick_training_groups(
    run: RunFolder, *, moments: int = 3, prompts: int = 2, members: int = 8
) -> tuple[list[AnswerGroup], int]:
    """For each task the first `prompts` prompts of `moments` steps spread over the run; also the number of all rollouts.

    The choice does not depend on rewards. Of a group larger than `members`, the best, the worst and evenly spaced others
    are shown.
    """
    if "rollouts" not in run.files:
        return [], 0
    file, total = run.files["rollouts"], 0
    steps_of: dict[str, set[int]] = {}
    for _, record in _read_lines(file, run.notes):
        total += 1
        steps_of.setdefault(str(record["task"]), set()).add(int(record["step"]))
    wanted = {task: set(_spread(sorted(steps), moments)) for task, steps in steps_of.items()}
    found: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for _, record in _read_lines(file, []):
        task, step = str(record["task"]), int(record["step"])
        if step in wanted[task]:
            rows = found.setdefault((task, step), {})
            if str(record["row_id"]) in rows or len(rows) < prompts:
                rows.setdefault(str(record["row_id"]), []).append(record)
    groups = []
    for (task, step), rows in sorted(found.items()):
        for i, (row_id, answers) in enumerate(rows.items()):
            kept = tuple(_located(one, file.parent) for one in _thin_by_reward(answers, members))
            place = ("first", "second", "third")[i] if i < 3 else f"{i + 1}th"
            why = f"{place} {task} prompt of step {step}"
            groups.append(AnswerGroup("training", task, row_id, step, why, kept, len(answers) - len(kept)))
    return groups, total


def pick_held_out_groups(run: RunFolder, *, drawn: int = 2, seed: int = 0) -> tuple[list[AnswerGroup], int]:
    """For each task the rows to show, with the greedy answers of all checkpoints; also the number of all answers.

    Shown are the rows whose reward rose and fell most from the last but one checkpoint to the last, and `drawn` random
    ones. Rows that a checkpoint did not answer are left out.
    """
    if "eval_rollouts" not in run.files:
        return [], 0
    file = run.files["eval_rollouts"]
    tasks: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    total, order = 0, []
    for _, record in _read_lines(file, run.notes):
        total += 1
        if record.get("mode", "greedy") != "greedy":
            continue
        if record["checkpoint"] not in order:
            order.append(record["checkpoint"])
        tasks.setdefault(str(record["task"]), {}).setdefault(str(record["row_id"]), {})[
            record["checkpoint"]
        ] = record
    groups = []
    for task, rows in sorted(tasks.items()):
        complete = {row_id: answers for row_id, answers in rows.items() if len(answers) == len(order)}
        for row_id, why in _pick_rows(task, complete, order, drawn, seed).items():
            members = tuple(_located(complete[row_id][name], file.parent) for name in order)
            groups.append(AnswerGroup("held-out", task, row_id, None, why, members))
    return groups, total


def pick_chains(run: RunFolder, *, rows: int = 3) -> list[Chain]:
    """The episodes of the evaluation to show turn by turn, by row: those whose attention was computed, else those of the first
    `rows` rows."""
    if "eval_rollouts" not in run.files:
        return []
    maps = {
        (record["checkpoint"], record["row_id"]): record["turns"]
        for _, record in (_read_lines(run.files["attention"], run.notes) if "attention" in run.files else ())
    }
    file = run.files["eval_rollouts"]
    chains: dict[str, list[Chain]] = {}
    for _, record in _read_lines(file, []):
        if record.get("mode") != "turns":
            continue
        key = (record["checkpoint"], record["row_id"])
        if key in maps or (not maps and (record["row_id"] in chains or len(chains) < rows)):
            chain = Chain(_located(record, file.parent), tuple(maps.get(key, ())))
            chains.setdefault(record["row_id"], []).append(chain)
    return [chain for some in chains.values() for chain in some]


def _pick_rows(
    task: str,
    rows: Mapping[str, Mapping[str, dict[str, Any]]],
    checkpoints: Sequence[str],
    drawn: int,
    seed: int,
) -> dict[str, str]:
    """{row id: why it is shown} for one task. rows: row id -> checkpoint -> answer."""
    picked: dict[str, str] = {}
    if len(checkpoints) > 1:
        before, after = checkpoints[-2:]
        rewards = {row_id: (a[before]["reward"], a[after]["reward"]) for row_id, a in rows.items()}
        change = {row_id: new - old for row_id, (old, new) in rewards.items() if None not in (old, new)}
        best, worst = (
            max(change, key=change.__getitem__, default=""),
            min(change, key=change.__getitem__, default=""),
        )
        among = f"from {before} to {after} among {len(change)} {task} rows"
        if change and change[best] > 0:
            picked[best] = f"largest gain {among}"
        if change and change[worst] < 0:
            picked[worst] = f"largest loss {among}"
    rest = sorted(set(rows) - set(picked))
    for row_id in random.Random(f"{seed} {task}").sample(rest, min(drawn, len(rest))):
        picked[row_id] = f"drawn at random from {len(rows)} held-out {task} rows"
    return picked


def _spread(items: Sequence[int], count: int) -> list[int]:
    """At most `count` evenly spaced items, including the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _thin_by_reward(answers: Sequence[dict[str, Any]], count: int) -> tuple[dict[str, Any], ...]:
    if len(answers) <= count:
        return tuple(answers)
    ranked = sorted(
        range(len(answers)), key=lambda i: -1.0 if answers[i]["reward"] is None else answers[i]["reward"]
    )
    return tuple(answers[ranked[i]] for i in _spread(range(len(ranked)), count))


def _located(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record with absolute media paths; relative ones start from the file's folder."""

    def locate(medium: Any) -> Any:
        if isinstance(medium, dict) and isinstance(medium.get("path"), str):
            return {**medium, "path": str(folder.resolve() / medium["path"])}
        return str(folder.resolve() / medium) if isinstance(medium, str) else medium

    return {**record, **{kind: [locate(m) for m in record.get(kind) or ()] for kind in ("images", "videos")}}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{file}: expected JSON, got: {error}") from None
    if not isinstance(content, dict):
        raise RunFolderError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def _read_lines(file: Path, notes: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSONL file. A last line cut off by a crash is skipped with a note; others are errors."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    notes.append(f"{file.name}: the last line ({number}) is cut off and was left out")
                    return
                raise RunFolderError(f"{file}:{number}: expected a JSON object, got: {error}") from None
            if not isinstance(record, dict):
                raise RunFolderError(f"{file}:{number}: expected a JSON object, got {type(record).__name__}")
            yield number, record

"""pass@k of the sampled answers of several checkpoints, from the records that an evaluation wrote."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from core.errors import RunError
from core.statistics import estimate_mean
from evaluation.pass_at_k.config import PassAtKConfig
from evaluation.pass_at_k.estimators import maj_at_k, mean_at_k, pass_at_k
from evaluation.pass_at_k.reflection import revision_pattern, revisions
from inference.conclusions import GRAMMARS, conclusion_of, normalised

OVERALL = "overall"
KINDS = ("pass", "maj", "mean")


@dataclass
class _Answers:
    """The sampled answers of one checkpoint to one row. rewards: None where an answer could not be scored."""

    task: str
    rewards: list[float | None] = field(default_factory=list)
    forms: list[str | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)
    revised: list[int] = field(default_factory=list)


def study(
    records: Iterable[Mapping[str, Any]], config: PassAtKConfig, grammar: str, seed: int
) -> dict[str, Any]:
    """What passk.json holds.

    records: answers as in eval_rollouts.jsonl; the sampled ones count. grammar: of `rewards.grammar`.

    Returns `ks` [1, 2, …, N]; `checkpoints` {name: {task or "overall": {"rows", "pass", "maj", "mean": a list of {"mean", "ci95",
    "n"}, one for each k}}}; `differences`, of every two checkpoints and each kind of curve, the paired difference at each k, and
    its `crossing`; `answers` {name: statistics of the answers}; `unscored` {name: rows left out, because an answer to them could
    not be scored}.

    Raises RunError if there are fewer than two sampled answers per row, or not equally many.
    """
    answers = _collected(records, config, grammar)
    counts = {len(one.rewards) for rows in answers.values() for one in rows.values()}
    if len(counts) != 1 or counts == {1}:
        raise RunError(
            f"pass@k: expected the same number of sampled answers for every row, two or more (`samples`), got {sorted(counts)}"
        )
    (n,) = counts
    curves = {name: _row_curves(rows, config, seed) for name, rows in answers.items()}
    tasks = sorted({one.task for rows in answers.values() for one in rows.values()})
    task_of = {row: one.task for rows in answers.values() for row, one in rows.items()}
    parts = {OVERALL: set(task_of), **{t: {row for row in task_of if task_of[row] == t} for t in tasks}}
    return {
        "ks": list(range(1, n + 1)),
        "checkpoints": {
            name: {part: _curves({r: c for r, c in mine.items() if r in rows}) for part, rows in parts.items()}
            for name, mine in curves.items()
        },
        "differences": [
            {"before": before, "after": after, "kind": kind, "task": part, **_difference(curves[before], curves[after], kind, rows)}
            for before, after in combinations(curves, 2)
            for part, rows in parts.items()
            for kind in KINDS
        ],
        "answers": {name: statistics(rows.values()) for name, rows in answers.items()},
        "unscored": {name: len(answers[name]) - len(mine) for name, mine in curves.items()},
    }  # fmt: skip


def crossing(differences: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Where the sign of `after - before` changes for good: `k`, the first with the sign that it has at the last k; `certain`: both
    the difference at k = 1 and that at the last k are beyond chance. None: it has the same sign at both ends."""
    signs = [math.copysign(1, one["mean"]) if one["mean"] else 0 for one in differences]
    if not signs or signs[0] * signs[-1] >= 0:
        return None
    k = max(i for i, sign in enumerate(signs) if sign != signs[-1]) + 2
    ends = (differences[0], differences[-1])
    return {"k": k, "certain": all(one["ci95"][0] * one["ci95"][1] > 0 for one in ends)}


def statistics(rows: Iterable[_Answers]) -> dict[str, Any]:
    """Of all sampled answers of a checkpoint: lengths in tokens, share cut off at the limit, distinct conclusions per prompt, share
    without a conclusion, and of those that revise themselves their share, how often they do, and the mean reward with and without."""
    rows = list(rows)
    tokens = np.array([count for one in rows for count in one.tokens])
    revised = [count for one in rows for count in one.revised]
    rewarded = [
        (bool(v), r) for one in rows for v, r in zip(one.revised, one.rewards, strict=True) if r is not None
    ]
    forms = [form for one in rows for form in one.forms]
    return {
        "answers": len(tokens),
        "tokens_mean": float(tokens.mean()),
        "tokens_median": float(np.median(tokens)),
        "tokens_95": float(np.quantile(tokens, 0.95)),
        "truncated": float(np.mean([cut for one in rows for cut in one.cut])),
        "no_conclusion": float(np.mean([form is None for form in forms])),
        "distinct": estimate_mean(
            [len(set(one.forms) - {None}) for one in rows],
            bounds=(0.0, float(max(len(one.forms) for one in rows))),
        ).as_json(),
        "revised": float(np.mean([count > 0 for count in revised])),
        "revisions": float(np.mean(revised)),
        "reward_revised": _mean(reward for revises, reward in rewarded if revises),
        "reward_unrevised": _mean(reward for revises, reward in rewarded if not revises),
    }


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None


def _collected(
    records: Iterable[Mapping[str, Any]], config: PassAtKConfig, grammar: str
) -> dict[str, dict[str, _Answers]]:
    names, pattern = GRAMMARS[grammar], revision_pattern(config.revision_words)
    found: dict[str, dict[str, _Answers]] = {}
    for record in records:
        if record["mode"] != "sampled":
            continue
        rows = found.setdefault(record["checkpoint"], {})
        one = rows.setdefault(record["row_id"], _Answers(record["task"]))
        conclusion = conclusion_of(record["completion"], names)
        one.rewards.append(record["reward"])
        one.forms.append(normalised(conclusion) or None if conclusion is not None else None)
        one.tokens.append(record["tokens"])
        one.cut.append(record["finish"] == "length")
        one.revised.append(revisions(record["completion"], pattern))
    return found


def _row_curves(
    rows: Mapping[str, _Answers], config: PassAtKConfig, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """The curves of each row whose answers were all scored."""
    curves = {}
    for row, one in rows.items():
        rewards = [reward for reward in one.rewards if reward is not None]
        if len(rewards) < len(one.rewards):
            continue
        correct = [reward >= config.correct_at.get(one.task, 1.0) for reward in rewards]
        curves[row] = {
            "pass": pass_at_k(len(rewards), sum(correct)),
            "maj": maj_at_k(one.forms, correct, orders=config.orders, seed=f"{seed}/{row}"),
            "mean": mean_at_k(rewards),
        }
    return curves


def _curves(rows: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Means over rows at each k, with intervals."""
    found: dict[str, Any] = {"rows": len(rows)}
    for kind in KINDS:
        values = np.array([curves[kind] for curves in rows.values()])
        found[kind] = [estimate_mean(column).as_json() for column in values.T] if len(rows) else []
    return found


def _difference(
    before: Mapping[str, Mapping[str, np.ndarray]],
    after: Mapping[str, Mapping[str, np.ndarray]],
    kind: str,
    rows: set[str],
) -> dict[str, Any]:
    """The paired difference at each k, and where it changes its sign."""
    both = [row for row in before if row in after and row in rows]
    values = np.array([after[row][kind] - before[row][kind] for row in both])
    at_k = [estimate_mean(column, bounds=(-1.0, 1.0)).as_json() for column in values.T] if both else []
    return {"rows": len(both), "at_k": at_k, "crossing": crossing(at_k)}

"""What a run leaves behind besides weights: one line per step, one line per rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.metrics import Metric, largest, mean, total
from core.rows import Row
from engines.rollout import Rollout
from rewards.geometry.frames import LIMITS
from rewards.router import Score

# Columns that say in which frame a row's coordinates are, kept beside its answers so that they can be drawn.
FRAME_COLUMNS = ("frame_out", "image_size", "resized_size", *LIMITS, *(f"model_{name}" for name in LIMITS))


def rollout_record(
    step: int, row: Row, rollout: Rollout, score: Score, advantage: float | None
) -> dict[str, Any]:
    """A rollout as it is kept: media by reference, text as sampled. advantage: None if its group left the update."""
    return {
        "step": step,
        "row_id": rollout.row_id,
        "task": row["task"],
        "prompt": prompt_text(row),
        "images": [_reference(medium) for medium in row.get("images") or ()],
        "videos": [_reference(medium) for medium in row.get("videos") or ()],
        "answer": row.get("answer"),
        "completion": rollout.text,
        "tokens": len(rollout.completion_ids),
        "finish": rollout.finish,
        "reward": score.reward,
        "components": score.components,
        "in_grammar": score.in_grammar,
        "reason": score.reason,
        "advantage": advantage,
        "policy_version": rollout.policy_version,
        **{name: row[name] for name in FRAME_COLUMNS if row.get(name) is not None},
    }


def prompt_text(row: Row) -> str:
    """The text of the prompt's messages, media as `[image]` and `[video]`."""
    texts = []
    for message in row["prompt"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts.append(" ".join(p["text"] if p["type"] == "text" else f"[{p['type']}]" for p in parts))
    return "\n".join(texts)


def _reference(medium: Any) -> Any:
    """A medium as JSON: its path, or how large the bytes are that came in its place."""
    if isinstance(medium, bytes):
        return f"{len(medium)} bytes"
    if isinstance(medium, Mapping):
        return {k: _reference(v) for k, v in medium.items() if v is not None}
    return medium if isinstance(medium, str | int | float) else str(medium)


def step_metrics(
    rows: Sequence[Row], rollouts: Sequence[Rollout], scores: Sequence[Score]
) -> dict[str, Metric]:
    """Of one process's rollouts, in all and by task: reward, component values, length, share in the grammar.

    Rollouts without a reward are left out of its mean and counted as `rollouts/unscored`.
    """
    metrics: dict[str, Metric] = {}
    tasks = [row["task"] for row in rows]
    for task in (None, *dict.fromkeys(tasks)):
        chosen = [i for i in range(len(rollouts)) if task in (None, tasks[i])]
        suffix = task or "mean"
        metrics[f"reward/{suffix}"] = mean(scores[i].reward for i in chosen)
        metrics[f"length/{suffix}"] = mean(len(rollouts[i].completion_ids) for i in chosen)
        metrics[f"in_grammar/{suffix}"] = mean(scores[i].in_grammar for i in chosen)
        if task is not None:
            for name in dict.fromkeys(name for i in chosen for name in scores[i].components):
                metrics[f"component/{task}/{name}"] = mean(scores[i].components.get(name) for i in chosen)
    metrics["tokens/sampled"] = total(sum(sum(r.loss_mask) for r in rollouts))
    metrics["rollouts/cut_off"] = mean(r.finish == "length" for r in rollouts)
    metrics["rollouts/unscored"] = total(sum(s.reward is None for s in scores))
    return metrics


def seconds_metrics(seconds: Mapping[str, float], step: float) -> dict[str, Metric]:
    """Wall-clock time of a step by phase, with `step` for all of it; over processes, that of the slowest."""
    phases = {**seconds, "rest": step - sum(seconds.values()), "step": step}
    return {f"seconds/{phase}": largest(s) for phase, s in phases.items()}

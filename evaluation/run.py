"""Evaluation: every checkpoint answers the same held-out rows, within the same budget, scored by the same rewards.

The engine is started once; further checkpoints of the same architecture are handed to it as a trainer's weights are
(`Engine.sync`), which takes milliseconds instead of a start, and its weights are compared with the files bit by bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from core.files.hub import fetch
from core.files.jsonl import append
from core.rows import Row, read_rows
from engines.build import build_engine
from engines.engine import Engine
from engines.rollout import Request, Sampling
from engines.samples import rollout_record, scored
from engines.weights import sync_checked
from evaluation.config import EvaluationConfig
from evaluation.metrics import ScoredAnswer, by_task, differences, summarise
from evaluation.tables import print_table
from evaluation.weights import named_weights, same_architecture
from rewards.config import check_pixel_limits
from rewards.geometry.frames import with_model_limits
from rewards.router import Router
from vlm.inputs import encode_row
from vlm.load import check_checkpoint, load_processor, pixel_limits


def evaluate(config: EvaluationConfig, *, show: bool = True) -> dict[str, Any]:
    """Evaluate all checkpoints, write `eval.json` and `eval_rollouts.jsonl` to `config.output_dir`, print one table.

    Returns what eval.json holds: `settings`; `checkpoints` {name: {"path", "seconds", "greedy", "sampled"}} with
    {"overall", "tasks": {task: …}} of `metrics.summarise`; `differences` (greedy, paired by row, of every later checkpoint
    against every earlier one). `show`: progress bar and table.

    Raises:
        HubError, CheckpointError, RowError, RewardDataError: What is wrong with an input, before any engine starts.
    """
    fetch({f"checkpoints.{name}": path for name, path in config.checkpoints.items()}, {"rows": config.rows})
    folders = {name: check_checkpoint(path) for name, path in config.checkpoints.items()}
    rows: list[Row] = read_rows(config.rows, limit=config.limit)
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    answers_file = output / "eval_rollouts.jsonl"
    answers_file.unlink(missing_ok=True)

    greedy: dict[str, list[ScoredAnswer]] = {}
    checkpoints: dict[str, dict[str, Any]] = {}
    with Router(config.rewards) as router, closing(_Engines(config)) as engines:
        router.check_rows(rows)
        for name, folder in folders.items():
            began = time.perf_counter()
            engine, processor = engines.of(folder)
            limits = pixel_limits(processor)
            check_pixel_limits(config.rewards, limits)
            rows = with_model_limits(rows, limits)
            scored_by_mode: dict[str, list[ScoredAnswer]] = {"greedy": [], "sampled": []}
            with tqdm(total=len(rows), desc=f"evaluate {name}", unit="row", disable=not show) as bar:
                for batch in _batches(rows, config.batch_rows):
                    for mode, records in _answers(config, engine, processor, router, batch):
                        append(answers_file, ({"checkpoint": name, "mode": mode, **r} for r in records))
                        scored_by_mode[mode] += [_scored(record) for record in records]
                    bar.update(len(batch))
            greedy[name] = scored_by_mode["greedy"]
            checkpoints[name] = {
                "path": config.checkpoints[name],
                "seconds": time.perf_counter() - began,
                "greedy": _summaries(scored_by_mode["greedy"]),
                "sampled": _summaries(scored_by_mode["sampled"]) if config.samples else None,
            }
    evaluation = {
        "settings": {
            "rows": config.rows,
            "row_count": len(rows),
            "max_tokens": config.max_tokens,
            "samples": config.samples,
            "seed": config.seed,
            "engine": config.engine.kind,
            "dtype": config.model.dtype,
        },
        "checkpoints": checkpoints,
        "differences": differences(greedy),
    }
    (output / "eval.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    if show:
        print_table(evaluation)
    return evaluation


def summary_part(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation as summary.json holds it: `eval` {checkpoint: {task: {"mean", "ci95", "n", …}}} (greedy), `overall`
    {checkpoint: mean}, `overall_ci95`, and the same of the answers sampled at T = 1 under `eval_sampled`, `overall_sampled`."""
    part: dict[str, Any] = {}
    for mode, suffix in (("greedy", ""), ("sampled", "_sampled")):
        scores = {name: one[mode] for name, one in evaluation["checkpoints"].items() if one.get(mode)}
        if scores:
            part[f"eval{suffix}"] = {name: one["tasks"] for name, one in scores.items()}
            part[f"overall{suffix}"] = {name: one["overall"]["mean"] for name, one in scores.items()}
            part[f"overall{suffix}_ci95"] = {name: one["overall"]["ci95"] for name, one in scores.items()}
    return part


class _Engines:
    """The engine for one checkpoint after the other: the running one with new weights where it fits, else a new one."""

    def __init__(self, config: EvaluationConfig) -> None:
        self._config = config
        self._dtype = getattr(torch, config.model.dtype)
        self._engine: Engine | None = None
        self._started_on: Path | None = None
        self._processor: Any = None

    def of(self, folder: Path) -> tuple[Engine, Any]:
        """Engine with the weights of `folder`, and the processor for its prompts."""
        if self._engine and self._started_on and same_architecture(self._started_on, folder):
            sync_checked(self._engine, named_weights(folder, self._dtype), self._engine.version + 1)
            return self._engine, self._processor
        self.close()
        config = self._config
        self._processor = load_processor(folder, **config.model.limits)
        self._engine = build_engine(config.engine, folder, self._processor, self._dtype, seed=config.seed)
        self._started_on = folder
        return self._engine, self._processor

    def close(self) -> None:
        if self._engine:
            self._engine.close()
        self._engine = None


def _modes(config: EvaluationConfig) -> Iterator[tuple[str, Sampling, int]]:
    """(mode, sampling, answers per row): the greedy one, then those at temperature 1 if any are asked for."""
    yield "greedy", Sampling(temperature=0.0, max_tokens=config.max_tokens), 1
    if config.samples:
        yield "sampled", Sampling(1.0, config.max_tokens, config.seed), config.samples


def _answers(
    config: EvaluationConfig, engine: Engine, processor: Any, router: Router, rows: Sequence[Row]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The answers to some rows, scored, as records in the order of the rows: by mode."""
    prompts = [encode_row(processor, row, max_frames=config.max_frames) for row in rows]
    for mode, sampling, count in _modes(config):
        requests = [Request(row, prompt, count) for row, prompt in zip(rows, prompts, strict=True)]
        groups = scored(router.score, requests, engine.generate(requests, sampling))
        yield (
            mode,
            [
                rollout_record(sample) | ({"sample": i} if count > 1 else {})
                for group in groups
                for i, sample in enumerate(group.samples)
            ],
        )


def _scored(record: Mapping[str, Any]) -> ScoredAnswer:
    return ScoredAnswer(
        record["row_id"], record["task"], record["reward"], record["in_grammar"], record["tokens"]
    )


def _summaries(scored: Sequence[ScoredAnswer]) -> dict[str, Any]:
    tasks = {task: summarise(part) for task, part in by_task(scored).items()}
    return {"overall": summarise(scored), "tasks": tasks}


def _batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]

"""Answer rows with a checkpoint in several ways, score all answers, and say what each way gains and costs.

Ways: `greedy`; `sampled` (one answer at the candidates' temperature: the mean over the candidates); `best of N by …`
(selectors on these same candidates); `stage beam by …`. Tokens are counted as the engine generates them, those of losing
candidates included, so methods can be compared at what they cost.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from tqdm import tqdm

import vlm  # noqa: F401  adapts torch's companions before transformers imports them
from core.rows import Row, read_rows
from engines.config import build_engine
from engines.engine import Engine
from engines.rollout import Rollout, Sampling
from inference.best_of_n import pick, sample
from inference.config import InferenceConfig
from inference.selectors import GRAMMARS, average_logprob, conclusion_of, selector
from inference.stage_beam import stage_beam
from inference.table import plain
from inference.types import Selector
from rewards.config import check_pixel_limits
from rewards.geometry.frames import with_model_limits
from rewards.router import Router, Score
from vlm.inputs import encode_row
from vlm.load import check_checkpoint, load_processor, pixel_limits

Record = dict[str, Any]


def run(config: InferenceConfig, *, show: bool = True) -> dict[str, Any]:
    """Answer all rows, write `answers.jsonl` and `inference.json` to `config.output`, print one table.

    Returns what inference.json holds: `settings`, and `methods` {name: {"reward", "in_grammar", "tokens", "unscored", "tasks",
    "difference"}} of `summarise`. `show`: progress bar and table.

    Raises:
        CheckpointError, RowError, RewardDataError, PluginError: what is wrong with an input, before any engine starts.
    """
    folder = check_checkpoint(config.model)
    processor = load_processor(
        folder,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
        video_min_pixels=config.video_min_pixels,
        video_max_pixels=config.video_max_pixels,
    )
    limits = pixel_limits(processor)
    check_pixel_limits(config.rewards, limits)
    if config.selection_rewards:
        check_pixel_limits(config.selection_rewards, limits)
    rows = with_model_limits(read_rows(config.rows, limit=config.limit), limits)
    names = GRAMMARS[config.rewards.grammar]
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with ExitStack() as stack:
        router = stack.enter_context(Router(config.rewards))
        router.check_rows(rows)
        choosing = router
        if config.selection_rewards:
            choosing = stack.enter_context(Router(config.selection_rewards))
            choosing.check_rows(rows)
        best_of = {name: selector(name, names, choosing) for name in config.best_of}
        beams = {name: selector(name, names, choosing) for name in config.stage_beam}
        dtype = getattr(torch, config.dtype)
        engine = stack.enter_context(
            closing(build_engine(config.engine, folder, processor, dtype, seed=config.seed))
        )
        records: list[Record] = []
        file = stack.enter_context((output / "answers.jsonl").open("w", encoding="utf-8"))
        bar = stack.enter_context(tqdm(total=len(rows), desc="answer", unit="row", disable=not show))
        for start in range(0, len(rows), config.batch_rows):
            batch = rows[start : start + config.batch_rows]
            for record in _answers(
                config, engine, processor, router, batch, best_of, beams, config.seed + start
            ):
                file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
                records.append(record)
            bar.update(len(batch))
    result = {
        "settings": config.model_dump(mode="json") | {"row_count": len(rows)},
        "seconds": time.perf_counter() - began,
        "methods": summarise(records),
    }
    (output / "inference.json").write_text(json.dumps(result, indent=2) + "\n")
    if show:
        print(plain(result), end="")
    return result


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By method: `reward` and `in_grammar` (means over rows), `tokens` (generated per row, all candidates), `rows`,
    `unscored` (answers without a reward, left out), `tasks` {task: mean reward}, and `difference` to the greedy answers of
    the same rows. `reward` and `difference` are {"mean", "half": half of the 95 % interval by the normal approximation}.
    """
    rewards: dict[
        str, dict[str, list[float]]
    ] = {}  # method, row: of several sampled answers all, of others one
    for record in records:
        of_row = rewards.setdefault(record["method"], {}).setdefault(record["row_id"], [])
        if record["reward"] is not None:
            of_row.append(record["reward"])
    task_of = {record["row_id"]: record["task"] for record in records}
    methods = {}
    for method, of_rows in rewards.items():
        some = [record for record in records if record["method"] == method]
        means = {row: fmean(values) for row, values in of_rows.items() if values}
        greedy = {row: fmean(values) for row, values in rewards.get("greedy", {}).items() if values}
        methods[method] = {
            "reward": _mean(list(means.values())),
            "difference": _mean([means[row] - greedy[row] for row in means if row in greedy]),
            "in_grammar": fmean(record["in_grammar"] for record in some),
            "tokens": fmean(record["generated"] for record in some),
            "rows": len(of_rows),
            "unscored": sum(record["reward"] is None for record in some),
            "tasks": {
                task: fmean(values)
                for task in sorted(set(task_of.values()))
                if (values := [mean for row, mean in means.items() if task_of[row] == task])
            },
        }
    return methods


def _answers(
    config: InferenceConfig,
    engine: Engine,
    processor: Any,
    router: Router,
    rows: Sequence[Row],
    best_of: Mapping[str, Selector],
    beams: Mapping[str, Selector],
    seed: int,
) -> Iterator[Record]:
    """Every method's answers to some rows, scored."""
    names, n = GRAMMARS[config.rewards.grammar], config.candidates
    prompts = [encode_row(processor, row, max_frames=config.max_frames) for row in rows]

    def scored(rollouts: Sequence[Rollout], repeated: Sequence[Row]) -> list[Score]:
        return router.score(
            repeated,
            [rollout.text for rollout in rollouts],
            [rollout.completion_ids for rollout in rollouts],
            [row["id"] for row in repeated],
        )

    def record(method: str, row: Row, rollout: Rollout, score: Score, generated: int, **more: Any) -> Record:
        return {
            "method": method,
            "row_id": row["id"],
            "task": row["task"],
            "answer": row["answer"],
            "completion": rollout.text,
            "conclusion": conclusion_of(rollout.text, names),
            "reward": score.reward,
            "components": score.components,
            "in_grammar": score.in_grammar,
            "reason": score.reason,
            "finish": rollout.finish,
            "tokens": len(rollout.completion_ids),
            "generated": generated,
            "mean_logprob": average_logprob(rollout),
            **more,
        }

    greedy = [some[0] for some in sample(engine, rows, prompts, 1, Sampling(0.0, config.max_tokens))]
    for row, rollout, score in zip(rows, greedy, scored(greedy, rows), strict=True):
        yield record("greedy", row, rollout, score, len(rollout.completion_ids))

    sampling = Sampling(config.temperature, config.max_tokens, seed)
    candidates = sample(engine, rows, prompts, n, sampling)
    flat = scored([r for some in candidates for r in some], [row for row in rows for _ in range(n)])
    scores = [flat[i : i + n] for i in range(0, len(flat), n)]
    for row, some, theirs in zip(rows, candidates, scores, strict=True):
        for i, (rollout, score) in enumerate(zip(some, theirs, strict=True)):
            yield record("sampled", row, rollout, score, len(rollout.completion_ids), sample=i)

    for name, select in best_of.items():
        method = f"best of {n} by {name}"
        for row, answer, theirs in zip(rows, pick(rows, candidates, select), scores, strict=True):
            score = theirs[answer.chosen[0]]
            yield record(method, row, answer.rollout, score, answer.generated, chosen=answer.chosen)

    for name, select in beams.items():
        answers = stage_beam(
            engine, processor.tokenizer, rows, prompts, select, n=n, sampling=sampling, names=names or ()
        )
        beam_scores = scored([answer.rollout for answer in answers], rows)
        for row, answer, score in zip(rows, answers, beam_scores, strict=True):
            method = f"stage beam of {n} by {name}"
            yield record(method, row, answer.rollout, score, answer.generated, chosen=answer.chosen)


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and half of its 95 % interval; None where there are too few values."""
    half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"mean": fmean(values) if values else None, "half": half}

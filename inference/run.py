"""Answer rows by several decoding methods, score all answers, and compare gains and costs.

Methods: `greedy`; `sampled` (one answer at the candidates' temperature: the mean over the candidates); `best of N by …`
(selectors on these same candidates); `stage beam by …`. The tokens of all
candidates count as the cost of an answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm

import vlm  # noqa: F401  adapts torch's companions before transformers imports them
from core.rows import Row, read_rows
from core.statistics import mean_by_row, mean_reward, paired_difference
from engines.build import build_engine
from engines.engine import Engine
from engines.rollout import Request, Sampling
from engines.samples import Sample, rollout_record, scored
from inference.best_of_n import pick
from inference.config import InferenceConfig
from inference.selectors import GRAMMARS, average_logprob, conclusion_of, selector
from inference.stage_beam import stage_beam
from inference.table import plain
from inference.types import Selector
from rewards.config import check_pixel_limits
from rewards.geometry.frames import with_model_limits
from rewards.router import Router
from vlm.inputs import encode_row
from vlm.load import check_checkpoint, load_processor, pixel_limits

Record = dict[str, Any]


def run(config: InferenceConfig, *, show: bool = True) -> dict[str, Any]:
    """Answer all rows, write `answers.jsonl` and `inference.json` to `config.output`, print one table.

    Returns what inference.json holds: `settings`, and `methods` {name: {"reward", "in_grammar", "tokens", "unscored", "tasks",
    "difference"}} of `summarise`. `show`: progress bar and table.

    Raises:
        CheckpointError, RowError, RewardDataError, PluginError: an input is wrong; raised before any engine starts.
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
    """By method: `reward`, and `difference` to the greedy answers of the same rows, both as {"mean", "ci95": [low, high], "n":
    rows} (`core.statistics`); `in_grammar` (share of answers, each row weighing the same); `tokens` (generated per row, all candidates); `rows`;
    `unscored` (answers without a reward, left out); `tasks` {task: mean reward}."""
    of_method: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        of_method.setdefault(record["method"], []).append(record)
    rewards = {name: [(r["row_id"], r["reward"]) for r in some] for name, some in of_method.items()}
    task_of = {record["row_id"]: record["task"] for record in records}
    methods = {}
    for name, some in of_method.items():
        tasks: dict[str, list[float]] = {}
        for row, reward in mean_by_row(rewards[name]).items():
            tasks.setdefault(task_of[row], []).append(reward)
        methods[name] = {
            "reward": mean_reward(rewards[name]).as_json(),
            "difference": paired_difference(rewards["greedy"], rewards[name]).as_json(),
            "in_grammar": mean_reward((r["row_id"], float(r["in_grammar"])) for r in some).mean,
            "tokens": fmean(record["generated"] for record in some),
            "rows": len({record["row_id"] for record in some}),
            "unscored": sum(record["reward"] is None for record in some),
            "tasks": {task: fmean(values) for task, values in sorted(tasks.items())},
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
    once = [Request(row, encode_row(processor, row, max_frames=config.max_frames)) for row in rows]
    several = [replace(request, n=n) for request in once]

    def record(method: str, answer: Sample, generated: int, **more: Any) -> Record:
        return {
            "method": method,
            **rollout_record(answer),
            "conclusion": conclusion_of(answer.rollout.text, names),
            "generated": generated,
            "mean_logprob": average_logprob(answer.rollout),
            **more,
        }

    greedy = engine.generate(once, Sampling(0.0, config.max_tokens))
    for group in scored(router.score, once, greedy):
        (answer,) = group.samples
        yield record("greedy", answer, len(answer.rollout.completion_ids))

    sampling = Sampling(config.temperature, config.max_tokens, seed)
    groups = scored(router.score, several, engine.generate(several, sampling))
    for group in groups:
        for i, one in enumerate(group.samples):
            yield record("sampled", one, len(one.rollout.completion_ids), sample=i)

    for name, select in best_of.items():
        picked = pick(several, [group.rollouts for group in groups], select)
        for group, best in zip(groups, picked, strict=True):
            sample = group.samples[best.chosen[0]]
            yield record(f"best of {n} by {name}", sample, best.generated, chosen=best.chosen)

    for name, select in beams.items():
        found = stage_beam(engine, processor.tokenizer, several, select, sampling=sampling, names=names or ())
        beam_groups = scored(router.score, once, [one.rollout for one in found])
        for group, best in zip(beam_groups, found, strict=True):
            (sample,) = group.samples
            yield record(f"stage beam of {n} by {name}", sample, best.generated, chosen=best.chosen)

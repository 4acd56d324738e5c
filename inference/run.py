"""Answer rows by several methods, score all answers, and compare gains and costs.

All methods answer the same rows; the searches of a batch of rows run together. What a method costs is counted in tokens
generated and judged (losing candidates included), engine calls, and seconds of the whole batch divided by its rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm

from core.files.hub.paths import fetch
from core.rows import Row, read_rows
from core.statistics import mean_by_row, mean_reward, paired_difference
from engines.build import build_engine
from engines.engine import Engine
from engines.rollout import Request
from engines.samples import rollout_record, scored
from inference.conclusions import GRAMMARS, conclusion_of
from inference.config import InferenceConfig, MethodConfig
from inference.judges import average_logprob
from inference.methods import Search, open_search
from inference.rounds import run_searches
from inference.table import as_csv, as_markdown, plain
from inference.types import Answer
from rewards.config import check_pixel_limits
from rewards.geometry.frames import with_model_limits
from rewards.router import Router
from vlm.inputs import encode_row
from vlm.load import check_checkpoint, load_processor, pixel_limits

AnswerRecord = dict[str, Any]


def run(config: InferenceConfig, *, show: bool = True) -> dict[str, Any]:
    """Answer all rows by all methods; write `answers.jsonl`, `inference.json`, `inference.md` and `inference.csv` to
    `config.output_dir`, and print the table.

    Returns what inference.json holds: `settings`, `seconds`, and `methods` {name: …} of `summarise`. `show`: progress and table.

    Raises:
        HubError, CheckpointError, RowError, RewardDataError, PluginError, CalibrationError: an input is wrong; raised before
            any engine starts.
    """
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with ExitStack() as stack:
        search, router, rows = open_run(stack, config)
        methods = [(method, search.method(method)) for method in config.methods]
        engine = open_engine(stack, config, search.processor)
        records: list[AnswerRecord] = []
        seconds = {method.title: 0.0 for method, _ in methods}
        file = stack.enter_context((output / "answers.jsonl").open("w", encoding="utf-8"))
        bar = stack.enter_context(
            tqdm(total=len(rows) * len(methods), desc="answer", unit="row", disable=not show)
        )
        for start, batch, prompts in encoded_batches(config, search, rows):
            for method, answer in methods:
                bar.set_postfix_str(method.title)
                at = time.perf_counter()
                questions = [
                    search.question(row, prompt, seed=config.seed + start, method=method)
                    for row, prompt in zip(batch, prompts, strict=True)
                ]
                answers = run_searches(engine, [(question, answer(question)) for question in questions])
                seconds[method.title] += time.perf_counter() - at
                for record in _records(config, method, router, batch, answers):
                    file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
                    records.append(record)
                bar.update(len(batch))
    result = {
        "settings": config.model_dump(mode="json") | {"row_count": len(rows)},
        "seconds": time.perf_counter() - began,
        "methods": summarise(records, seconds),
    }
    (output / "inference.json").write_text(json.dumps(result, indent=2) + "\n")
    (output / "inference.md").write_text(as_markdown(result))
    (output / "inference.csv").write_text(as_csv(result))
    if show:
        print(plain(result), end="")
    return result


def open_run(stack: ExitStack, config: InferenceConfig) -> tuple[Search, Router, list[Row]]:
    """The search's settings, the router that scores answers, and the rows, checked against all rewards. Raises as `run`."""
    fetch({"model.path": config.model.path}, {"rows": config.rows})
    check_checkpoint(config.model.path)
    processor = load_processor(config.model)
    limits = pixel_limits(processor)
    check_pixel_limits(config.rewards, limits)
    for judge in config.judges.values():
        if judge.rewards:
            check_pixel_limits(judge.rewards, limits)
    rows = with_model_limits(read_rows(config.rows, limit=config.limit), limits)
    router = stack.enter_context(Router(config.rewards))
    router.check_rows(rows)
    search = open_search(stack, config, processor, config.rewards.grammar, router)
    search.check_rows(rows)
    return search, router, rows


def open_engine(stack: ExitStack, config: InferenceConfig, processor: Any) -> Engine:
    """The engine on the config's checkpoint; `stack` closes it."""
    folder, dtype = check_checkpoint(config.model.path), getattr(torch, config.model.dtype)
    engine = build_engine(config.engine, folder, processor, dtype, seed=config.seed)
    stack.enter_context(closing(engine))
    return engine


def encoded_batches(
    config: InferenceConfig, search: Search, rows: Sequence[Row]
) -> Iterator[tuple[int, Sequence[Row], list[Any]]]:
    """The place of the first row, some rows, and their prompts."""
    for start in range(0, len(rows), config.batch_rows):
        batch = rows[start : start + config.batch_rows]
        prompts = [encode_row(search.processor, row, max_frames=config.max_frames) for row in batch]
        yield start, batch, prompts


def summarise(
    records: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """By method: `reward`, and `difference` to the greedy answers of the same rows, both as {"mean", "ci95": [low, high], "n":
    rows} (`core.statistics`); `in_grammar` (share of answers); `generated`, `judged` (tokens per row), `engine_calls` and
    `seconds` per row; `coin_tosses` and `retraces` (sums); `rows`; `unscored` (answers without a reward, left out); `tasks`
    {task: mean reward}. seconds: of each method, for all rows."""
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
        spent = [record["spent"] for record in some]
        methods[name] = {
            "reward": mean_reward(rewards[name]).as_json(),
            "difference": paired_difference(rewards["greedy"], rewards[name]).as_json(),
            "in_grammar": mean_reward((r["row_id"], float(r["in_grammar"])) for r in some).mean,
            "generated": fmean(one["tokens_generated"] for one in spent),
            "judged": fmean(one["tokens_judged"] for one in spent),
            "engine_calls": fmean(one["engine_calls"] for one in spent),
            "seconds": seconds[name] / len(some),
            "coin_tosses": sum(one["coin_tosses"] for one in spent),
            "retraces": sum(one["retraces"] for one in spent),
            "rows": len({record["row_id"] for record in some}),
            "unscored": sum(record["reward"] is None for record in some),
            "tasks": {task: fmean(values) for task, values in sorted(tasks.items())},
        }
    return methods


def _records(
    config: InferenceConfig,
    method: MethodConfig,
    router: Router,
    rows: Sequence[Row],
    answers: Sequence[Answer],
) -> Iterator[AnswerRecord]:
    """The answers of one method, scored, as records of answers.jsonl."""
    requests = [Request(row, answer.rollout.prompt) for row, answer in zip(rows, answers, strict=True)]
    groups = scored(router.score, requests, [answer.rollout for answer in answers])
    for group, answer in zip(groups, answers, strict=True):
        (sample,) = group.samples
        yield {
            "method": method.title,
            **rollout_record(sample),
            "conclusion": conclusion_of(answer.rollout.text, GRAMMARS[config.rewards.grammar]),
            "mean_logprob": average_logprob(answer.rollout),
            "spent": answer.spent.as_json(),
            "chosen": answer.chosen,
            **({"tree": answer.tree_as_json()} if config.trees else {}),
        }

"""Answer rows by several decoding methods, score all answers, and compare gains and costs.

Methods: `greedy`; `sampled` (one answer at the candidates' temperature: the mean over the candidates); `best of N by …`
(selectors on these same candidates); `stage beam by …`. The tokens of all candidates count as the cost of an answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from core.rows import read_rows
from core.statistics import mean_by_row, mean_reward, paired_difference
from inference.config import InferenceConfig
from inference.methods import AnswerRecord, answers, open_methods
from inference.table import plain
from rewards.config import check_pixel_limits
from rewards.geometry.frames import with_model_limits
from vlm.load import check_checkpoint, load_processor, pixel_limits


def run(config: InferenceConfig, *, show: bool = True) -> dict[str, Any]:
    """Answer all rows, write `answers.jsonl` and `inference.json` to `config.output_dir`, print one table.

    Returns what inference.json holds: `settings`, and `methods` {name: {"reward", "in_grammar", "tokens", "unscored", "tasks",
    "difference"}} of `summarise`. `show`: progress bar and table.

    Raises:
        CheckpointError, RowError, RewardDataError, PluginError: an input is wrong; raised before any engine starts.
    """
    folder = check_checkpoint(config.model.path)
    processor = load_processor(config.model)
    limits = pixel_limits(processor)
    check_pixel_limits(config.rewards, limits)
    if config.selection_rewards:
        check_pixel_limits(config.selection_rewards, limits)
    rows = with_model_limits(read_rows(config.rows, limit=config.limit), limits)
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with ExitStack() as stack:
        methods = open_methods(stack, config, folder, processor, rows)
        records: list[AnswerRecord] = []
        file = stack.enter_context((output / "answers.jsonl").open("w", encoding="utf-8"))
        bar = stack.enter_context(tqdm(total=len(rows), desc="answer", unit="row", disable=not show))
        for start in range(0, len(rows), config.batch_rows):
            batch = rows[start : start + config.batch_rows]
            for record in answers(methods, batch, config.seed + start):
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

"""Evaluation: every checkpoint answers the same held-out rows, within the same budget, scored by the same rewards.

The engine is started once; further checkpoints of the same architecture are handed to it as a trainer's weights are
(`Engine.sync`), which takes milliseconds instead of a start, and its weights are compared with the files bit by bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from core.errors import RowError
from core.files.hub.paths import fetch
from core.files.jsonl import append
from core.rows import Row
from engines.build import build_engine
from engines.engine import Engine
from engines.rollout import Request, Rollout, Sampling
from engines.samples import Group, Sample, rollout_record, scored
from engines.weights import sync_checked
from environments.build import with_tools
from environments.episodes import Episodes
from evaluation.attention import write_maps
from evaluation.benchmarks.answering import Asked
from evaluation.benchmarks.tables import benchmark_csv
from evaluation.boxes import answered_boxes
from evaluation.config import EvaluationConfig
from evaluation.data_sets import BOX_TASKS, DataSet, entry, question_of, read_data_sets
from evaluation.detectors import Found, detector_entries
from evaluation.episodes import Played, answers_so_far, box_logprobs, study
from evaluation.measuring import Meter, hardware
from evaluation.metrics import ScoredAnswer, by_task, differences, rewards_of, summarise
from evaluation.tables import markdown, print_table
from evaluation.weights import named_weights, same_architecture
from rewards.config import check_pixel_limits
from rewards.geometry.frames import with_model_limits
from rewards.router import Router
from vlm.inputs import encode_row
from vlm.load import check_checkpoint, load_processor, pixel_limits


def evaluate(config: EvaluationConfig, *, show: bool = True) -> dict[str, Any]:
    """Evaluate all checkpoints and detectors, write `eval.json`, `eval.md`, `eval_rollouts.jsonl` and, if asked for,
    `attention.jsonl` to `config.output_dir`, print the tables.

    Returns what eval.json holds: `settings`; `checkpoints` {name: {"path", "seconds", "greedy", "sampled"}} with
    {"overall", "tasks": {task: …}} of `metrics.summarise`; `differences` (greedy, paired by row, of every later checkpoint
    against every earlier one); `data_sets`, one entry of `data_sets.entry` for each data set and model; `episodes` {checkpoint: {data set: `episodes.study`}};
    `benchmarks` {benchmark: {checkpoint: `benchmarks.scoring.figures`}}.
    `show`: progress bars and tables.

    Raises:
        HubError, CheckpointError, RowError, RewardDataError, DetectorError, BenchmarkError: What is wrong with an input, before any engine
            starts.
    """
    models = {f"checkpoints.{name}": path for name, path in config.checkpoints.items()}
    models |= {f"detectors.{name}.path": one.path for name, one in config.detectors.items() if one.path}
    fetch(models, {} if config.rows is None else {"rows": config.rows})
    folders = {name: check_checkpoint(path) for name, path in config.checkpoints.items()}
    sets = read_data_sets(config)
    asked = [Asked(one) for one in config.benchmarks]
    looked_at = _looked_at(config, sets)
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    checkpoints: dict[str, dict[str, Any]] = {}
    greedy: dict[str, list[ScoredAnswer]] = {}
    studies: dict[str, dict[str, Any]] = {}
    benchmarks: dict[str, dict[str, Any]] = {one.title: {} for one in asked}
    chosen: dict[str, list[Sample]] = {}
    with ExitStack() as stack:
        router = stack.enter_context(Router(config.rewards)) if config.rewards and folders else None
        if router:
            router.check_rows([row for data_set in sets for row in data_set.rows])
        entries += detector_entries(config, sets, show=show)
        engines = stack.enter_context(closing(_Engines(config)))
        answers_file = output / "eval_rollouts.jsonl"
        maps_file = output / "attention.jsonl"
        for file in (answers_file, maps_file):
            file.unlink(missing_ok=True)
        for name, folder in folders.items():
            began = time.perf_counter()
            engine, processor = engines.of(folder)
            for one in asked:
                benchmarks[one.title][name] = one.answered_by(
                    engine,
                    processor,
                    one.file(output, name),
                    judge_cache=output / "judge_cache",
                    grammar=config.rewards.grammar if config.rewards else "stages",
                    batch_rows=config.batch_rows,
                    max_frames=config.max_frames,
                    show=show,
                )
            if not sets:
                continue
            assert router is not None  # the config asks for rewards where checkpoints answer rows
            answered: dict[str, list[ScoredAnswer]] = {"greedy": [], "sampled": []}
            for data_set in sets:
                answers = _Answers(config, name, engine, processor, router, data_set, answers_file)
                scored, found = answers.all(show=show)
                if found_by_turn := answers.study:
                    studies.setdefault(name, {})[data_set.name] = found_by_turn
                    chosen.setdefault(name, []).extend(
                        one.sample for one in answers.played if one.sample.row["id"] in looked_at
                    )
                for mode in answered:
                    answered[mode] += scored[mode]
                entries.append(
                    entry(data_set, name, answers.meter, reward=rewards_of(scored["greedy"]), found=found)
                )
            greedy[name] = answered["greedy"]
            checkpoints[name] = {
                "path": config.checkpoints[name],
                "seconds": time.perf_counter() - began,
                "greedy": _summaries(answered["greedy"]),
                "sampled": _summaries(answered["sampled"]) if config.samples else None,
            }
        engines.close()  # which may hold the memory that the models need
        for name, samples in chosen.items():
            if samples:
                write_maps(maps_file, name, folders[name], config.model, samples)
    order = [data_set.name for data_set in sets]
    evaluation = {
        "settings": {
            "rows": config.rows,
            "row_count": sum(len(data_set.rows) for data_set in sets),
            "max_tokens": config.max_tokens,
            "samples": config.samples,
            "seed": config.seed,
            "engine": config.engine.kind,
            "dtype": config.model.dtype,
            "hardware": hardware(),
        },
        "checkpoints": checkpoints,
        "differences": differences(greedy),
        "episodes": studies,
        "benchmarks": benchmarks,
        "data_sets": sorted(entries, key=lambda one: order.index(one["data_set"])),
    }
    (output / "eval.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    (output / "eval.md").write_text(markdown(evaluation))
    if benchmarks:
        (output / "benchmarks.csv").write_text(benchmark_csv(benchmarks))
    if show:
        print_table(evaluation)
    return evaluation


def _looked_at(config: EvaluationConfig, sets: Sequence[DataSet]) -> set[str]:
    """Ids of the rows whose episodes get maps of attention. Raises RowError for one that there is not."""
    wanted = config.attention_maps
    if isinstance(wanted, int):
        return {row["id"] for data_set in sets for row in data_set.rows[:wanted]}
    if unknown := set(wanted) - {row["id"] for data_set in sets for row in data_set.rows}:
        raise RowError(f"attention_maps: expected ids of rows, got {min(unknown)!r}, which no data set has")
    return set(wanted)


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


@dataclass
class _Answers:
    """The answers of one checkpoint to one data set. meter: of encoding prompts and generating the greedy answers."""

    config: EvaluationConfig
    checkpoint: str
    engine: Engine
    processor: Any
    router: Router
    data_set: DataSet
    file: Path
    meter: Meter = field(default_factory=Meter)
    study: dict[str, Any] | None = None
    """Of its turns (`evaluation.episodes.study`), once all rows are answered."""
    played: list[Played] = field(default_factory=list)
    """The episodes of that study."""
    _episodes: Episodes | None = None
    _longest: Episodes | None = None  # with the largest budget of turns

    def all(self, *, show: bool) -> tuple[dict[str, list[ScoredAnswer]], Found]:
        """(scored answers by mode, boxes of the greedy answers to rows that ask for boxes); answers go to the file, too."""
        limits = pixel_limits(self.processor)
        check_pixel_limits(self.router.config, limits)
        scored_by_mode: dict[str, list[ScoredAnswer]] = {"greedy": [], "sampled": []}
        found: Found = {}
        environment, budgets = self.config.environment, self.config.turn_budgets
        rows = with_tools(with_model_limits(self.data_set.rows, limits), environment)
        title = f"evaluate {self.checkpoint} on {self.data_set.name}"
        with ExitStack() as stack:
            bar = stack.enter_context(tqdm(total=len(rows), desc=title, unit="row", disable=not show))
            if environment is not None:
                self._episodes = stack.enter_context(closing(Episodes.of(environment, self.processor)))
            if environment is not None and budgets:
                longest = Episodes.of(environment, self.processor, max_turns=max(budgets))
                self._longest = stack.enter_context(closing(longest))
            for batch in _batches(rows, self.config.batch_rows):
                for mode, groups in self._batch(batch):
                    records = [
                        self._record(mode, i, sample, found)
                        for group in groups
                        for i, sample in enumerate(group.samples)
                    ]
                    append(self.file, records)
                    scored_by_mode[mode] += [_scored(record) for record in records]
                self.played += self._by_turn(batch)
                bar.update(len(batch))
        self.study = study(self.played, budgets) if budgets else None
        return scored_by_mode, found

    def _generate(
        self, requests: Sequence[Request], sampling: Sampling, episodes: Episodes | None
    ) -> list[Rollout]:
        if episodes is None:
            return self.engine.generate(requests, sampling)
        return episodes.generate(self.engine, requests, sampling)

    def _by_turn(self, rows: Sequence[Row]) -> list[Played]:
        """The rows' episodes under the largest budget, with the answers so far; they go to the file with mode `turns`."""
        if self._longest is None:
            return []
        config, tokenizer = self.config, self.processor.tokenizer
        requests = [
            Request(row, encode_row(self.processor, row, max_frames=config.max_frames)) for row in rows
        ]
        rollouts = self._generate(requests, Sampling(0.0, config.max_tokens), self._longest)
        samples = [one for group in scored(self.router.score, requests, rollouts) for one in group.samples]
        played, so_far = answers_so_far(
            self.processor, self.engine, self.router.score, samples, config.answer_prefix, config.max_tokens
        )
        for sample, answers in zip(samples, so_far, strict=True):
            record = {"checkpoint": self.checkpoint, "mode": "turns", **rollout_record(sample)}
            boxes = box_logprobs(tokenizer, sample.rollout)
            turns = zip(record["turns"], answers, boxes, strict=True)
            record["turns"] = [
                {**turn, "so_far": answer or None, "box_logprob": box} for turn, answer, box in turns
            ]
            append(self.file, [record])
        return played

    def _batch(self, rows: Sequence[Row]) -> Iterator[tuple[str, list[Group]]]:
        """The answers to some rows, scored, by mode; the greedy ones first."""
        config = self.config
        with self.meter:
            prompts = [encode_row(self.processor, row, max_frames=config.max_frames) for row in rows]
            requests = [Request(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
            sampling = Sampling(temperature=0.0, max_tokens=config.max_tokens)
            rollouts = self._generate(requests, sampling, self._episodes)
        yield "greedy", scored(self.router.score, requests, rollouts)
        if config.samples:
            requests = [replace(request, n=config.samples) for request in requests]
            sampling = Sampling(1.0, config.max_tokens, config.seed)
            rollouts = self._generate(requests, sampling, self._episodes)
            yield "sampled", scored(self.router.score, requests, rollouts)

    def _record(self, mode: str, number: int, sample: Sample, found: Found) -> dict[str, Any]:
        """The line of an answer; the boxes of a greedy one are added to it and to `found`."""
        record = {"checkpoint": self.checkpoint, "mode": mode, **rollout_record(sample)}
        if mode == "sampled" and self.config.samples > 1:
            record["sample"] = number
        if mode == "greedy" and sample.row["task"] in BOX_TASKS:
            conclusion = self.router.conclusion(sample.rollout.text)
            boxes = answered_boxes(self.processor.tokenizer, sample.row, sample.rollout, conclusion)
            found[question_of(sample.row)] = boxes
            record["boxes"] = [{"box": list(box), "score": score} for box, score in boxes]
        return record


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

"""The answers of every method to some rows, scored, as records of answers.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.rows import Row
from engines.build import build_engine
from engines.engine import Engine
from engines.rollout import Request, Sampling
from engines.samples import Sample, rollout_record, scored
from inference.best_of_n import pick
from inference.config import InferenceConfig
from inference.selectors import GRAMMARS, average_logprob, conclusion_of, selector
from inference.stage_beam import stage_beam
from inference.types import Selector
from rewards.router import Router
from vlm.inputs import encode_row

AnswerRecord = dict[str, Any]


@dataclass(frozen=True)
class Methods:
    """What the methods of a config need. router: scores all answers. best_of, beams: selectors by name."""

    config: InferenceConfig
    engine: Engine
    processor: Any
    router: Router
    best_of: Mapping[str, Selector]
    beams: Mapping[str, Selector]


def open_methods(
    stack: ExitStack, config: InferenceConfig, folder: Path, processor: Any, rows: Sequence[Row]
) -> Methods:
    """Check the rows against all rewards, then start the engine on the checkpoint in `folder`; `stack` closes everything.

    Raises RewardDataError for a row that could not be scored, PluginError for an unknown function.
    """
    router = stack.enter_context(Router(config.rewards))
    router.check_rows(rows)
    choosing = router
    if config.selection_rewards:
        choosing = stack.enter_context(Router(config.selection_rewards))
        choosing.check_rows(rows)
    names = GRAMMARS[config.rewards.grammar]
    best_of = {name: selector(name, names, choosing) for name in config.best_of}
    beams = {name: selector(name, names, choosing) for name in config.stage_beam}
    engine = build_engine(
        config.engine, folder, processor, getattr(torch, config.model.dtype), seed=config.seed
    )
    stack.enter_context(closing(engine))
    return Methods(config, engine, processor, router, best_of, beams)


def answers(methods: Methods, rows: Sequence[Row], seed: int) -> Iterator[AnswerRecord]:
    """Every method's answers to some rows, scored. seed: of the sampled candidates."""
    config, engine = methods.config, methods.engine
    once = [Request(row, encode_row(methods.processor, row, max_frames=config.max_frames)) for row in rows]
    greedy = engine.generate(once, Sampling(0.0, config.max_tokens))
    for group in scored(methods.router.score, once, greedy):
        (answer,) = group.samples
        yield _record(config, "greedy", answer, len(answer.rollout.completion_ids))
    sampling = Sampling(config.temperature, config.max_tokens, seed)
    several = [replace(request, n=config.candidates) for request in once]
    yield from _best_of_n(methods, several, sampling)
    yield from _stage_beams(methods, several, sampling)


def _best_of_n(methods: Methods, requests: Sequence[Request], sampling: Sampling) -> Iterator[AnswerRecord]:
    """All candidates, as `sampled`, and what each selector chooses among them."""
    groups = scored(methods.router.score, requests, methods.engine.generate(requests, sampling))
    for group in groups:
        for i, one in enumerate(group.samples):
            yield _record(methods.config, "sampled", one, len(one.rollout.completion_ids), sample=i)
    candidates = [group.rollouts for group in groups]
    for name, select in methods.best_of.items():
        method = f"best of {methods.config.candidates} by {name}"
        for group, best in zip(groups, pick(requests, candidates, select), strict=True):
            answer = group.samples[best.chosen[0]]
            yield _record(methods.config, method, answer, best.generated, chosen=best.chosen)


def _stage_beams(methods: Methods, requests: Sequence[Request], sampling: Sampling) -> Iterator[AnswerRecord]:
    """One search by stages for each selector."""
    names = GRAMMARS[methods.config.rewards.grammar] or ()
    tokenizer = methods.processor.tokenizer
    for name, select in methods.beams.items():
        method = f"stage beam of {methods.config.candidates} by {name}"
        found = stage_beam(methods.engine, tokenizer, requests, select, sampling=sampling, names=names)
        once = [replace(request, n=1) for request in requests]
        groups = scored(methods.router.score, once, [best.rollout for best in found])
        for group, best in zip(groups, found, strict=True):
            (answer,) = group.samples
            yield _record(methods.config, method, answer, best.generated, chosen=best.chosen)


def _record(
    config: InferenceConfig, method: str, answer: Sample, generated: int, **more: Any
) -> AnswerRecord:
    """generated: tokens that the engine generated for the answer, those of losing candidates included."""
    return {
        "method": method,
        **rollout_record(answer),
        "conclusion": conclusion_of(answer.rollout.text, GRAMMARS[config.rewards.grammar]),
        "generated": generated,
        "mean_logprob": average_logprob(answer.rollout),
        **more,
    }
